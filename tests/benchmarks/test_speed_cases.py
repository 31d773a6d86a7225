"""The cases on small images: that they run, and that their checks notice what they should."""

from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances

from benchmarks.timing import model_cases, part_cases
from benchmarks.timing.models import MODELS, build, images, tame, targets
from clq.modeling.joint_score import joint_scores

SIZE = (96, 128)
PEERS = ("clq", "retinanet", "fcos")


def results(runs: dict[str, Any]) -> dict[str, Any]:
    return {name: run() for name, run in runs.items()}


def test_every_model_detects_next_to_nothing():
    found = results(model_cases.inference(list(MODELS), SIZE))
    assert found.keys() == MODELS.keys()
    model_cases.check_detections(found)


def test_torchvision_does_not_resize():
    model = build("torchvision_fcos").eval()
    seen: list[torch.Size] = []
    model.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    (image,) = images(1, SIZE)
    with torch.no_grad():
        model([image])
    assert seen == [(1, 3, *SIZE)]


@pytest.mark.parametrize("name", PEERS)
def test_a_step_has_losses_as_in_a_training_and_learns(name: str):
    step = model_cases.training_step(name, SIZE)
    first, second = step(), step()
    model_cases.check_losses({name: first, "again": second})
    assert first.keys() == second.keys() and first != second


def test_a_first_step_leaves_the_optimizer_its_state(monkeypatch: pytest.MonkeyPatch):
    made = []

    class SGD(torch.optim.SGD):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(torch.optim, "SGD", SGD)
    model_cases.training_step("clq", SIZE, first_size=(64, 64))
    (optimizer,) = made
    (group,) = optimizer.param_groups
    learned = [p for p in group["params"] if p.requires_grad]
    assert learned and all(optimizer.state[p]["momentum_buffer"].shape == p.shape for p in learned)
    assert all(p.grad is None for p in learned)


def test_losses_alone_are_the_same_again():
    runs = model_cases.losses(PEERS, SIZE)
    found = results(runs)
    model_cases.check_losses(found)
    # Detectron2's divide by a moving average of the number of positives.
    assert results(runs)["clq"] == found["clq"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 5e5, 0.0, -1.0])
def test_unusual_losses_are_refused(loss: float):
    with pytest.raises(ValueError, match="retinanet"):
        model_cases.check_losses({"clq": {"a": 1.0}, "retinanet": {"a": 1.0, "b": loss}})


def test_many_detections_are_refused():
    few = Instances(SIZE, pred_boxes=Boxes(torch.zeros(10, 4)))
    many = {"boxes": torch.zeros(11, 4)}
    model_cases.check_detections({"clq": [{"instances": few}]})
    with pytest.raises(ValueError, match="torchvision"):
        model_cases.check_detections({"clq": [{"instances": few}], "torchvision_fcos": [many]})


@pytest.mark.parametrize("name", PEERS)
def test_tame_models_keep_the_size_of_what_passes(name: str):
    """Else the features of the last stage would be 200 times those of the stem."""
    model = build(name).eval()
    image = model.preprocess_image(images(1, SIZE)).tensor
    with torch.no_grad():
        features = model.backbone.bottom_up(image)
        spreads = [float(maps.std()) for maps in features.values()]
    assert 0.05 < min(spreads) and max(spreads) < 5
    weights = [v for k, v in model.state_dict().items() if k.endswith("conv3.norm.weight")]
    assert len(weights) == 16 and all((weight == 0.2).all() for weight in weights)


def test_models_are_the_same_every_time():
    first, second = (tame(build("fcos")).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_boxes_of_targets_lie_in_the_image():
    for instances in targets(2):
        boxes = instances.gt_boxes.tensor
        assert len(boxes) == 20 and (boxes >= 0).all()
        assert (boxes[:, 2] <= 1088).all() and (boxes[:, 3] <= 800).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 20).all()


def test_a_thousand_candidates_a_level_pass():
    model = build("clq")
    shapes = [(100, 136), (7, 9), (3, 4)]
    predictions = model_cases.predictions_with_candidates(model, shapes)
    for classes, dists, quality in zip(*predictions):
        scores = joint_scores(
            classes.flatten(2).transpose(1, 2),
            quality.flatten(2).transpose(1, 2),
            model.criterion.quality.test_alpha,
        )[0].exp()
        assert int((scores > 0.05).sum()) == pytest.approx(min(1000, scores.numel() // 2), abs=1)
        assert dists.shape == (1, 68, *classes.shape[2:])


def test_post_processing_alone_gives_what_the_whole_gives():
    found = results(model_cases.postprocessing(["postprocess", "whole"], SIZE))
    model_cases.check_postprocessing(found)
    (alone,), (whole,) = found["postprocess"], found["whole"]
    assert torch.equal(alone.scores, whole["instances"].scores)
    assert torch.equal(alone.pred_boxes.tensor, whole["instances"].pred_boxes.tensor)
    with pytest.raises(ValueError, match="99"):
        model_cases.check_postprocessing({"postprocess": [alone[:99]]})


def test_a_batch_has_as_many_images_as_its_name_says():
    found = results(model_cases.batches(["clq_1", "clq_3"], SIZE))
    assert [len(outputs) for outputs in found.values()] == [1, 3]


@pytest.mark.parametrize("backward", [False, True])
def test_alignment(backward: bool):
    found = results(part_cases.alignment(["ours", "op"], backward=backward, shape=(6, 7)))
    part_cases.check_alignment(found)
    ours = found["ours"] if backward else (found["ours"],)
    assert len(ours) == (3 if backward else 1)
    spoilt = tuple(tensor + 0.01 * tensor.abs().max() for tensor in ours)
    with pytest.raises(AssertionError):
        part_cases.check_alignment({**found, "ours": spoilt})
    part_cases.check_alignment({"ours": found["ours"]})


def test_matching():
    found = results(part_cases.matching(["ours", "plain"], num_boxes=5))
    part_cases.check_matching(found)
    idxs, labels = found["plain"]
    assert idxs.shape == (100 * 168 + 50 * 84 + 25 * 42 + 13 * 21 + 7 * 11,)
    assert (labels == 1).any()
    with pytest.raises(AssertionError):
        part_cases.check_matching({**found, "plain": (idxs, labels.flip(0))})
    with pytest.raises(AssertionError):
        part_cases.check_matching({**found, "plain": (idxs + 1, labels)})
    part_cases.check_matching({"ours": found["ours"]})


def test_numbers_of_the_evaluation_must_be_equal():
    numbers = [0.1 * i for i in range(12)]
    part_cases.check_evaluation({"ours": numbers, "pycocotools": [x + 1e-10 for x in numbers]})
    with pytest.raises(AssertionError):
        part_cases.check_evaluation({"ours": numbers, "pycocotools": [x + 1e-8 for x in numbers]})
    with pytest.raises(AssertionError):
        part_cases.check_evaluation({"ours": numbers[:6]})
