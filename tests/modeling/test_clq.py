"""The whole detector: unusual batches, mixed precision, candidate rules, host synchronisations."""

import functools

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances

from clq.config import get_clq_cfg
from clq.modeling import CLQ, DistributionBoxTransform
from clq.modeling.loss_normalizer import LossAccumulator
from reference.devices import on_device
from reference.golden import PyramidStub, golden_detector
from reference.host_waits import host_waits


@pytest.fixture
def detector(device):
    return small_detector(device.type)


@functools.cache
def small_detector(device):
    """A small CLQ on an untrained MobileNetV2."""
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/Demo/clq_trees.yaml")
    cfg.MODEL.DEVICE = device
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.CLQ.NUM_GROUPS = 4
    cfg.MODEL.CLQ.NUM_CLASSES = 3
    torch.manual_seed(0)
    return build_model(cfg)


def sample(boxes, size=(96, 128), classes=None) -> dict:
    """A training input: a random image of (height, width) with xyxy boxes in pixels."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    gt = Instances(size)
    gt.gt_boxes = Boxes(boxes)
    gt.gt_classes = torch.arange(len(boxes)) % 3 if classes is None else torch.tensor(classes)
    generator = torch.Generator().manual_seed(len(boxes))
    return {"image": torch.rand(3, *size, generator=generator) * 255, "instances": gt}


CROWD = [[x, y, x + 30, y + 30] for x in range(0, 90, 6) for y in range(0, 60, 6)]
BATCHES = {
    "ordinary": [sample([[10, 10, 60, 70]]), sample([[5, 5, 40, 40], [50, 20, 120, 90]])],
    "one image empty": [sample([[10, 10, 60, 70]]), sample([])],
    "batch empty": [sample([]), sample([])],
    "box without anchor": [sample([[3, 3, 5, 5]])],
    "below a stride": [sample([[30, 30, 34, 34], [62, 46, 67, 50]])],
    "crowd": [sample(CROWD)],
    "outside the image": [sample([[-500, -500, -400, -400], [-40, -40, 30, 30]])],
    "far larger than the image": [sample([[-4000, -4000, 4000, 4000]])],
    "sizes differ": [sample([[10, 10, 60, 70]]), sample([[5, 5, 30, 30]], size=(33, 200))],
}


@pytest.mark.parametrize("batch", BATCHES)
def test_losses_are_finite_and_every_parameter_receives_a_gradient(detector, batch):
    detector.train().zero_grad()
    losses = detector(BATCHES[batch])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_dfl", "loss_quality"}
    for name, loss in losses.items():
        assert loss.isfinite() and loss >= 0 and loss.dtype == torch.float32, name
    if batch in ("batch empty", "box without anchor"):
        assert losses["loss_box_reg"] == losses["loss_dfl"] == losses["loss_quality"] == 0
    else:
        assert losses["loss_box_reg"] > 0
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        else:
            assert name.startswith("backbone.bottom_up.body.features."), name


def test_the_order_of_images_does_not_matter(detector):
    detector.train()
    with torch.no_grad():
        one, other = detector(BATCHES["ordinary"]), detector(BATCHES["ordinary"][::-1])
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_padding_to_a_larger_image_changes_no_label(detector):
    """Anchors beyond an image's own padded size are neither background nor candidates."""
    images = [sample([[10, 10, 60, 60]], size=(64, 64)), sample([], size=(160, 160))]
    features = [torch.zeros(2, 1, -(-160 // s), -(-160 // s)) for s in (8, 16, 32, 64, 128)]
    anchors = detector.anchor_generator(features)
    instances = [image["instances"] for image in images]
    labels, _ = on_device(detector.label_anchors)(anchors, instances, [(64, 64), (160, 160)])
    centers = Boxes.cat(anchors).get_centers().cpu()
    beyond = (centers >= 64).any(dim=1)
    assert torch.equal(labels[0] == -1, beyond)
    assert (labels[1] >= 0).all() and (labels[1] == 3).all()


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_mixed_precision_is_close_to_full(detector, dtype):
    detector.train().zero_grad()
    full = detector(BATCHES["ordinary"])
    with torch.autocast(detector.device.type, dtype=dtype):
        mixed = detector(BATCHES["ordinary"])
    for name, loss in mixed.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[name], rtol=0.05, atol=0.02)
    sum(mixed.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_detections_are_inside_the_unpadded_image_and_sorted(detector):
    detector.eval()
    detector.test_score_thresh, threshold = 0.0, detector.test_score_thresh
    inputs = [{"image": torch.rand(3, 50, 77) * 255, "height": 100, "width": 154}]
    with torch.no_grad():
        result = detector(inputs)[0]["instances"]
    detector.test_score_thresh = threshold
    assert result.image_size == (100, 154) and 0 < len(result) <= 100
    boxes = result.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes[:, 2] <= 154).all() and (boxes[:, 3] <= 100).all()
    assert (result.scores.diff() <= 0).all()


def test_nothing_above_the_threshold_gives_no_detection(detector):
    detector.eval()
    with torch.no_grad():  # untrained, every probability is near the prior of 0.01
        result = detector([{"image": torch.rand(3, 64, 64) * 255}])[0]["instances"]
    assert len(result) == 0


@pytest.mark.parametrize(
    "rule, expected", (("pairs", {(0, 0), (0, 1)}), ("anchors", {(0, 0), (0, 1), (1, 1)}))
)
def test_candidate_rules_choose_pairs_or_anchors(rule, expected):
    """Two candidates a level: two pairs, or all classes of two anchors."""
    detector = golden_detector("tiny", test_candidate_rule=rule, test_topk_candidates=2)
    anchors = [Boxes(torch.tensor([[0.0, 0, 64, 64], [64, 0, 128, 64], [0, 64, 64, 128]]))]
    logits = [torch.tensor([[0.9, 0.8], [0.04, 0.5], [0.4, 0.3]]).logit()]
    sure = [torch.full((3, 1), 50.0)]
    dists = [torch.zeros(3, detector.box2box_transform.num_channels)]
    found = detector.candidates(anchors, logits, dists, sure, (128, 128)).instances
    centers = found.pred_boxes.get_centers()
    rows = [
        (Boxes.cat(anchors).get_centers() - c).abs().sum(dim=1).argmin().item() for c in centers
    ]
    assert set(zip(rows, found.pred_classes.tolist())) == expected


def test_boxes_are_clipped_before_suppression():
    """Two boxes that differ only outside the image are one detection."""
    detector = golden_detector("tiny")
    anchors = [Boxes(torch.tensor([[-32.0, -32.0, 32.0, 32.0], [-32.0, -24.0, 32.0, 40.0]]))]
    dists = torch.full((2, 4, detector.box2box_transform.reg_max + 1), -50.0)
    dists[:, :, 6] = 50.0  # 48 px to every side
    dists[1, 0, 6], dists[1, 0, 16] = -50.0, 50.0  # 128 px to the left
    logits, quality = [torch.tensor([[2.0], [1.0]])], [torch.zeros(2, 1)]
    result = detector.suppress(
        detector.candidates(anchors, logits, [dists.flatten(1)], quality, (48, 48))
    )
    assert len(result.instances) == 1


@pytest.mark.parametrize("batch", ("ordinary", "batch empty", "crowd"))
def test_a_training_step_synchronizes_once(detector, batch):
    """To find the positive anchors.

    Detectron2's ImageList also reads two numbers, but of a tensor that is on the host anyway.
    """
    detector.train().zero_grad()
    waits = host_waits(lambda: sum(detector(BATCHES[batch]).values()).backward())
    assert [name for name in waits if name != "aten::_local_scalar_dense"] == ["aten::nonzero"]
    assert len(waits) <= 3


@pytest.mark.parametrize("device, channels_last", [("cpu", True), ("cuda", False)])
def test_weights_are_channels_last_on_cpu(device: str, channels_last: bool):
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/Demo/clq_trees.yaml")
    cfg.MODEL.DEVICE = device
    assert CLQ.from_config(cfg)["channels_last"] is channels_last
    cfg.MODEL.CHANNELS_LAST = False
    assert CLQ.from_config(cfg)["channels_last"] is False


@pytest.mark.parametrize("batch", BATCHES)
def test_samples_are_counted_without_the_network(detector, batch):
    accumulator = LossAccumulator()
    with torch.no_grad():
        detector.train()(BATCHES[batch], normalizer=accumulator)
    _, targets = detector.prepare(BATCHES[batch])
    assert targets.num_samples == accumulator.total.num_samples


def test_synchronizations_are_detected():
    weight = torch.ones(3, 2, requires_grad=True)
    assert host_waits(lambda: weight[weight[:, 0] > 0].sum().item())
    assert host_waits(lambda: weight.prod(dim=1).sum().backward())  # in its backward only
    assert host_waits(lambda: weight.detach().cpu()) == ["Tensor.cpu"]
    assert host_waits(lambda: weight.detach().tolist()) == ["Tensor.tolist"]


def test_dense_distances_steer_the_alignment():
    """Gradient of the class loss reaches the regression tower through the offsets."""
    detector = golden_detector("tiny")
    transform = detector.box2box_transform
    assert isinstance(transform, DistributionBoxTransform)
    channels = detector.backbone.output_shape()["p3"].channels
    features = [torch.randn(1, channels, 16 // 2**i, 16 // 2**i) for i in range(5)]
    logits, _, _ = detector.head(features)
    sum(x.sum() for x in logits).backward()
    assert detector.head.bbox_pred.weight.grad.abs().sum() > 0
    assert detector.head.scales.grad.abs().sum() > 0


def test_a_wrong_number_of_levels_raises():
    detector = golden_detector("tiny")
    with pytest.raises(AssertionError):
        detector.head([torch.zeros(1, 16, 4, 4)])


def test_stub_pads_as_the_real_pyramids_do():
    assert PyramidStub(16).size_divisibility == 32
    assert ImageList.from_tensors([torch.zeros(3, 33, 65)], 32).tensor.shape[-2:] == (64, 96)
