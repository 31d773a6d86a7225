"""Labels, losses and gradients of whole batches against the reference arrays."""

import pytest
import torch
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from clq.modeling import CLQ
from reference.devices import on_device
from reference.golden import (
    golden,
    golden_detector,
    golden_names,
    gradients,
    head_parameter_names,
    levels,
)

pytestmark = pytest.mark.usefixtures("device")

EMPTY_FILES = golden_names("head_*_loss_all_empty")
LOSS_FILES = [name for name in golden_names("head_*_loss_*") if name not in EMPTY_FILES]
OUR_NAMES = {
    "loss_cls": "loss_cls",
    "loss_bbox": "loss_box_reg",
    "loss_dfl": "loss_dfl",
    "losses_iou": "loss_quality",
}
# Gradients of the wider heads move by up to 4e-2 when an input moves by 1e-6 relative, because a
# sampling point or a ReLU crosses a kink; head_tiny was made without kinks in reach.
TIGHT, LOOSE = 5e-4, 5e-2


def read_batch(arrays: dict[str, Tensor]) -> tuple[ImageList, list[Instances]]:
    """Ground truth of each image, and images that have only their sizes before padding."""
    sizes = [tuple(size) for size in arrays["img_shapes"].tolist()]
    instances = []
    for i, size in enumerate(sizes):
        gt = Instances(size)
        gt.gt_boxes = Boxes(arrays[f"gt_boxes_img{i}"])
        gt.gt_classes = arrays[f"gt_labels_img{i}"]
        instances.append(gt)
    return ImageList(torch.zeros(len(sizes), 3, 1, 1), sizes), instances


def read_features(name: str) -> list[Tensor]:
    """Input feature maps of the head that a loss file belongs to, as leaves."""
    features = levels(golden(f"head_{name.split('_')[1]}_forward"), "feat")
    return [feature.requires_grad_() for feature in features]


def forward(name: str) -> tuple[CLQ, dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
    """Detector, its losses on the batch of one file, the features and that file's arrays."""
    arrays = golden(name)
    switch = name.endswith("iou_weight_switch_on")
    detector = golden_detector(name.split("_")[1], weigh_quality_by_score=switch)
    features = read_features(name)
    images, instances = read_batch(arrays)
    predictions = on_device(detector.head)(features)
    losses = on_device(detector.forward_training)(images, features, predictions, instances)
    return detector, losses, features, arrays


def relative_error(actual, expected, name: str, scale: float) -> float:
    """Largest deviation relative to the largest entry, or of norms for the loose files."""
    difference = actual - expected
    if "tiny" in name:
        return float(difference.abs().max() / max(expected.abs().max(), scale))
    return float(difference.norm() / max(expected.norm(), scale))


@pytest.mark.parametrize("name", LOSS_FILES + EMPTY_FILES)
def test_golden_labels(name):
    arrays = golden(name)
    detector = golden_detector(name.split("_")[1])
    background = int(golden(f"head_{name.split('_')[1]}_params")["num_classes"])
    images, instances = read_batch(arrays)
    anchors = detector.anchor_generator(read_features(name))
    gt_labels, gt_boxes = on_device(detector.label_anchors)(anchors, instances, images.image_sizes)

    expected = torch.cat(levels(arrays, "labels"), dim=1)
    has_loss = torch.cat(levels(arrays, "label_weights"), dim=1) > 0
    is_positive = has_loss & (expected != background)
    expected = expected.masked_fill(expected == background, detector.num_classes)
    expected = expected.masked_fill(~has_loss, -1)
    torch.testing.assert_close(torch.stack(gt_labels), expected, rtol=0, atol=0)
    targets = torch.cat(levels(arrays, "bbox_targets"), dim=1)
    torch.testing.assert_close(torch.stack(gt_boxes)[is_positive], targets[is_positive])


@pytest.mark.parametrize("name", LOSS_FILES)
def test_golden_losses(name):
    _, losses, _, arrays = forward(name)
    for reference_name, our_name in OUR_NAMES.items():
        expected = arrays[reference_name].squeeze()
        torch.testing.assert_close(losses[our_name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSS_FILES)
def test_golden_gradients(name):
    detector, losses, features, arrays = forward(name)
    sum(losses.values()).backward()
    bound = TIGHT if "tiny" in name else LOOSE
    ours = gradients(detector.head)
    stored = [key[5:] for key in arrays if key.startswith("grad.")]
    for reference_name, our_name in head_parameter_names(stored).items():
        expected = arrays[f"grad.{reference_name}"]
        actual = ours[our_name]
        if our_name.startswith("cls_score"):
            expected = expected[: detector.num_classes]
        assert relative_error(actual, expected, name, 1e-6) < bound, our_name
    scales = torch.cat([arrays[f"grad.scales.{i}.scale"] for i in range(len(features))])
    assert relative_error(ours["scales"], scales, name, 1e-6) < bound
    for i, feature in enumerate(features):
        if f"grad_feat_l{i}" in arrays:
            expected = arrays[f"grad_feat_l{i}"]
            assert relative_error(feature.grad, expected, name, 1e-6) < bound, f"P{i + 3}"


@pytest.mark.parametrize("name", golden_names("head_*_loss_full"))
@pytest.mark.parametrize("reference_loss", OUR_NAMES)
def test_golden_gradient_of_each_loss(name, reference_loss):
    detector, losses, _, arrays = forward(name)
    losses[OUR_NAMES[reference_loss]].backward()
    bound = TIGHT if "tiny" in name else LOOSE
    ours = gradients(detector.head)
    prefix = f"gradonly_{reference_loss}."
    stored = [key[len(prefix) :] for key in arrays if key.startswith(prefix)]
    names = head_parameter_names(stored)
    assert names
    for reference_name, our_name in names.items():
        expected = arrays[prefix + reference_name]
        if our_name.startswith("cls_score"):
            expected = expected[: detector.num_classes]
        assert relative_error(ours[our_name], expected, name, 1e-6) < bound, our_name


@pytest.mark.parametrize("name", EMPTY_FILES)
def test_golden_batch_without_objects(name):
    """The reference gives NaN for the box losses here; ours are 0, and all else agrees."""
    detector, losses, _, arrays = forward(name)
    assert arrays["loss_bbox"].isnan() and arrays["loss_dfl"].isnan()
    expected = arrays["loss_cls"].squeeze()
    torch.testing.assert_close(losses["loss_cls"], expected, rtol=1e-5, atol=1e-6)
    for key in ("loss_box_reg", "loss_dfl", "loss_quality"):
        assert losses[key] == 0
    sum(losses.values()).backward()
    for parameter_name, parameter in detector.head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
