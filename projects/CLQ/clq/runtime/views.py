"""Test-time augmentation: an image in several sizes, as it is and mirrored."""

from collections.abc import Callable, Sequence

import numpy as np

from .detections import ImageDetections, vote
from .metadata import Settings
from .resize import resized_shape, size_of

# Candidates for NMS of images (H, W, 3) uint8 of one size, channels in the network's order.
FindCandidates = Callable[[Sequence[np.ndarray]], list[ImageDetections]]
Resize = Callable[[np.ndarray, int, int], np.ndarray]


def detect_in_views(
    image: np.ndarray,
    settings: Settings,
    resize: Resize,
    find_candidates: FindCandidates,
    suppress: Callable[[ImageDetections], ImageDetections],
) -> ImageDetections:
    """Detect objects in several views of an image, whose candidates pass one NMS.

    NMS compares boxes at the size of the plain detector's input, so that a single view at that
    size, which is not mirrored, gives the detections of the plain detector.

    Args:
        image: (H, W, 3) uint8, channels in the network's order.
        settings: which views.
        resize: an image to height and width.
        find_candidates: of the network.
        suppress: NMS.

    Returns:
        Detections in pixels of the image, best first.
    """
    size = resized_shape(size_of(image), settings.min_size, settings.max_size)
    parts = []
    for min_size in settings.augment_min_sizes:
        shape = resized_shape(size_of(image), min_size, settings.augment_max_size)
        view = resize(image, *shape)
        views = [view, view[:, ::-1]] if settings.augment_flip else [view]
        plain, *mirrored = find_candidates(views)
        parts += [found.scaled(size) for found in (plain, *(m.mirrored() for m in mirrored))]
    candidates = ImageDetections.cat(parts)
    kept = suppress(candidates)
    if settings.augment_merge == "vote":
        kept = vote(kept, candidates, settings.nms_threshold)
    return kept.at_size(size_of(image))
