"""Files that are there whole or not at all, even after a crash."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write and read, which gets its name only when all of it is on disk.

    Args:
        path: final name; a file or a symbolic link of that name is replaced, missing parent folders
            are made. The permissions are those of the umask.

    Raises:
        OSError: the file can't be written, which the error names; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = str(path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}"))
    handle = _create(scratch, path)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException as error:
        Path(scratch).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, scratch):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    _sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """:func:`open_atomically` for a file whose bytes are at hand."""
    with open_atomically(path) as file:
        file.write(content)


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError raised within the context into a sentence that names the path."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} can't be written ({error.strerror or error}).") from error


def _create(scratch: str, path: Path) -> int:
    try:
        return os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync_folder(folder: Path) -> None:
    """Put the new name itself on disk, where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
