"""A checkpoint of a few channels that detects something, and files to detect in."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clq.checkpoint import write_detector
from clq.config.serialize import dump_config
from clq.runtime.detections import ImageDetections
from reference.mmdet_style import random_detector, small_config

CLASS_NAMES = ["arc", "bar", "cog", "dot", "elk"]
SIZES = {"INPUT.MIN_SIZE_TEST": 80, "INPUT.MAX_SIZE_TEST": 120}


def write_checkpoint(path: Path, image_format: str = "BGR") -> Path:
    """Random weights with their configuration and five class names."""
    cfg = small_config({**SIZES, "INPUT.FORMAT": image_format})
    write_detector(path, random_detector(cfg).state_dict(), dump_config(cfg), CLASS_NAMES)
    return path


def detections(boxes: list, scores: list, classes: list, size: tuple[int, int]) -> ImageDetections:
    """Detections of lists, which may be empty."""
    return ImageDetections(
        size,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(scores, dtype=np.float32),
        np.array(classes, dtype=np.int64),
    )


def pixels(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """A coarse pattern, so that enlarging and compressing leave it as it is; (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def write_image(path: Path, seed: int = 0, **options: object) -> Path:
    """An image of 60 x 90 pixels at a path whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed=seed)).save(path, **options)
    return path


def write_video(path: Path, num_frames: int = 4, code: str = "MJPG") -> Path:
    """A video of 60 x 90 pixels and 10 frames a second, each frame another pattern."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, (90, 60))
    assert writer.isOpened()
    for i in range(num_frames):
        writer.write(pixels(seed=i))
    writer.release()
    return path


def read_video(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return frames
