"""Reading the reference arrays and loading them into our modules.

``CLQ_GOLDEN_DIR`` names another folder with files of the same names and other values.
"""

import os
from pathlib import Path

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Instances
from torch import Tensor, nn

from clq.checkpoint.mmdet.names import from_mmdet_name
from clq.modeling.alignment import DeformableAlignment
from clq.modeling.anchors import ANCHOR_SCALE
from clq.modeling.bag_deform_conv import NUM_TAPS
from clq.modeling.box_coding import DistributionBoxTransform
from clq.modeling.clq import CLQ
from clq.modeling.criterion import CLQCriterion
from clq.modeling.head import CLQHead
from clq.modeling.matcher import ATSSMatcher
from clq.modeling.quality import LocalizationQuality
from reference.devices import current

GOLDEN_DIR = Path(os.environ.get("CLQ_GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
# What the method fixes and no file of a head holds.
STRIDES = (8, 16, 32, 64, 128)
ALPHA, TOPK = 0.3, 9


def golden(name: str) -> dict[str, Tensor]:
    """Arrays of one file as tensors."""
    with np.load(GOLDEN_DIR / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def golden_names(pattern: str) -> list[str]:
    """Names of the files that match; at least one, so that no test is empty unnoticed."""
    names = sorted(path.stem for path in GOLDEN_DIR.glob(f"{pattern}.npz"))
    assert names, f"{GOLDEN_DIR} has no {pattern}.npz"
    return names


def heads_with(key: str, kind: str) -> list[str]:
    """Names of the heads whose file ``head_<name>_<kind>`` has that array; at least one."""
    names = [name for name in golden_names(f"head_*_{kind}") if key in golden(name)]
    assert names, f"{GOLDEN_DIR} has no head_*_{kind}.npz with {key}"
    return [name.split("_")[1] for name in names]


def levels(arrays: dict[str, Tensor], key: str) -> list[Tensor]:
    """The arrays ``key_l0`` .. ``key_l4`` in order."""
    return [arrays[f"{key}_l{level}"] for level in range(len(STRIDES))]


class PyramidStub(Backbone):
    """Stands in for a backbone where a test feeds feature maps itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._channels = channels

    @property
    def size_divisibility(self) -> int:
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise AssertionError("the test feeds features")

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            f"p{i}": ShapeSpec(channels=self._channels, stride=stride)
            for i, stride in enumerate(STRIDES, 3)
        }


def head_parameter_names(reference_names: list[str]) -> dict[str, str]:
    """Our name of each parameter of the reference head, the level scales aside."""
    ours = {name: from_mmdet_name(f"bbox_head.{name}") for name in reference_names}
    return {name: our.removeprefix("head.") for name, our in ours.items() if our}


def golden_detector(head_name: str, **options) -> CLQ:
    """A CLQ over :class:`PyramidStub` with the weights of ``head_<name>_params``.

    The reference has a spare class channel. Where it is silent it is dropped; where it is active
    it is kept as one more class that no object has.
    """
    params = golden(f"head_{head_name}_params")
    num_classes = int(params["num_classes"]) + int(params["bg_channel_active"])
    reference = {key[3:]: value for key, value in params.items() if key.startswith("sd.")}
    channels = int(params["in_channels"])
    offset_groups = len(reference["feature_alignment.conv_offset.weight"]) // (2 * NUM_TAPS)
    transform = DistributionBoxTransform(len(reference["clq_reg.bias"]) // 4 - 1)
    head = CLQHead(
        in_channels=channels,
        num_levels=len(STRIDES),
        num_classes=num_classes,
        num_convs=int(params["stacked_convs"]),
        num_groups=int(params["gn_groups"]),
        box2box_transform=transform,
        quality=LocalizationQuality(channels, ALPHA),
        alignment=DeformableAlignment(channels, offset_groups),
    )
    state = {"scales": torch.cat([reference[f"scales.{i}.scale"] for i in range(len(STRIDES))])}
    for reference_name, name in head_parameter_names(list(reference)).items():
        value = reference[reference_name]
        state[name] = value[:num_classes] if name.startswith("cls_score") else value
    head.load_state_dict(state)
    criterion = {k: options.pop(k) for k in ("weigh_quality_by_score",) if k in options}
    return CLQ(
        backbone=PyramidStub(channels),
        head=head,
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[ANCHOR_SCALE * stride] for stride in STRIDES],
            aspect_ratios=[1.0],
            strides=STRIDES,
            offset=0.0,
        ),
        anchor_matcher=ATSSMatcher(TOPK),
        criterion=CLQCriterion(transform, head.quality, **criterion),
        num_classes=num_classes,
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[1.0, 1.0, 1.0],
        **options,
    ).to(current())


def assert_same_detections(
    actual: Instances,
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    box_atol: float = 1e-3,
    score_atol: float = 1e-5,
) -> None:
    """Same count, and each has a partner of its class; those of equal score in any order."""
    assert len(actual) == len(scores)
    torch.testing.assert_close(actual.scores, scores, rtol=0, atol=score_atol)
    is_pair = (scores[None] - actual.scores[:, None]).abs() <= score_atol
    is_pair &= actual.pred_classes[:, None] == labels[None]
    distance = (actual.pred_boxes.tensor[:, None] - boxes[None]).abs().amax(dim=2)
    is_pair &= distance <= box_atol
    assert is_pair.any(dim=1).all() and is_pair.any(dim=0).all()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradient of every parameter, on the host; zeros where the graph did not reach."""
    return {
        name: (torch.zeros_like(p) if p.grad is None else p.grad.clone()).cpu()
        for name, p in module.named_parameters()
    }
