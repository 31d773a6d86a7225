"""Final detections and candidates against the reference arrays."""

import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList, Instances

from reference.golden import golden, golden_detector, levels
from reference.members import first_image

HEADS = ("default", "small")


def detect(head: str, arrays, **options) -> list[Instances]:
    detector = golden_detector(head, **options).eval()
    features = levels(golden(f"head_{head}_forward"), "feat")
    sizes = [tuple(size) for size in arrays["img_shapes"].tolist()]
    images = ImageList(torch.zeros(len(sizes), 3, 1, 1), sizes)
    with torch.no_grad():
        return detector.forward_inference(images, features, detector.head(features))


def assert_same_detections(actual: Instances, boxes, scores, labels):
    """Same count, classes and boxes, paired in order but for scores closer than 4e-6."""
    assert len(actual) == len(scores)
    torch.testing.assert_close(actual.scores, scores, rtol=0, atol=1e-5)
    pairs = (scores[None] - actual.scores[:, None]).abs() < 4e-6
    pairs &= actual.pred_classes[:, None] == labels[None]
    distance = (actual.pred_boxes.tensor[:, None] - boxes[None]).abs().amax(dim=2)
    closest = distance.masked_fill(~pairs, torch.inf)
    assert closest.amin(dim=1).max() < 1e-3 and closest.amin(dim=0).max() < 1e-3


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("image", (0, 1))
@pytest.mark.parametrize("rule", ("pairs", "anchors"))
@pytest.mark.parametrize("run", ("default", "small"))
def test_golden_detections(head, run, rule, image):
    arrays = golden(f"head_{head}_infer")
    options = {"test_candidate_rule": rule}
    if run == "small":
        options["test_topk_candidates"] = int(arrays["small_nms_pre"])
        options["max_detections_per_image"] = int(arrays["small_max_per_img"])
    result = detect(head, arrays, **options)[image]
    keys = (f"{run}_{part}_img{image}" for part in ("boxes", "scores", "labels"))
    assert_same_detections(result, *(arrays[key] for key in keys))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("image", (0, 1))
def test_golden_detections_at_the_original_size(head, image):
    arrays = golden(f"head_{head}_infer")
    result = detect(head, arrays)[image]
    height, width = result.image_size
    scale_x, scale_y = arrays["scale_factors"][image, :2].tolist()
    original = detector_postprocess(result, round(height / scale_y), round(width / scale_x))
    # Detectron2 scales by whole sizes; undo what rounding them changed.
    factors = torch.tensor([original.image_size[1] / width, original.image_size[0] / height])
    exact = original.pred_boxes.tensor / factors.repeat(2) / arrays["scale_factors"][image]
    original.pred_boxes.tensor = exact
    keys = (f"rescaled_{part}_img{image}" for part in ("boxes", "scores", "labels"))
    assert_same_detections(original, *(arrays[key] for key in keys))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("image", (0, 1))
def test_golden_candidates_of_the_anchors_rule(head, image):
    """Every (anchor, class) pair above the threshold of the anchors that the reference keeps."""
    arrays = golden(f"head_{head}_infer")
    detector = golden_detector(head, test_candidate_rule="anchors").eval()
    features = levels(golden(f"head_{head}_forward"), "feat")
    with torch.no_grad():
        maps = detector.head(features)
        predictions = [[level[image : image + 1] for level in one] for one in maps]
        candidates = detector.candidates(
            detector.anchor_generator(features),
            *first_image(detector, predictions),
            tuple(arrays["img_shapes"][image].tolist()),
        )
    raw_scores = arrays[f"raw_scores_img{image}"][:, : detector.num_classes]
    anchors, classes = (raw_scores > detector.test_score_thresh).nonzero().unbind(dim=1)
    expected = Instances(candidates.image_size)
    expected.scores = raw_scores[anchors, classes]
    boxes = arrays[f"raw_boxes_img{image}"][anchors]
    order, expected_order = (
        torch.argsort(x, stable=True) for x in (candidates.scores, expected.scores)
    )
    assert_same_detections(
        candidates[order],
        boxes[expected_order],
        expected.scores[expected_order],
        classes[expected_order],
    )
