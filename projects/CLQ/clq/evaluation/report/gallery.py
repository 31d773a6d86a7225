"""Images for the report: the worst, what was missed or made up, and labels that look wrong."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .readings import SUSPECT_NAMES, counted, number
from .thumbnails import Box, Marks, Thumbnail, ThumbnailMaker

Facts = Mapping[str, Any]

_NUM_SUSPECTS = 24


@dataclass(frozen=True)
class Picture:
    """A thumbnail with its caption.

    Attributes:
        thumbnail: None where the image can't be read.
        title: what is to be seen.
        caption: of which image.
    """

    thumbnail: Thumbnail | None
    title: str
    caption: str


class Gallery:
    """Pictures of one data set."""

    def __init__(
        self,
        maker: ThumbnailMaker,
        truth: Facts,
        detections: Iterable[Facts],
        class_names: Sequence[str],
        threshold: float,
    ) -> None:
        """
        Args:
            maker: draws images of the data set.
            truth: COCO dict.
            detections: COCO results.
            class_names: by ascending category id.
            threshold: lowest score of a detection to draw.
        """
        self._maker = maker
        self._names = class_names
        self._truth = _boxes_by_image(truth["annotations"])
        self._found = _boxes_by_image(d for d in detections if d["score"] >= threshold)

    def worst_images(self, rows: Sequence[Facts]) -> list[Picture]:
        """Draw whole images with ground truth and detections."""
        return [
            self.whole_image(
                row,
                f"costs {number(row['loss'], 2)} points of AP",
                f"{row['file_name']}: {row['found']} found, {row['missed']} missed, "
                f"{counted(row['false'], 'false detection')}",
            )
            for row in rows
        ]

    def whole_image(self, row: Facts, title: str, caption: str) -> Picture:
        """Draw a whole image with ground truth and detections."""
        image_id = row["image_id"]
        marks = Marks(truth=self._truth[image_id], found=self._found[image_id])
        return Picture(self._maker.whole(row["file_name"], marks), title, caption)

    def missed_objects(self, rows: Sequence[Facts]) -> list[Picture]:
        """Draw missed objects with the detections around."""
        return [
            Picture(
                self._crop(row, Marks(found=self._found[row["image_id"]], subject=[row["bbox"]])),
                self._names[row["label"]],
                f"{row['file_name']}, {_size(row['bbox'])}",
            )
            for row in rows
        ]

    def false_detections(self, rows: Sequence[Facts]) -> list[Picture]:
        """Draw false detections with the ground truth around."""
        return [
            Picture(
                self._crop(row, Marks(truth=self._truth[row["image_id"]], subject=[row["bbox"]])),
                f"{self._names[row['label']]}, score {number(row['score'], 2)}",
                f"{row['file_name']}, {_size(row['bbox'])}",
            )
            for row in rows
        ]

    def suspects(self, rows: Sequence[Facts]) -> list[Picture]:
        """Draw the most suspicious labels among others, with what the detector would suggest."""
        return [
            Picture(
                self._crop(
                    row,
                    Marks(
                        truth=self._truth[row["image_id"]],
                        found=_suggested(row),
                        subject=[row["bbox"]],
                    ),
                ),
                self._suspicion(row),
                f"{row['file_name']}, {_size(row['bbox'])}, suspicion {number(row['score'], 2)}",
            )
            for row in rows[:_NUM_SUSPECTS]
        ]

    def _suspicion(self, row: Facts) -> str:
        kind, name, suggested = row["kind"], self._names[row["label"]], row["suggested"]
        if kind == "class" and suggested:
            return f"{name}: perhaps {self._names[suggested['label']]}"
        return f"{name}: {SUSPECT_NAMES[kind]}"

    def _crop(self, row: Facts, marks: Marks) -> Thumbnail | None:
        return self._maker.crop(row["file_name"], marks)


def _boxes_by_image(entries: Iterable[Facts]) -> defaultdict[Any, list[Box]]:
    boxes: defaultdict[Any, list[Box]] = defaultdict(list)
    for entry in entries:
        boxes[entry["image_id"]].append(entry["bbox"])
    return boxes


def _suggested(row: Facts) -> list[Box]:
    """Return the box that the detector suggests where it differs from the subject."""
    suggested = row["suggested"]
    return [suggested["bbox"]] if suggested and row["kind"] == "box" else []


def _size(box: Box) -> str:
    return f"{box[2]:.0f} × {box[3]:.0f} pixels"
