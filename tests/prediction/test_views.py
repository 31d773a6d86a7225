"""Test-time augmentation: one plain view changes nothing, several are those of Detectron2."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.evaluation import inference_context
from detectron2.structures import Boxes, Instances
from torchvision.ops import batched_nms

from clq.config import check_config
from clq.data import CLQMapper
from clq.engine.full_images import FullImageDetector, needs_full_images
from clq.prediction import Predictor, ViewOptions
from reference.prediction import pixels, write_checkpoint, write_image


@pytest.fixture(scope="module", params=["BGR", "RGB"])
def predictor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    return Predictor.from_checkpoint(write_checkpoint(path, request.param))


def with_keys(predictor: Predictor, keys: dict[str, Any]) -> Predictor:
    return Predictor(predictor.model, changed(predictor.cfg, keys), predictor.class_names)


def changed(cfg: CfgNode, keys: dict[str, Any]) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list([part for item in keys.items() for part in item])
    return cfg


def identity(cfg: CfgNode) -> dict[str, Any]:
    sizes = {"MIN_SIZES": (cfg.INPUT.MIN_SIZE_TEST,), "MAX_SIZE": cfg.INPUT.MAX_SIZE_TEST}
    keys = {"ENABLED": True, "FLIP": False, **sizes}
    return {f"TEST.AUG.{key}": value for key, value in keys.items()}


def assert_equal(found: Instances, expected: Instances) -> None:
    assert found.image_size == expected.image_size and len(found) == len(expected) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("size", [(60, 90), (90, 61), (80, 120), (33, 200), (7, 5)])
@pytest.mark.parametrize("test_size", [80, 0])
def test_one_view_at_the_test_size_is_no_augmentation(
    predictor: Predictor, size: tuple[int, int], test_size: int
):
    plain = with_keys(predictor, {"INPUT.MIN_SIZE_TEST": test_size})
    augmented = with_keys(plain, identity(plain.cfg))
    image = pixels(*size, seed=size[0])
    assert_equal(augmented.detect(image), plain.detect(image))


def reference(predictor: Predictor, image: np.ndarray, sizes: list[int]) -> Instances:
    """Detectron2's transforms and their inverses, view by view, and one NMS over all.

    NMS is at the size of the image, since boxes are scaled there.
    """
    model, found = predictor.model, []
    image = image[:, :, ::-1] if predictor.cfg.INPUT.FORMAT == "RGB" else image
    for size in sizes:
        for flip in (T.NoOpTransform(), T.HFlipTransform(0)):
            view = T.AugInput(image.copy())
            transforms = T.AugmentationList([T.ResizeShortestEdge(size, 200)])(view)
            if isinstance(flip, T.HFlipTransform):
                transforms = transforms + T.HFlipTransform(view.image.shape[1])
            seen = transforms.apply_image(image.copy())
            chw = torch.as_tensor(seen.astype("float32").transpose(2, 0, 1).copy())
            with torch.no_grad():
                instances = model.image_candidates([{"image": chw}])[0].instances
            boxes = transforms.inverse().apply_box(instances.pred_boxes.tensor.numpy())
            found.append((torch.as_tensor(boxes), instances.scores, instances.pred_classes))
    boxes, scores, classes = (torch.cat(column) for column in zip(*found))
    keep = batched_nms(boxes.float(), scores, classes, model.test_nms_thresh)[:100]
    result = Instances(image.shape[:2], pred_boxes=Boxes(boxes[keep].float()))
    result.scores, result.pred_classes = scores[keep], classes[keep]
    return result


def test_several_views_are_detectron2s(predictor: Predictor):
    keys = {"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (64, 96), "TEST.AUG.MAX_SIZE": 200}
    image = pixels(60, 90, seed=3)
    found = with_keys(predictor, keys).detect(image)
    expected = reference(predictor, image, [64, 96])
    # Scores are those of slightly other pixels: Pillow and PyTorch round differently.
    assert abs(len(found) - len(expected)) <= 2
    near = min(len(found), len(expected), 20)
    torch.testing.assert_close(found.scores[:near], expected.scores[:near], rtol=0.02, atol=2e-3)
    distances = torch.cdist(found.pred_boxes.tensor[:near], expected.pred_boxes.tensor, p=1)
    assert (distances.min(dim=1).values < 1.5).all()


def test_a_mirrored_image_gives_mirrored_boxes(predictor: Predictor):
    """Both are seen in both directions, whichever comes first."""
    augmented = with_keys(predictor, {**identity(predictor.cfg), "TEST.AUG.FLIP": True})
    image = pixels(60, 90, seed=1)
    one, other = augmented.detect(image), augmented.detect(image[:, ::-1])
    assert len(one) == len(other) > 0
    x0, y0, x1, y1 = other.pred_boxes.tensor.T
    mirrored = torch.stack((90 - x1, y0, 90 - x0, y1), dim=1)
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
    distances = torch.cdist(one.pred_boxes.tensor, mirrored, p=1)
    assert (distances.min(dim=1).values < 0.01).all()


def test_an_evaluation_detects_what_a_prediction_does(predictor: Predictor, tmp_path: Path):
    path = str(write_image(tmp_path / "a.png"))
    for keys in ({"TEST.TILE": 40}, {**identity(predictor.cfg), "TEST.AUG.FLIP": True}):
        changed_predictor = with_keys(predictor, keys)
        cfg = changed_predictor.cfg
        assert needs_full_images(cfg) and not needs_full_images(predictor.cfg)
        mapper = CLQMapper(cfg, is_train=False, augmentations=())
        record = mapper({"file_name": path, "height": 60, "width": 90})
        (output,) = FullImageDetector(changed_predictor)([record])
        assert_equal(output["instances"], changed_predictor.detect(changed_predictor.read(path)))


def test_votes_are_asked_for_by_a_key(predictor: Predictor):
    keys = {**identity(predictor.cfg), "TEST.AUG.FLIP": True}
    image = pixels(seed=2)
    plain = with_keys(predictor, keys).detect(image)
    voted = with_keys(predictor, {**keys, "TEST.AUG.MERGE": "vote"}).detect(image)
    assert torch.equal(plain.scores, voted.scores)
    assert not torch.equal(plain.pred_boxes.tensor, voted.pred_boxes.tensor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8}, "TEST.TILE is 8; it must be a whole number of pixels, at least 32, or 0"),
        ({"tile": 80.5}, "TEST.TILE is 80.5; it must be a whole number"),
        ({"tile": 80, "overlap": 1.0}, r"TEST.TILE_OVERLAP is 1.0; it must lie in \[0, 0.9\]"),
        ({"overlap": 0.1}, "overlap is 0.1, but there are no tiles; give their side in pixels"),
        ({"whole": True}, "whole is True, but there are no tiles"),
        ({"augment": "no"}, "augment is 'no'; it must be True or False"),
        ({"tile": "800"}, "TEST.TILE is '800'; it must be a whole number"),
    ],
)
def test_bad_options_are_refused(predictor: Predictor, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        predictor.with_options(ViewOptions(**options))


def test_no_options_are_the_checkpoints(predictor: Predictor):
    assert predictor.with_options(ViewOptions()) is predictor
    assert not predictor.with_options(ViewOptions(whole=False)).settings.tile_whole


def test_numbers_of_numpy_are_numbers(predictor: Predictor):
    options = ViewOptions(tile=np.int64(64), overlap=np.float32(0.25))  # type: ignore[arg-type]
    settings = predictor.with_options(options).settings
    assert (settings.tile, settings.tile_overlap) == (64, 0.25)
    assert type(settings.tile) is int and type(settings.tile_overlap) is float


def test_sizes_are_whole_numbers(predictor: Predictor):
    cfg = changed(predictor.cfg, {"TEST.AUG.MIN_SIZES": (64.5,)})
    with pytest.raises(ValueError, match=r"TEST.AUG.MIN_SIZES is \(64.5,\); it must be whole"):
        check_config(cfg)


@pytest.mark.parametrize("training", [False, True])
def test_an_evaluation_leaves_the_model_in_its_mode(predictor: Predictor, training: bool):
    model = copy.deepcopy(predictor.model).train(training)
    with inference_context(FullImageDetector(Predictor(model, predictor.cfg, []))):
        assert not model.training
    assert model.training == training
