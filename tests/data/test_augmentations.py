"""The augmentations of INPUT.AUGMENTATIONS: boxes against those of masks moved alike."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from clq.data import augmentations
from clq.data.augmentations import (
    AUGMENTATIONS,
    Context,
    LabelledImage,
    as_boxes,
    crop_or_pad,
    mosaic,
    photometric_distortion,
    scale_jitter,
)
from clq.modeling.crowd import CROWD_CLASS

SIZE = (60, 90)  # height and width
OTHER_SIZES = [(40, 120), (100, 50), (30, 30)]
NO_FILL = (0, 0, 0)


def labelled(boxes: Sequence, size: tuple[int, int] = SIZE, classes: Sequence | None = None):
    """A black image with boxes."""
    return LabelledImage(
        tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8)),
        as_boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), size),
        torch.tensor(range(len(boxes)) if classes is None else classes, dtype=torch.int64),
    )


def painted(sample: LabelledImage, index: int | None) -> LabelledImage:
    """The sample, with one of its boxes filled in white."""
    image = torch.zeros_like(sample.image)
    if index is not None:
        x0, y0, x1, y1 = map(int, sample.boxes[index].tolist())
        image[:, y0:y1, x0:x1] = 255
    return sample._replace(image=tv_tensors.Image(image))


def tight_box(image: Tensor) -> list[float]:
    """The box of the white pixels."""
    rows, columns = (image[0].numpy() > 127).nonzero()
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def random_boxes(seed: int, size: tuple[int, int] = SIZE, count: int = 5) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    height, width = size
    corners = rng.integers(0, (width - 12, height - 12), (count, 2))
    return [
        [x, y, x + w, y + h] for (x, y), (w, h) in zip(corners, rng.integers(6, 13, (count, 2)))
    ]


def context(*others: LabelledImage) -> Context:
    return Context(iter(others).__next__, NO_FILL, "a.png")


def check_against_masks(
    augment: Callable[[LabelledImage, Context], LabelledImage],
    sources: Sequence[LabelledImage],
    seed: int,
    factor: float = 1.0,
) -> LabelledImage:
    """Augment once for each object, painted alone, and compare its box with that of its mask.

    An object is left out if less than a quarter of its mask is visible. Where the augmentation
    resizes by a factor, both hold to a pixel along the mask's edges.
    """
    slack = 0 if factor == 1 else 1

    def run(source: int, index: int | None) -> LabelledImage:
        torch.manual_seed(seed)
        first, *others = (painted(s, index if i == source else None) for i, s in enumerate(sources))
        return augment(first, context(*others))

    result = run(0, None)
    found = dict(zip(result.classes.tolist(), result.boxes.tolist(), strict=True))
    for i, source in enumerate(sources):
        for k, (box, kind) in enumerate(zip(source.boxes, source.classes.tolist(), strict=True)):
            image = run(i, k).image
            sides = factor * (box[2:] - box[:2])
            visible, edge = int((image[0] > 127).sum()), slack * 2 * float(sides.sum())
            if kind in found:
                assert visible >= 0.25 * float(sides.prod()) - edge
                np.testing.assert_allclose(found.pop(kind), tight_box(image), atol=slack)
            else:
                assert visible < 0.25 * float(sides.prod()) + edge
    assert not found
    return result


@pytest.mark.parametrize("seed", range(8))
def test_cropping_and_padding_move_boxes_as_masks(seed: int):
    size = [(30, 40), (100, 45), (30, 140), (90, 140)][seed % 4]
    sample = labelled(random_boxes(seed, count=20))
    result = check_against_masks(lambda s, c: crop_or_pad(s, size, c.fill), [sample], seed)
    assert result.image.shape[1:] == size and result.boxes.canvas_size == size
    assert (len(result.classes) == 20) == (size == (90, 140)), "a crop loses some"


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3, 2.0])
def test_scale_jitter_moves_boxes_as_masks(factor: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(augmentations, "_SCALES", (factor, factor))
    sample = labelled(random_boxes(7, count=12))
    for seed in range(3):
        result = check_against_masks(scale_jitter, [sample], seed, factor)
        assert result.image.shape == sample.image.shape


def test_scales_are_log_uniform_from_half_to_double():
    sample = labelled([[40, 25, 50, 35]], classes=[CROWD_CLASS])  # never left out while visible
    torch.manual_seed(0)
    sides = [scale_jitter(sample, context()).boxes for _ in range(400)]
    widths = torch.cat([boxes[:, 2] - boxes[:, 0] for boxes in sides])
    assert 5 <= widths.min() < 5.5 and 19 < widths.max() <= 20
    assert 0.4 < float((widths < 10).float().mean()) < 0.6


@pytest.mark.parametrize("seed", range(8))
def test_a_mosaic_moves_boxes_as_masks(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(augmentations, "_MOSAIC_PROBABILITY", 1.0)
    sources = [
        labelled(random_boxes(10 * seed + i, size), size, range(5 * i, 5 * i + 5))
        for i, size in enumerate([SIZE, *OTHER_SIZES])
    ]
    result = check_against_masks(mosaic, sources, seed)
    assert result.image.shape == sources[0].image.shape
    assert len(set((result.classes // 5).tolist())) > 1, "objects of several images"


def test_a_mosaic_has_the_pixels_of_four_images_half_the_time():
    colors = (50, 100, 150, 200)
    tiles = [
        labelled([])._replace(image=tv_tensors.Image(torch.full((3, *SIZE), c))) for c in colors
    ]
    tiles = [tile._replace(image=tv_tensors.Image(tile.image.to(torch.uint8))) for tile in tiles]
    torch.manual_seed(0)
    num_mosaics = 0
    for _ in range(60):
        image = mosaic(tiles[0], context(*tiles[1:])).image[0]
        height, width = SIZE
        corners = [int(image[y, x]) for y in (0, height - 1) for x in (0, width - 1)]
        assert corners in ([50] * 4, list(colors))
        if corners == list(colors):
            num_mosaics += 1
            y, x = int((image[:, 0] == 50).sum()), int((image[0] == 50).sum())
            assert height // 4 <= y <= height - height // 4
            assert width // 4 <= x <= width - width // 4
            for color, rows in ((50, image[:y, :x]), (200, image[y:, x:]), (100, image[:y, x:])):
                assert (rows == color).all()
    assert 20 < num_mosaics < 40


def test_photometric_distortion_changes_pixels_alone():
    sample = labelled(random_boxes(0))
    pixels = torch.randint(256, sample.image.shape, generator=torch.manual_seed(0))
    sample = sample._replace(image=tv_tensors.Image(pixels.to(torch.uint8)))
    torch.manual_seed(0)
    results = [photometric_distortion(sample, context()) for _ in range(8)]
    for result in results:
        assert torch.equal(result.boxes, sample.boxes)
        assert torch.equal(result.classes, sample.classes)
        assert result.image.dtype == torch.uint8 and result.image.shape == sample.image.shape
    assert len({result.image.numpy().tobytes() for result in results}) > 5


def test_padding_has_the_given_color():
    sample = labelled([])
    torch.manual_seed(0)
    image = crop_or_pad(sample, (80, 90), (10, 20, 30)).image
    is_padding = image.sum(dim=0) > 0
    assert int(is_padding.sum()) == 20 * 90
    assert image[:, is_padding].unique(dim=1).flatten().tolist() == [10, 20, 30]


def test_a_crowd_stays_while_any_of_it_is_visible():
    boxes = [[0, 0, 90, 60]] * 2 + [[0, 0, 20, 60], [70, 0, 90, 60]]
    sample = labelled(boxes, classes=[CROWD_CLASS, 3, CROWD_CLASS, CROWD_CLASS])
    torch.manual_seed(1)
    result = crop_or_pad(sample, (10, 50), NO_FILL)  # which has no place for both at the sides
    assert result.classes.unique().tolist() == [CROWD_CLASS] and len(result.boxes) < 3
    assert result.boxes[0].tolist() == [0, 0, 50, 10]


@pytest.mark.parametrize("size", [SIZE, (1, 1), (1, 7), (2, 2)])
@pytest.mark.parametrize("name", [name for name, _ in AUGMENTATIONS])
def test_an_image_without_objects_or_of_a_pixel_is_augmented(name: str, size: tuple[int, int]):
    sample = labelled([], size)
    for seed in range(4):
        torch.manual_seed(seed)
        result = AUGMENTATIONS.get(name)(sample, context(*[sample] * 3))
        assert result.image.shape == sample.image.shape and result.image.dtype == torch.uint8
        assert result.boxes.shape == (0, 4) and result.boxes.dtype == torch.float32
        assert result.classes.shape == (0,) and result.classes.dtype == torch.int64
