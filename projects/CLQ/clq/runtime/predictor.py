"""From images to detections, whatever computes the network.

Letters: H, W height and width of an image in pixels.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from .detections import ImageDetections, suppress, vote
from .images import ImageSource, check_array, read_image
from .metadata import Settings
from .options import ViewOptions
from .resize import resize, resized_shape, size_of
from .tiles import WHOLE, TiledDetections, merge_tiles, tile_boxes

Self = TypeVar("Self", bound="ImagePredictor")


class ImagePredictor(ABC):
    """Detector for images as they are: resizes them and orders channels as its settings say.

    Tiling and test-time augmentation are those of the settings too. Subclasses run the network.
    """

    #: Resizes an image (H, W, 3) uint8 to a height and width.
    resize = staticmethod(resize)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.class_names = list(settings.class_names)

    @abstractmethod
    def find_candidates(self, images: Sequence[np.ndarray]) -> list[ImageDetections]:
        """Run the network on images that are padded to one size.

        Args:
            images: (H, W, 3) uint8, resized, channels in the network's order.

        Returns:
            Candidates for NMS of each, clipped to it, in its pixels.
        """

    def suppress(self, candidates: ImageDetections) -> ImageDetections:
        """Suppress candidates of an image by NMS in each class, and keep the best, best first."""
        settings = self.settings
        return suppress(candidates, settings.nms_threshold, settings.max_detections)

    def detect_inputs(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[ImageDetections]:
        """Detect in images that are padded to one size, in one pass of the network.

        Args:
            images: as of :meth:`find_candidates`.
            sizes: heights and widths that detections are scaled to.
        """
        found = self.find_candidates(images)
        return [self.suppress(of_one).at_size(size) for of_one, size in zip(found, sizes)]

    def with_options(self: Self, options: ViewOptions) -> Self:
        """Share the network with a predictor of other tiling and test-time augmentation.

        Raises:
            ValueError: an option that CLQ can't use.
        """
        settings = options.apply(self.settings)
        if settings is self.settings:
            return self
        other = copy.copy(self)
        other.settings = settings
        return other

    def read(self, source: ImageSource, channels: str = "BGR") -> np.ndarray:
        """Read an image as the detector was trained on it, by :func:`read_image`.

        Raises:
            READ_ERRORS: the image can't be read.
        """
        return read_image(source, channels, bit_depth=self.settings.bit_depth)

    def find(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[ImageDetections]:
        """Detect objects in several images, in each as in it alone.

        Images that are padded to the same size pass the network together; tiles and augmented
        images pass alone.

        Args:
            images: (H, W, 3) uint8 BGR, of any sizes.
            batch_size: largest number of images in a pass.

        Returns:
            Of each image, in its pixels, best first.

        Raises:
            ValueError: an image is no such array.
        """
        for image in images:
            check_array(image, "BGR")
        if self.settings.tile:
            return [self._detect_in_tiles(image) for image in images]
        return self._detect_whole(images, batch_size)

    def _detect_whole(
        self, images: Sequence[np.ndarray], batch_size: int = 1
    ) -> list[ImageDetections]:
        """Detect in images without tiling them."""
        if not self.settings.augment:
            return self._detect_batches(images, batch_size)
        return [self._detect_in_views(image) for image in images]

    def _detect_in_views(self, image: np.ndarray) -> ImageDetections:
        """Detect in several views of an image, whose candidates pass one NMS.

        NMS compares boxes at the size of the plain detector's input, so that a single view at that
        size, which is not mirrored, gives the detections of the plain detector.
        """
        settings, size, plain_size = self.settings, size_of(image), self._resized_size(image)
        ordered, parts = self._ordered(image), []
        for min_size in settings.augment_min_sizes:
            shape = resized_shape(size, min_size, settings.augment_max_size)
            view = self.resize(ordered, *shape)
            views = [view, view[:, ::-1]] if settings.augment_flip else [view]
            plain, *mirrored = self.find_candidates(views)
            found = (plain, *(candidates.mirrored() for candidates in mirrored))
            parts += [candidates.scaled(plain_size) for candidates in found]
        candidates = ImageDetections.cat(parts)
        kept = self.suppress(candidates)
        if settings.augment_merge == "vote":
            kept = vote(kept, candidates, settings.nms_threshold)
        return kept.at_size(size)

    def _detect_in_tiles(self, image: np.ndarray) -> ImageDetections:
        """Detect in one tile after the other, each as if it were an image; merge across borders."""
        settings, size = self.settings, size_of(image)
        tiles = tile_boxes(size, settings.tile, settings.tile_overlap)
        parts = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in tiles.tolist()]
        if len(parts) == 1:
            return self._detect_whole([image])[0]
        found = [
            TiledDetections.of(self._detect_whole([part])[0], i, tiles[i, :2], size)
            for i, part in enumerate(_with_progress(parts))
        ]
        if settings.tile_whole:
            whole = self._detect_whole([image])[0]
            found.append(TiledDetections.of(whole, WHOLE, np.zeros(2), size))
        merged = merge_tiles(TiledDetections.cat(found), tiles, settings.nms_threshold)
        return ImageDetections(size, merged.boxes, merged.scores, merged.classes)

    def _detect_batches(
        self, images: Sequence[np.ndarray], batch_size: int
    ) -> list[ImageDetections]:
        """Detect in images of which those that are padded to one size share a batch."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(self.padded_size(self._resized_size(image)), []).append(i)
        found: dict[int, ImageDetections] = {}
        for indices in groups.values():
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                resized = [
                    self.resize(self._ordered(images[i]), *self._resized_size(images[i]))
                    for i in batch
                ]
                sizes = [size_of(images[i]) for i in batch]
                found |= zip(batch, self.detect_inputs(resized, sizes))
        return [found[i] for i in range(len(images))]

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width to which the network's input of that size is padded."""
        return padded_size(size, self.settings.size_divisor)

    def _resized_size(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width of an image after resizing."""
        settings = self.settings
        return resized_shape(size_of(image), settings.min_size, settings.max_size)

    def _ordered(self, image: np.ndarray) -> np.ndarray:
        """Order the channels of a BGR image as the network takes them."""
        return image[:, :, ::-1] if self.settings.channel_order == "RGB" else image


def padded_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """Round a height and a width up to multiples of a number."""
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def as_batch(
    images: Sequence[np.ndarray], size: tuple[int, int], pixel_mean: Sequence[float]
) -> np.ndarray:
    """Lay out images as a batch, padded at the right and below with the pixel mean.

    Args:
        images: (H, W, 3) uint8, none larger than the batch.
        size: height and width of the batch.
        pixel_mean: by channel.

    Returns:
        (N, 3, height, width) fp32.
    """
    mean = np.array(pixel_mean, dtype=np.float32)
    batch = np.broadcast_to(mean[:, None, None], (len(images), 3, *size)).copy()
    for pixels, image in zip(batch, images):
        pixels[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def _with_progress(parts: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
    """Show a bar on a terminal, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return parts
    return tqdm(parts, unit="tile", leave=False, disable=None)
