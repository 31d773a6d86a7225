"""The reference's checkpoint, through the converter and ordinary inference, against its outputs."""

from pathlib import Path

import convert_checkpoint
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from clq.checkpoint import load_detector
from clq.modeling.joint_score import joint_scores
from reference.golden import GOLDEN_DIR, golden, golden_names, levels
from reference.mmdet_style import mmdet_state, random_detector, small_config

PAIRS = [
    (path, "checkpoint_expected_" + path.stem.removeprefix("mmdet_style_checkpoint_"))
    for path in sorted(GOLDEN_DIR.glob("mmdet_style_checkpoint_*.pth"))
]
RELATIVE = 1e-4


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: pair[0].stem)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, dict[str, Tensor]]:
    """The converted detector, and what the reference computed."""
    checkpoint, expected = request.param
    path = tmp_path_factory.mktemp("converted") / "out.safetensors"
    convert_checkpoint.main([str(checkpoint), str(path)])
    return load_detector(path)[0], golden(expected)


@torch.no_grad()
def detect(model: nn.Module, arrays: dict[str, Tensor], run: str) -> Instances:
    size = tuple(arrays[f"{run}_img_shape"].tolist())
    images = ImageList(arrays["image"], [size])
    features = [model.backbone(images.tensor)[name] for name in model.head_in_features]
    return model.forward_inference(images, features, model.head(features))[0]


def assert_close(actual: Tensor, expected: Tensor, name: str) -> None:
    assert actual.shape == expected.shape, name
    assert (actual - expected).abs().max() <= RELATIVE * expected.abs().max(), name


def test_the_reference_checkpoint_is_there():
    assert PAIRS and set(golden_names("checkpoint_expected_*")) == {name for _, name in PAIRS}


def test_golden_pyramid_and_head(converted: tuple[nn.Module, dict[str, Tensor]]):
    model, arrays = converted
    with torch.no_grad():
        pyramid = model.backbone(arrays["image"])
        logits, dists, quality = model.head(list(pyramid.values()))
    for name, feature in pyramid.items():
        assert_close(feature, arrays[name], name)
    for i, (c, d, q) in enumerate(zip(logits, dists, quality)):
        if f"bbox_pred_l{i}" in arrays:
            assert_close(d, arrays[f"bbox_pred_l{i}"], f"boxes {i}")
        assert_close(q, arrays[f"quality_logit_l{i}"], f"quality {i}")
        joint = joint_scores(c, q, 0.3)[0].exp()
        assert_close(joint, arrays[f"cls_score_l{i}"][:, : model.num_classes], f"score {i}")


@pytest.mark.parametrize("run", ("main", "alt", "alt_rescaled"))
def test_golden_detections(converted: tuple[nn.Module, dict[str, Tensor]], run: str):
    model, arrays = converted
    found = detect(model, arrays, run)
    boxes = found.pred_boxes.tensor
    if run.endswith("rescaled"):
        boxes = boxes / arrays[f"{run}_scale_factor"]
    assert len(found) == len(arrays[f"{run}_scores"]) > 0
    assert found.pred_classes.equal(arrays[f"{run}_labels"])
    assert (boxes - arrays[f"{run}_boxes"]).abs().max() < 0.01
    assert (found.scores - arrays[f"{run}_scores"]).abs().max() < 1e-4


def test_golden_detections_at_the_original_size(converted: tuple[nn.Module, dict[str, Tensor]]):
    model, arrays = converted
    found = detect(model, arrays, "alt_rescaled")
    size, scale = found.image_size, arrays["alt_rescaled_scale_factor"]
    width, height = (round(size[1] / scale[0].item()), round(size[0] / scale[1].item()))
    rescaled = detector_postprocess(found, height, width)
    assert rescaled.pred_classes.equal(arrays["alt_rescaled_labels"])
    # Detectron2 scales by whole sizes; undo what rounding them changed.
    rounding = torch.tensor([width / size[1], height / size[0]]).repeat(2) * scale
    boxes = rescaled.pred_boxes.tensor / rounding
    assert (boxes - arrays["alt_rescaled_boxes"]).abs().max() < 0.01


@pytest.fixture(scope="module")
def head_small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference's head with an active spare class, over a pyramid of our own."""
    params = golden("head_small_params")
    cfg = small_config({"MODEL.FPN.OUT_CHANNELS": int(params["in_channels"])})
    state = mmdet_state(random_detector(cfg), "clq")
    state = {name: value for name, value in state.items() if not name.startswith("bbox_head.")}
    state |= {f"bbox_head.{n[3:]}": v for n, v in params.items() if n.startswith("sd.")}
    text = f"norm_cfg = dict(type='GN', num_groups={int(params['gn_groups'])})"
    names = tuple(f"class{k}" for k in range(int(params["num_classes"])))
    path = tmp_path_factory.mktemp("head_small") / "small.pth"
    torch.save({"meta": {"config": text, "CLASSES": names}, "state_dict": state}, path)
    return path


def test_golden_head_with_an_active_spare_class(head_small_checkpoint: Path, tmp_path: Path):
    out = tmp_path / "kept.safetensors"
    convert_checkpoint.main([str(head_small_checkpoint), str(out), "--keep-spare"])
    model, names = load_detector(out)
    assert names[-2:] == ["class6", "spare"]
    arrays = golden("head_small_forward")
    with torch.no_grad():
        logits, dists, quality = model.head(levels(arrays, "feat"))
    for i, (c, d, q) in enumerate(zip(logits, dists, quality)):
        assert_close(d, arrays[f"bbox_pred_l{i}"], f"boxes {i}")
        assert_close(q, arrays[f"quality_logit_l{i}"], f"quality {i}")
        assert_close(joint_scores(c, q, 0.3)[0].exp(), arrays[f"cls_score_l{i}"], f"score {i}")


def test_golden_head_with_an_active_spare_class_is_refused_without_the_flag(
    head_small_checkpoint: Path, tmp_path: Path
):
    out = tmp_path / "refused.safetensors"
    with pytest.raises(SystemExit, match="bias -6.24, weight norm 2.49, .*--keep-spare or --drop-"):
        convert_checkpoint.main([str(head_small_checkpoint), str(out)])
    assert not out.exists()
    convert_checkpoint.main([str(head_small_checkpoint), str(out), "--drop-spare"])
    assert load_detector(out)[0].num_classes == int(golden("head_small_params")["num_classes"])
