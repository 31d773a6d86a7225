"""Prediction outputs: drawings as images and videos, and a COCO json.

Letters: H, W height and width of a drawing in pixels, K classes, P detections of an image.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from detectron2.structures import BoxMode, Instances
from PIL import Image

from ..utils.atomic_write import open_atomically
from .inputs import IMAGE_SUFFIXES, Source

if TYPE_CHECKING:
    import cv2

Write = Callable[[np.ndarray], None]


def drawing_name(source: Source) -> str:
    """Name the drawing of an input: the input's own name if that format can be written."""
    if source.is_video:
        return source.name if source.name.lower().endswith(".mp4") else f"{source.name}.mp4"
    is_known = source.path.suffix.lower() in IMAGE_SUFFIXES
    return source.name if is_known else f"{source.name}.png"


@contextlib.contextmanager
def drawing_writer(source: Source, path: Path) -> Iterator[Write]:
    """Open a writer for the drawings of an input, (H, W, 3) uint8 RGB.

    Args:
        source: the input.
        path: of the file to write; missing parent folders are created.

    Raises:
        OSError: naming the path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_video:
            yield lambda drawing: _write_image(drawing, path)
            return
        with VideoFile(path, source.frame_rate) as video:
            yield video.write
    except OSError as error:
        raise OSError(f"{path} can't be written ({error.strerror or error}).") from error


def _write_image(drawing: np.ndarray, path: Path) -> None:
    kind = Image.registered_extensions()[path.suffix.lower()]
    with open_atomically(path) as file:
        Image.fromarray(drawing).save(file, format=kind)


class VideoFile:
    """MPEG-4 video without sound, renamed to its final path when it is complete."""

    def __init__(self, path: Path, frame_rate: float) -> None:
        """
        Args:
            path: ends in ``.mp4``; a file of that name is replaced.
            frame_rate: frames a second.
        """
        self._path = path
        self._scratch = path.with_name(f".{path.name}.part.mp4")
        self._frame_rate = frame_rate
        self._writer: "cv2.VideoWriter | None" = None

    def __enter__(self) -> "VideoFile":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 RGB; all of one size.

        Raises:
            OSError: the file can't be opened.
        """
        if self._writer is None:
            import cv2

            self._scratch.unlink(missing_ok=True)  # OpenCV would follow a link
            height, width = frame.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            size = (width, height)
            self._writer = cv2.VideoWriter(str(self._scratch), code, self._frame_rate, size)
            if not self._writer.isOpened():
                raise OSError("OpenCV can't open it or has no MPEG-4 encoder")
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if error is None and self._scratch.exists():
            self._scratch.replace(self._path)
        else:
            self._scratch.unlink(missing_ok=True)


class CocoFile:
    """Collects detections and writes them as COCO json.

    Unless ids are given, categories and images count from 1. Until written, a detection takes 24
    bytes.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        info: dict[str, Any],
        *,
        category_ids: Sequence[int] | None = None,
        image_ids: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            class_names: by class index.
            info: written as the json's ``info``.
            category_ids: by class index.
            image_ids: by file name.
        """
        self._category_ids = category_ids or range(1, len(class_names) + 1)
        self._image_ids = image_ids or {}
        self._class_names = class_names
        self._info = info
        self._images: list[dict[str, Any]] = []
        self._rows: list[np.ndarray] = []  # x, y, width, height, score, class index; (P, 6) each
        self.num_detections = 0

    def add(self, file_name: str, found: Instances, frame: int | None = None) -> None:
        """Add an image or a frame of a video.

        Args:
            file_name: of the image or the video.
            found: ``pred_boxes``, ``scores`` and ``pred_classes``, on CPU.
            frame: index of the frame in its video.
        """
        height, width = found.image_size
        id_ = self._image_ids.get(file_name, len(self._images) + 1)
        image = {"id": id_, "file_name": file_name}
        number = {} if frame is None else {"frame": frame}
        self._images.append({**image, **number, "width": width, "height": height})
        boxes = BoxMode.convert(found.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns = (boxes, found.scores[:, None], found.pred_classes[:, None])
        self._rows.append(np.concatenate([np.asarray(c, np.float32) for c in columns], axis=1))
        self.num_detections += len(found)

    def write(self, path: Path) -> None:
        """Write the json atomically, one annotation at a time.

        Raises:
            OSError: naming the path.
        """
        categories = [
            {"id": id_, "name": name}
            for id_, name in zip(self._category_ids, self._class_names, strict=True)
        ]
        head = json.dumps({"info": self._info, "categories": categories, "images": self._images})
        try:
            with open_atomically(path) as file:
                file.write(f'{head[:-1]}, "annotations": '.encode())
                self._write_list(file, lambda annotation: annotation)
                file.write(b"}\n")
        except OSError as error:
            raise OSError(f"{path} can't be written ({error.strerror or error}).") from error

    def write_results(self, path: Path) -> None:
        """Write the list of detections alone, which pycocotools' ``loadRes`` reads, atomically.

        Raises:
            OSError: naming the path.
        """
        keys = ("image_id", "category_id", "bbox", "score")
        try:
            with open_atomically(path) as file:
                self._write_list(file, lambda annotation: {key: annotation[key] for key in keys})
        except OSError as error:
            raise OSError(f"{path} can't be written ({error.strerror or error}).") from error

    def _write_list(self, file: IO[bytes], select: Callable[[dict[str, Any]], Any]) -> None:
        file.write(b"[")
        for i, annotation in enumerate(self._annotations()):
            file.write(f"{',' if i else ''}\n{json.dumps(select(annotation))}".encode())
        file.write(b"\n]")

    def _annotations(self) -> Iterator[dict[str, Any]]:
        id_ = 0
        for image, rows in zip(self._images, self._rows):
            for *box, score, k in rows.tolist():
                id_ += 1
                yield {
                    "id": id_,
                    "image_id": image["id"],
                    "category_id": self._category_ids[int(k)],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
