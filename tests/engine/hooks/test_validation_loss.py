"""The losses of a data set are those of one batch with all its images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils import comm

from clq.engine import build_config
from clq.engine.hooks.validation_loss import validation_batches, validation_losses
from clq.modeling import CLQ
from clq.modeling.loss_normalizer import LossSums
from reference.members import build
from reference.tiny import Pair, TinyData, command_line, parse, write_pair

Batches = list[list[dict[str, Any]]]


@pytest.fixture(scope="module")
def same_size(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Four images of one size to evaluate on, so that a batch needs no padding."""
    folder = tmp_path_factory.mktemp("same_size")
    pair = write_pair(folder, "val", num_images=4, seed=6, sizes=((64, 96),))
    return TinyData(pair, pair)


@pytest.fixture
def batches(same_size: TinyData, tmp_path: Path) -> Batches:
    cfg = build_config(parse(command_line(same_size, tmp_path, keys={"INPUT.MIN_SIZE_TEST": 128})))
    return list(validation_batches(cfg))


@pytest.fixture(scope="module")
def detector() -> CLQ:
    """With batch norms, whose statistics would differ from those of a batch."""
    return build("clq").train()


def of_one_batch(detector: CLQ, batches: Batches) -> dict[str, float]:
    """As a training step on all images would give them, if its batch norms took no statistics."""
    detector.eval()
    detector.training = True
    with torch.no_grad():
        losses = detector([image for batch in batches for image in batch])
    detector.train()
    named = {name: float(loss) for name, loss in losses.items()}
    return {**named, "total_loss": sum(named.values())}


def test_the_images_come_as_for_inference_but_with_their_objects(
    batches: Batches, same_size: TinyData
):
    assert [len(batch) for batch in batches] == [1] * 4
    assert [image["image_id"] for (image,) in batches] == [10, 17, 24, 31]
    assert {tuple(image["image"].shape) for (image,) in batches} == {(3, 128, 192)}
    found = [image["instances"].gt_boxes.tensor.tolist() for (image,) in batches]
    corners: dict[int, list[list[float]]] = {image["image_id"]: [] for (image,) in batches}
    for annotation in same_size.val.content["annotations"]:
        x, y, w, h = annotation["bbox"]
        corners[annotation["image_id"]].append([2 * x, 2 * y, 2 * (x + w), 2 * (y + h)])
    assert found == list(corners.values()) and [len(boxes) for boxes in found] == [3, 3, 3, 0]


def test_losses_do_not_depend_on_the_batch(detector: CLQ, batches: Batches):
    expected = of_one_batch(detector, batches)
    assert set(expected) == {"loss_cls", "loss_box_reg", "loss_dfl", "loss_quality", "total_loss"}
    assert min(expected.values()) > 0
    assert validation_losses(detector, batches) == pytest.approx(expected, rel=1e-5)
    pairs = [batches[0] + batches[1], batches[2] + batches[3]]
    assert validation_losses(detector, pairs) == pytest.approx(expected, rel=1e-5)


def test_the_model_is_left_as_it_was(detector: CLQ, batches: Batches):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    validation_losses(detector, batches)
    for name, value in detector.state_dict().items():
        assert value.equal(before[name]), name
    assert all(module.training for module in detector.modules())
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_losses_do_not_depend_on_the_number_of_processes(
    detector: CLQ, batches: Batches, monkeypatch: pytest.MonkeyPatch
):
    """One rank of three has no image; each joins the all-reduce once."""
    expected = of_one_batch(detector, batches)
    sent: list[LossSums | None] = []
    monkeypatch.setattr(comm, "gather", lambda sums: sent.append(sums) or [])
    for share in (batches[:3], [], batches[3:]):
        assert validation_losses(detector, share) == {}, "only the main process has them"
    assert [sums is None for sums in sent] == [False, True, False]
    monkeypatch.setattr(comm, "gather", lambda sums: [sent[0], sums, sent[2]])
    assert validation_losses(detector, []) == pytest.approx(expected, rel=1e-5)


def test_no_image_at_all_gives_no_loss(detector: CLQ):
    assert validation_losses(detector, []) == {}


def test_images_without_annotations_are_refused(same_size: TinyData, tmp_path: Path):
    content = same_size.val.content
    del content["annotations"]
    val = Pair(tmp_path / "unlabelled.json", same_size.val.images)
    val.json_file.write_text(json.dumps(content))
    cfg = build_config(parse(command_line(TinyData(same_size.train, val), tmp_path)))
    with pytest.raises(ValueError, match=r"VALIDATION_LOSS needs annotations, but .* of .*0\.png"):
        validation_batches(cfg)
