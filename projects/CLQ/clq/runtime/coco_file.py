"""Detections as COCO json.

Letters: K classes, P detections of an image.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..utils.atomic_write import explain_write_errors, open_atomically
from .detections import ImageDetections

JSON_NAME = "predictions.json"  # in the folder of a prediction's output


def make_folder(output: Path) -> None:
    """Create the output folder of a prediction, and check that it is writable.

    Raises:
        OSError: it is not.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise OSError(
            f"the folder {output} can't be written ({error.strerror or error}); name another by "
            "--output."
        ) from error


def xywh(boxes: np.ndarray) -> np.ndarray:
    """Convert boxes xyxy, (P, 4), to x, y, width and height."""
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


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

    def add(self, file_name: str, found: ImageDetections, frame: int | None = None) -> None:
        """Add an image or a frame of a video.

        Args:
            file_name: of the image or the video.
            found: in its pixels.
            frame: index of the frame in its video.
        """
        height, width = found.image_size
        id_ = self._image_ids.get(file_name, len(self._images) + 1)
        image = {"id": id_, "file_name": file_name}
        number = {} if frame is None else {"frame": frame}
        self._images.append({**image, **number, "width": width, "height": height})
        columns = (xywh(found.boxes), found.scores[:, None], found.classes[:, None])
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
        with explain_write_errors(path), open_atomically(path) as file:
            file.write(f'{head[:-1]}, "annotations": '.encode())
            self._write_list(file, lambda annotation: annotation)
            file.write(b"}\n")

    def write_results(self, path: Path) -> None:
        """Write the list of detections alone, which pycocotools' ``loadRes`` reads, atomically.

        Raises:
            OSError: naming the path.
        """
        keys = ("image_id", "category_id", "bbox", "score")
        with explain_write_errors(path), open_atomically(path) as file:
            self._write_list(file, lambda annotation: {key: annotation[key] for key in keys})

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
