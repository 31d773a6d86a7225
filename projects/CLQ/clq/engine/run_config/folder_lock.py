"""One run at a time in an output folder."""

import contextlib
import fcntl
import os
import socket
from pathlib import Path

LOCK = ".lock"
_held: dict[Path, int] = {}  # file descriptors; closing any one of a file would unlock it


def lock_folder(folder: Path) -> None:
    """Keep other processes from running in a folder until :func:`unlock_folders`.

    The system drops the lock when this process ends, however it ends. Worker processes do not
    inherit it. Where the file system has no locks, there is none.

    Raises:
        ValueError: another process runs in the folder.
    """
    path = folder.resolve() / LOCK
    while path not in _held:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise ValueError(
                f"{holder} runs in OUTPUT_DIR {folder}; wait for its end, or name another."
            ) from None
        except OSError:
            os.close(handle)
            return
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
                _held[path] = handle
                return
        os.close(handle)  # its holder has just removed it


def unlock_folders() -> None:
    """Unlock what this process has locked."""
    while _held:
        path, handle = _held.popitem()
        with contextlib.suppress(OSError):  # the folder may be gone, or read-only by now
            path.unlink()
        os.close(handle)
