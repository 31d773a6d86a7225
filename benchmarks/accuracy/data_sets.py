"""The data sets of the study, and the hold-out of each on which settings are chosen."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from clq.data import CocoFiles
from clq.data.demo_trees import prepare_trees
from clq.engine import RunOptions
from clq.utils.atomic_write import write_atomically

from .cells import TREES

SETTINGS = Path(__file__).parent
_HELD_OUT = 5  # one file in so many, about


class DataSet(NamedTuple):
    """A data set of the study.

    Attributes:
        name: in the results.
        settings: the config that all members share on it: backbone, schedule, augmentation.
        train: files to train on.
        val: files to evaluate on.
    """

    name: str
    settings: Path
    train: CocoFiles
    val: CocoFiles

    def options(self, opts: Sequence[str] = ()) -> RunOptions:
        """Options of a run on the data set, with further configuration keys and values."""
        train, val = (tuple(map(str, files)) for files in (self.train, self.val))
        return RunOptions(config_file=str(self.settings), train=train, val=val, opts=opts)


def trees() -> DataSet:
    """The demo's tree crowns, downloaded on first use.

    Raises:
        DownloadError: the photographs are not in the cache and can't be fetched.
    """
    files = prepare_trees()
    return DataSet(TREES, SETTINGS / "trees.yaml", files["train"], files["test"])


def hold_out(data: DataSet, folder: Path) -> DataSet:
    """Split the training files anew, to choose settings on images that no result is from.

    A fifth of them, by a hash of their names, are evaluated, and the others trained on.

    Args:
        data: whose evaluation files are left alone.
        folder: for the two json.
    """
    content = json.loads(data.train.json_file.read_text())
    held_out = {image["id"] for image in content["images"] if _is_held_out(image["file_name"])}
    files = []
    for part in ("train", "val"):
        chosen = {
            key: [x for x in content[key] if (x[id_key] in held_out) == (part == "val")]
            for key, id_key in (("images", "id"), ("annotations", "image_id"))
        }
        files.append(CocoFiles(folder / f"{data.name}_{part}.json", data.train.image_root))
        write_atomically(files[-1].json_file, json.dumps({**content, **chosen}).encode())
    return DataSet(f"{data.name}_hold_out", data.settings, *files)


def _is_held_out(file_name: str) -> bool:
    return hashlib.sha256(Path(file_name).name.encode()).digest()[0] % _HELD_OUT == 0
