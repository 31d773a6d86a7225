"""Batches on which an exported file is compared with PyTorch, or calibrated."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..runtime.images import IMAGE_SUFFIXES, READ_ERRORS, read_image, reason_of
from ..runtime.inputs import find_files
from ..runtime.metadata import Metadata
from ..runtime.predictor import as_batch, padded_size
from ..runtime.resize import resize, resized_shape, size_of

Paths = str | Path | Sequence[str | Path]

# Images, rows and columns of the random batches, the latter in units of the divisor; others than
# those of the trace.
_RANDOM = ((1, 6, 8), (3, 7, 4))
_MOST_IMAGES = 16  # of those given, spread over them


def random_batches(metadata: Metadata) -> Iterator[np.ndarray]:
    """Yield two batches of noise, fp32 (N, 3, H, W), of two sizes unless the graph takes one."""
    rng = np.random.default_rng(0)
    divisor = metadata.settings.size_divisor
    for images, rows, columns in _RANDOM:
        height, width = metadata.fixed_size or (rows * divisor, columns * divisor)
        yield rng.integers(0, 256, (images, 3, height, width)).astype(np.float32)


def image_batches(paths: Sequence[Path], metadata: Metadata) -> Iterator[np.ndarray]:
    """Yield images of files, each as a batch of its own, resized and padded as for prediction.

    For a graph of one size an image is made small enough, too.

    Args:
        paths: of :func:`find_images`.
        metadata: of the export.

    Raises:
        ValueError: an image can't be read.
    """
    settings = metadata.settings
    for path in paths:
        try:
            image = read_image(path, settings.channel_order, bit_depth=settings.bit_depth)
        except READ_ERRORS as error:
            raise ValueError(f"{path} can't be read ({reason_of(error)}).") from error
        size = resized_shape(size_of(image), settings.min_size, settings.max_size)
        largest = metadata.fixed_size or padded_size(size, settings.size_divisor)
        shrink = min(1.0, largest[0] / size[0], largest[1] / size[1])
        pixels = resize(image, *(max(int(side * shrink), 1) for side in size))
        yield as_batch([pixels], largest, metadata.pixel_mean)


def find_images(sources: Paths, most: int = _MOST_IMAGES) -> list[Path]:
    """List image files, and those in folders, of many only ``most`` spread over all.

    Raises:
        ValueError: a path does not exist, or a folder has no image.
    """
    found: dict[str, Path] = {}
    for path in map(Path, [sources] if isinstance(sources, (str, Path)) else sources):
        files = find_files([path], ignored=Path(os.devnull))
        images = [file for file in files if file == path or file.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise ValueError(
                f"the folder {path} has no image ({', '.join(sorted(IMAGE_SUFFIXES))})."
            )
        found |= {os.path.abspath(image): image for image in images}
    paths, count = list(found.values()), min(len(found), most)
    return [paths[i * len(paths) // count] for i in range(count)]
