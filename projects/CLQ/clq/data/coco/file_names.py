"""File names of a json that are written otherwise than those in the folder."""

import itertools
import os
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from .findings import quote_unprintable

_MOST_FILES = 100_000  # to look through


def hint_at_file(image_root: str | Path, name: str) -> str:
    """Tell which file a missing name of a json may mean: a clause for a sentence, or nothing.

    It is one in the folder or below whose own name differs in nothing but letter case, escapes of
    an address, forms of accents, blanks at its ends, or else its suffix.

    Args:
        image_root: folder that the json's file names start from.
        name: as it stands in the json.
    """
    wanted = _plain(name)
    stem, nearest = PurePosixPath(wanted).stem, ""
    folders = os.walk(image_root)
    files = (os.path.join(folder, file) for folder, _, names in folders for file in names)
    for path in itertools.islice(files, _MOST_FILES):
        found = _plain(path)
        if found == wanted:
            nearest = path
            break
        if not nearest and PurePosixPath(found).stem == stem:
            nearest = path
    if not nearest:
        return ""
    shown = quote_unprintable(os.path.relpath(nearest, image_root))
    return f"; if it is {shown}, write that as its file_name"


def _plain(name: str) -> str:
    """Return the last part of a name without what systems and tools write differently."""
    last = unquote(name).replace("\\", "/").rpartition("/")[2]
    return unicodedata.normalize("NFKC", last.strip()).casefold()
