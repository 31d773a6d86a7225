"""A seal on a checkpoint: the hash of its bytes, kept inside as the comment of the zip archive.

PyTorch reads an archive whose bits have flipped without a word.
"""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

__all__ = ["DamagedFile", "check_intact", "seal"]

_PREFIX = b"sha256:"
_COMMENT_SIZE = len(_PREFIX) + 64  # the digest in hexadecimal
_SIZE = _COMMENT_SIZE.to_bytes(2, "little")
# The last record of an archive ends in the size of the comment, two bytes, and the comment.
_RECORD = b"PK\x05\x06"
_RECORD_SIZE = 22
_NO_COMMENT = b"\0\0"
_CHUNK = 1 << 20


class DamagedFile(ValueError):
    """A file whose bytes are not those that were written; the message names it."""


def seal(file: BinaryIO) -> None:
    """Add the seal to a checkpoint that ``torch.save`` has just written.

    Args:
        file: open for reading and writing; all of it is the archive, without a comment.
    """
    digest = _digest(file, file.seek(0, os.SEEK_END) - len(_NO_COMMENT))
    file.seek(-len(_NO_COMMENT), os.SEEK_END)
    file.write(_SIZE + _PREFIX + digest)


def check_intact(path: Path, *, must_be_sealed: bool = False) -> None:
    """Refuse a checkpoint that is cut short or whose bytes are not those that were written.

    Args:
        path: a zip archive of PyTorch. One without a seal is checked by the sums of its members.
        must_be_sealed: count a missing seal as damage.

    Raises:
        DamagedFile: naming the file.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _COMMENT_SIZE - _RECORD_SIZE, 0))
        end = file.read()
        is_sealed = end.startswith(_RECORD) and end[_RECORD_SIZE - 2 :].startswith(_SIZE + _PREFIX)
        if is_sealed:
            written = end[_RECORD_SIZE + len(_PREFIX) :]
            is_intact = _digest(file, size - _COMMENT_SIZE - len(_NO_COMMENT)) == written
        else:
            is_intact = not must_be_sealed and _members_are_intact(file)
    if not is_intact:
        raise DamagedFile(f"{path} is damaged: its bytes are not those that were written.")


def _digest(file: BinaryIO, size: int) -> bytes:
    """Hash the first ``size`` bytes and what follows them where there is no comment."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    digest.update(_NO_COMMENT)
    return digest.hexdigest().encode()


def _members_are_intact(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError):
        return False
