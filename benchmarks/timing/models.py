"""CLQ R-50, its peers and CLQ X-101-32x4d with random weights, and images for them.

No model here is trained. As they come, the residual blocks of Detectron2 and torchvision would
double the activations' variance 16 times over, for none has batch-norm statistics: a detector
without other norms, RetinaNet, would then see thousands of boxes to suppress where another sees
none, and its loss would be 5e5. So :func:`tame` does the same to every backbone: the last norm of
each residual block has weight 0.2, and where a model leaves the division by the pixels' standard
deviation to its first norm, as Detectron2's peers do, that norm has weight 1/57. The heads keep
their own first weights, with a class prior of 0.01: no model has anything to suppress, and the
post-processing of 1,000 candidates a level is a row of its own.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.resnet import Bottleneck

from clq.config import get_clq_cfg

ROOT = Path(__file__).resolve().parents[2]
SIZE = (800, 1088)  # height and width of an image in pixels
NUM_CLASSES = 80
Place = str | torch.device
_BLOCK_WEIGHT = 0.2
_PIXEL_STD = 57.0
_ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs" / "COCO-Detection"


def build(name: str, device: Place = "cpu") -> Any:
    """One of ``MODELS`` in training mode, the same weights every time, in the device's form."""
    torch.manual_seed(0)
    device = torch.device(device)
    return tame(MODELS[name](device)).train().to(device)


def tame(model: Any) -> Any:
    """Keep activations small, as the head of this file says."""
    for module in model.modules():
        if isinstance(module, (BottleneckBlock, Bottleneck)):
            is_ours = isinstance(module, BottleneckBlock)
            norm = module.conv3.norm if is_ours else module.bn3
            nn.init.constant_(norm.weight, _BLOCK_WEIGHT)
        if isinstance(module, ResNet) and bool((model.pixel_std == 1).all()):
            nn.init.constant_(module.stem.conv1.norm.weight, 1 / _PIXEL_STD)
    return model


def _clq(name: str, device: torch.device) -> nn.Module:
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / "COCO-Detection" / f"{name}.yaml"))
    cfg.MODEL.DEVICE = str(device)
    return build_model(cfg)


def _detectron2(name: str) -> nn.Module:
    """From the files that ``detectron2.model_zoo`` finds; the module itself needs setuptools."""
    return instantiate(LazyConfig.load(str(_ZOO / f"{name}_R_50_FPN_1x.py")).model)


class TorchvisionDetector(nn.Module):
    """Takes images as Detectron2's models do, at the size that they have."""

    def __init__(self, make: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.model = make(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
        transform: Any = self.model.transform
        transform.resize = lambda image, target: (image, target)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        return self.model([sample["image"] / 255 for sample in batched_inputs])


MODELS: dict[str, Callable[[torch.device], nn.Module]] = {
    "clq": partial(_clq, "clq_R_50_FPN_1x"),
    "clq_X_101_32x4d": partial(_clq, "clq_X_101_32x4d_FPN_2x_ms"),
    "retinanet": lambda _: _detectron2("retinanet"),
    "fcos": lambda _: _detectron2("fcos"),
    "torchvision_retinanet": lambda _: TorchvisionDetector(retinanet_resnet50_fpn_v2),
    "torchvision_fcos": lambda _: TorchvisionDetector(fcos_resnet50_fpn),
}


def images(count: int, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """Inputs for inference: uint8 noise, (3, height, width) each."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    return [{"image": image} for image in pixels]


def targets(count: int, size: tuple[int, int] = SIZE, num_boxes: int = 20) -> list[Instances]:
    """For each image, boxes with sides of 1/40 to 1/4 of its height, of any class."""
    generator = torch.Generator().manual_seed(1)
    height, width = size
    found = []
    for _ in range(count):
        sides = height * (0.025 + 0.225 * torch.rand(num_boxes, 2, generator=generator))
        room = torch.tensor([width, height]) - sides
        corner = room * torch.rand(num_boxes, 2, generator=generator)
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.cat((corner, corner + sides), dim=1))
        instances.gt_classes = torch.randint(0, NUM_CLASSES, (num_boxes,), generator=generator)
        found.append(instances)
    return found


def training_batch(count: int, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """Inputs for training."""
    pairs = zip(images(count, size), targets(count, size))
    return [{**sample, "instances": instances} for sample, instances in pairs]
