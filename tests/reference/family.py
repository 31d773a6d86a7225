"""The family's losses as their table reads, one anchor at a time: the oracle of its tests."""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

# What is in the row of each member: box coding, quality, class loss.
MEMBERS = {
    "atss": ("deltas", "centerness", "focal"),
    "gfl": ("distribution", "none", "quality_focal"),
    "atss_clq": ("deltas", "localization", "quality_focal"),
    "clq": ("distribution", "localization", "quality_focal"),
}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bce(p: float, t: float) -> float:
    return -t * math.log(p) - (1 - t) * math.log(1 - p)


def decode(coding: str, code: list[float], anchor: list[float]) -> list[float]:
    """Box xyxy in pixels."""
    side = anchor[2] - anchor[0]
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    if coding == "deltas":
        x, y = x + code[0] / 10 * side, y + code[1] / 10 * side
        w, h = side * math.exp(code[2] / 5), side * math.exp(code[3] / 5)
        return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    stride, bins = side / 8, len(code) // 4
    distances = []
    for i in range(4):
        weights = [math.exp(v) for v in code[i * bins : (i + 1) * bins]]
        mean = sum(b * weight for b, weight in enumerate(weights)) / sum(weights)
        distances.append(mean * stride)
    return [x - distances[0], y - distances[1], x + distances[2], y + distances[3]]


def dfl(code: list[float], anchor: list[float], box: list[float]) -> float:
    """Mean over the sides of the distribution focal loss."""
    stride, bins = (anchor[2] - anchor[0]) / 8, len(code) // 4
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    total = 0.0
    for i, distance in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y)):
        t = min(max(distance / stride, 0), bins - 1 - 0.1)
        weights = [math.exp(v) for v in code[i * bins : (i + 1) * bins]]
        left = math.floor(t)
        for bin_, share in ((left, left + 1 - t), (left + 1, t - left)):
            total -= share * math.log(weights[bin_] / sum(weights))
    return total / 4


def centerness(anchor: list[float], box: list[float]) -> float:
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def plain_losses(
    member: str,
    anchors: Tensor,
    pred_logits: Tensor,
    pred_dists: Tensor,
    pred_quality: Tensor | None,
    gt_labels: Tensor,
    gt_boxes: Tensor,
    alpha: float = 0.3,
) -> dict[str, float]:
    """Same arguments as the criterion, in float64; one process."""
    coding, quality, class_loss = MEMBERS[member]
    num_classes = pred_logits.shape[-1]
    sums = dict.fromkeys(("loss_cls", "loss_box_reg", "loss_dfl", "loss_quality"), 0.0)
    weight_sum, counts = 0.0, []
    for n in range(len(gt_labels)):
        counts.append(0)
        for r, label in enumerate(gt_labels[n].tolist()):
            if label == -1:
                continue
            c, is_positive = pred_logits[n, r].tolist(), label != num_classes
            q = 0.0 if pred_quality is None else pred_quality[n, r].item()
            factor = sigmoid(q) ** alpha if quality == "localization" else 1.0
            p = [sigmoid(value) * factor for value in c]
            if is_positive:
                counts[-1] += 1
                anchor, box = anchors[r].tolist(), gt_boxes[n, r].tolist()
                code = pred_dists[n, r].tolist()
                pred_box = torch.tensor([decode(coding, code, anchor)], dtype=torch.float64)
                truth = torch.tensor([box], dtype=torch.float64)
                iou = box_iou(pred_box, truth).item()
                learned = centerness(anchor, box) if quality == "centerness" else iou
                weight = learned if quality == "centerness" else max(p)
                weight_sum += weight
                giou = generalized_box_iou(pred_box, truth).item()
                sums["loss_box_reg"] += 2 * weight * (1 - giou)
                if coding == "distribution":
                    sums["loss_dfl"] += 0.25 * weight * dfl(code, anchor, box)
                sums["loss_quality"] += bce(sigmoid(q), learned)
            for k in range(num_classes):
                t = 1.0 if is_positive and k == label else 0.0
                if class_loss == "focal":
                    balance = 0.25 if t else 0.75
                    sums["loss_cls"] += balance * abs(t - p[k]) ** 2 * bce(p[k], t)
                else:
                    t = t and iou
                    sums["loss_cls"] += abs(t - p[k]) ** 2 * bce(p[k], t)
    samples = max(sum(counts), 1) if class_loss == "focal" else sum(max(c, 1) for c in counts)
    divisors = {"loss_cls": samples, "loss_quality": samples}
    losses = {name: sums[name] / divisors.get(name, weight_sum or 1.0) for name in sums}
    absent = {"deltas": ["loss_dfl"]}.get(coding, []) + (["loss_quality"] * (quality == "none"))
    return {name: loss for name, loss in losses.items() if name not in absent}
