"""Detections of many images as one COCO json.

Letters: K classes, P detections of an image.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode, Instances

from ..utils.atomic_write import open_atomically


class CocoFile:
    """Collects detections and writes them with their images and categories.

    Category ids are 1 .. K in the order of the class indices. Until it is written, a detection is
    six numbers.
    """

    def __init__(self, class_names: Sequence[str], info: dict[str, Any]) -> None:
        """
        Args:
            class_names: by class index.
            info: where all this is from.
        """
        self._class_names = class_names
        self._info = info
        self._images: list[dict[str, Any]] = []
        self._rows: list[np.ndarray] = []  # x, y, width, height, score, class index; (P, 6) each
        self.num_detections = 0

    def add(self, file_name: str, found: Instances, frame: int | None = None) -> None:
        """Add an image or a frame of a video.

        Args:
            file_name: of the image or the video.
            found: ``pred_boxes``, ``scores`` and ``pred_classes``, on the host, with the height and
                width of the image.
            frame: number of the frame in its video, from 0.
        """
        height, width = found.image_size
        image = {"id": len(self._images) + 1, "file_name": file_name}
        number = {} if frame is None else {"frame": frame}
        self._images.append({**image, **number, "width": width, "height": height})
        boxes = BoxMode.convert(found.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns = (boxes, found.scores[:, None], found.pred_classes[:, None])
        self._rows.append(np.concatenate([np.asarray(c, np.float32) for c in columns], axis=1))
        self.num_detections += len(found)

    def write(self, path: Path) -> None:
        """Write the json, whole or not at all.

        Raises:
            OSError: naming the path.
        """
        categories = [{"id": k, "name": name} for k, name in enumerate(self._class_names, start=1)]
        parts = {
            "info": [json.dumps(self._info)],
            "categories": [json.dumps(categories)],
            "images": _list_of(self._images),
            "annotations": _list_of(self._annotations()),
        }
        try:
            with open_atomically(path) as file:
                for i, (name, texts) in enumerate(parts.items()):
                    file.write(f"{',' if i else '{'}\n{json.dumps(name)}: ".encode())
                    file.writelines(text.encode() for text in texts)
                file.write(b"\n}\n")
        except OSError as error:
            raise OSError(f"{path} can't be written ({error.strerror or error}).") from error

    def _annotations(self) -> Iterator[dict[str, Any]]:
        id_ = 0
        for image, rows in zip(self._images, self._rows):
            for *box, score, k in rows.tolist():
                id_ += 1
                yield {
                    "id": id_,
                    "image_id": image["id"],
                    "category_id": int(k) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }


def _list_of(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The texts of a json list, an item a line."""
    yield "["
    for i, item in enumerate(items):
        yield f"{',' if i else ''}\n{json.dumps(item)}"
    yield "]"
