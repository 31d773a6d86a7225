"""Ids of a data set's own json, for predictions that its tools can take."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..data.coco.findings import describe_errors
from ..data.coco.validate import load_and_validate
from ..data.formats.source import is_json, resolve_data
from ..runtime.inputs import Source


class DataIds:
    """Category and image ids of a data set, by class name and file name."""

    def __init__(self, json_file: str | Path) -> None:
        """
        Args:
            json_file: a COCO json, which needs no annotations, or data of another format, of which
                the split ``val`` counts where the path names none.

        Raises:
            OSError: a file can't be read.
            ValueError: naming what is wrong with it.
        """
        self._file = json_file
        if not is_json(json_file):
            json_file = resolve_data(json_file, role="val").json_file
        table = load_and_validate(json_file, needs_labels=False)
        if table.errors:
            raise ValueError(f"--ids-from: {describe_errors(table.errors, json_file)}.")
        self._categories = dict(zip(table.class_names, table.category_ids, strict=True))
        self._images: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for name, id_ in zip(table.file_names, table.image_ids.tolist(), strict=True):
            self._images[PurePosixPath(name).parts].append(id_)

    def of_classes(self, class_names: Sequence[str]) -> list[int]:
        """Return the category ids of a detector's classes.

        Raises:
            ValueError: naming the classes that the data does not have.
        """
        unknown = [name for name in class_names if name not in self._categories]
        if unknown:
            raise ValueError(
                f"{self._file} of --ids-from has no category of the name {unknown[0]!r}, which the "
                f"weights have learned; it has {list(self._categories)}."
            )
        return [self._categories[name] for name in class_names]

    def of_images(self, sources: Sequence[Source]) -> dict[str, int]:
        """Return the image ids of inputs, by their names.

        An input is the image whose file name ends as its path does; of several, the longest.

        Raises:
            ValueError: naming a video, or an input that is none or more than one of the images.
        """
        ids = {source.name: self._image_id(source) for source in sources}
        owners: dict[int, str] = {}
        for name, id_ in ids.items():
            if owners.setdefault(id_, name) != name:
                raise ValueError(
                    f"{owners[id_]} and {name} are both image {id_} of {self._file} by their "
                    "names; give one of them."
                )
        return ids

    def _image_id(self, source: Source) -> int:
        parts = source.path.absolute().parts
        endings = (parts[start:] for start in range(len(parts)))
        ids = next((self._images[ending] for ending in endings if ending in self._images), [])
        if source.is_video or len(ids) != 1:
            number = "several images" if ids else "no image"
            raise ValueError(
                f"{source.path} is {number} of {self._file} by its name; --ids-from takes only "
                "images of that data, in the folders that it names."
            )
        return ids[0]
