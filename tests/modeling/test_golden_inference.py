"""Final detections and candidates against the reference arrays."""

import pytest
import torch
from detectron2.layers import batched_nms
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from clq.modeling import CLQ
from reference.devices import on_device
from reference.golden import (
    assert_same_detections,
    golden,
    golden_detector,
    heads_with,
    levels,
)
from reference.members import first_image

pytestmark = pytest.mark.usefixtures("device")

IMAGES = [
    (head, image)
    for head in heads_with("img_shapes", "infer")
    for image in range(len(golden(f"head_{head}_infer")["img_shapes"]))
]
NUM_STORED = 1000  # anchors of a level at most in raw_*, those of the best scores


def options_of(run: str, arrays: dict[str, Tensor]) -> dict[str, int]:
    """Settings of one of the stored runs."""
    if run == "default":
        return {}
    return {
        "test_topk_candidates": int(arrays[f"{run}_nms_pre"]),
        "max_detections_per_image": int(arrays[f"{run}_max_per_img"]),
    }


def detect(detector: CLQ, head: str) -> list[Instances]:
    features = levels(golden(f"head_{head}_forward"), "feat")
    sizes = [tuple(size) for size in golden(f"head_{head}_infer")["img_shapes"].tolist()]
    images = ImageList(torch.zeros(len(sizes), 3, 1, 1), sizes)
    with torch.no_grad():
        predictions = on_device(detector.head)(features)
        return on_device(detector.forward_inference)(images, features, predictions)


def stored(arrays: dict[str, Tensor], run: str, image: int) -> list[Tensor]:
    """Boxes, scores and labels of one of the stored runs."""
    return [arrays[f"{run}_{part}_img{image}"] for part in ("boxes", "scores", "labels")]


@pytest.mark.parametrize("head, image", IMAGES)
@pytest.mark.parametrize("run", ("default", "small"))
def test_golden_detections(head, run, image):
    arrays = golden(f"head_{head}_infer")
    options = options_of(run, arrays)
    detector = golden_detector(head, test_candidate_rule="anchors", **options).eval()
    assert_same_detections(detect(detector, head)[image], *stored(arrays, run, image))


@pytest.mark.parametrize("head, image", IMAGES)
@pytest.mark.parametrize("run", ("default", "small"))
def test_golden_detections_of_the_pairs_rule(head, run, image):
    """The best (anchor, class) pairs of the anchors that the reference stored.

    The anchors of the best pairs are among those of the best scores.
    """
    arrays = golden(f"head_{head}_infer")
    detector = golden_detector(head, **options_of(run, arrays)).eval()
    feat_hw = golden(f"head_{head}_forward")["feat_hw"]
    sizes = [min(height * width, NUM_STORED) for height, width in feat_hw.tolist()]
    pairs = []
    raw = (arrays[f"raw_{part}_img{image}"].split(sizes) for part in ("boxes", "scores"))
    for boxes, scores in zip(*raw):
        scores = scores[:, : detector.num_classes]
        scores, order = scores.flatten().sort(descending=True)
        best = order[scores > detector.test_score_thresh][: detector.test_topk_candidates]
        rows, labels = best // detector.num_classes, best % detector.num_classes
        pairs.append((boxes[rows], scores[: len(best)], labels))
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*pairs))
    keep = batched_nms(boxes, scores, labels, detector.test_nms_thresh)
    keep = keep[: detector.max_detections_per_image]
    assert_same_detections(detect(detector, head)[image], boxes[keep], scores[keep], labels[keep])


@pytest.mark.parametrize("head, image", IMAGES)
def test_golden_detections_at_the_original_size(head, image):
    arrays = golden(f"head_{head}_infer")
    detector = golden_detector(head, test_candidate_rule="anchors").eval()
    result = detect(detector, head)[image]
    height, width = result.image_size
    scale_x, scale_y = arrays["scale_factors"][image, :2].tolist()
    original = detector_postprocess(result, round(height / scale_y), round(width / scale_x))
    # Detectron2 scales by whole sizes; undo what rounding them changed.
    factors = torch.tensor([original.image_size[1] / width, original.image_size[0] / height])
    exact = original.pred_boxes.tensor / factors.repeat(2) / arrays["scale_factors"][image]
    original.pred_boxes.tensor = exact
    boxes, scores, labels = stored(arrays, "rescaled", image)
    has_area = Boxes(boxes).nonempty()  # Detectron2 drops the others
    assert_same_detections(original, boxes[has_area], scores[has_area], labels[has_area])


@pytest.mark.parametrize("head, image", IMAGES)
def test_golden_candidates_of_the_anchors_rule(head, image):
    """Every (anchor, class) pair above the threshold of the anchors that the reference keeps."""
    arrays = golden(f"head_{head}_infer")
    detector = golden_detector(head, test_candidate_rule="anchors").eval()
    features = levels(golden(f"head_{head}_forward"), "feat")
    with torch.no_grad():
        maps = on_device(detector.head)(features)
        predictions = [[level[image : image + 1] for level in one] for one in maps]
        candidates = on_device(detector.candidates)(
            detector.anchor_generator(features),
            *first_image(detector, predictions),
            tuple(arrays["img_shapes"][image].tolist()),
        ).instances
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
