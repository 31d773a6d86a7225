"""The augmentations of ``INPUT.AUGMENTATIONS``, on torchvision's transforms.

Letters: H, W height and width of an image, M boxes.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from fvcore.common.registry import Registry
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..modeling.crowd import CROWD_CLASS

AUGMENTATIONS = Registry("INPUT.AUGMENTATIONS")
AUGMENTATIONS.__doc__ = """
Augmentations by name. Each takes a :class:`LabelledImage` and a :class:`Context`, and returns a
:class:`LabelledImage`. It draws random numbers from ``torch``, ``numpy.random`` or ``random``,
which are seeded for each sample.
"""

_SCALES = (0.5, 2.0)
_MOSAIC_PROBABILITY = 0.5
_MIN_VISIBLE = 0.25  # of the area of an object that a crop keeps


class LabelledImage(NamedTuple):
    """An image with its boxes.

    Attributes:
        image: uint8 (3, H, W), RGB.
        boxes: float32 (M, 4), xyxy in pixels.
        classes: int64 (M,), ``CROWD_CLASS`` for a crowd.
    """

    image: tv_tensors.Image
    boxes: tv_tensors.BoundingBoxes
    classes: Tensor


class Context(NamedTuple):
    """Things that an augmentation may use beside its image.

    Attributes:
        draw: reads another training image, drawn at random.
        fill: RGB color of padding.
        file_name: of the image, for messages.
    """

    draw: Callable[[], LabelledImage]
    fill: tuple[int, ...]
    file_name: str


def as_boxes(boxes: Tensor, size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    """Wrap boxes (M, 4) in xyxy for torchvision.

    Args:
        boxes: in pixels.
        size: height and width of their image.
    """
    xyxy = tv_tensors.BoundingBoxFormat.XYXY
    return tv_tensors.BoundingBoxes(boxes, format=xyxy, canvas_size=size)


@AUGMENTATIONS.register()
def scale_jitter(sample: LabelledImage, context: Context) -> LabelledImage:
    """Resize by a random factor, then crop or pad to the image's own size at a random place.

    The factor is log-uniform, so that an image shrinks as often as it grows.
    """
    size = sample.image.shape[-2:]
    low, high = torch.tensor(_SCALES).log()
    factor = float(torch.empty(()).uniform_(float(low), float(high)).exp())
    # PyTorch 2.14 fails to make a single pixel out of several.
    resize = v2.Resize([max(round(side * factor), min(side, 2)) for side in size])
    image, boxes = resize(sample.image, sample.boxes)
    return crop_or_pad(
        LabelledImage(image, boxes, sample.classes), (size[0], size[1]), context.fill
    )


@AUGMENTATIONS.register()
def photometric_distortion(sample: LabelledImage, context: Context) -> LabelledImage:
    """Change brightness, contrast, saturation, hue and the order of channels, each half the time.

    As SSD does (Liu et al., 2016), with torchvision's ranges.
    """
    return sample._replace(image=v2.RandomPhotometricDistort()(sample.image))


@AUGMENTATIONS.register()
def mosaic(sample: LabelledImage, context: Context) -> LabelledImage:
    """Half the time, join parts of four images around a random point (YOLOv4, section 3.3).

    Each part is cropped or padded at its own scale. The result has the size of the first image,
    whose part is at the top left.
    """
    if float(torch.rand(())) >= _MOSAIC_PROBABILITY:
        return sample
    height, width = sample.image.shape[-2:]
    x, y = _random_middle(width), _random_middle(height)
    image, parts = torch.empty_like(sample.image), []
    spans = itertools.product(((0, y), (y, height)), ((0, x), (x, width)))
    for i, ((top, bottom), (left, right)) in enumerate(spans):
        if top == bottom or left == right:  # of an image of one pixel
            continue
        source = context.draw() if i else sample
        part = crop_or_pad(source, (bottom - top, right - left), context.fill)
        image[:, top:bottom, left:right] = part.image
        parts.append((part.boxes + torch.tensor([left, top, left, top]), part.classes))
    boxes, classes = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return LabelledImage(tv_tensors.Image(image), as_boxes(boxes, (height, width)), classes)


def crop_or_pad(
    sample: LabelledImage, size: tuple[int, int], fill: tuple[int, ...]
) -> LabelledImage:
    """Crop or pad each side to a size, at a random place.

    Objects of which less than a quarter of the area stays are left out. Crowds stay while any of
    them does, since what they hold must not become background.

    Args:
        sample: to crop.
        size: height and width of the result.
        fill: RGB color of padding.
    """
    crop = v2.RandomCrop(size, pad_if_needed=True, fill=fill)
    image, boxes = crop(sample.image, sample.boxes)  # which clips the boxes
    before, after = _areas(sample.boxes), _areas(boxes)
    is_crowd = sample.classes == CROWD_CLASS
    keep = (after > 0) & (is_crowd | (after >= _MIN_VISIBLE * before))  # (M,)
    return LabelledImage(image, as_boxes(boxes[keep], size), sample.classes[keep])


def _areas(boxes: Tensor) -> Tensor:
    """Areas of M boxes, (M,)."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def _random_middle(side: int) -> int:
    """Draw a whole number from the middle half of a side."""
    quarter = side // 4
    return int(torch.randint(quarter, side - quarter + 1, ()))
