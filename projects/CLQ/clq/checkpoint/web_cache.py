"""Files of the web, kept under a name that their whole address decides."""

import hashlib
import logging
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from iopath.common.file_io import HTTPURLHandler, file_lock, get_cache_dir

from ..utils.atomic_write import open_atomically

logger = logging.getLogger(__name__)

_TIMEOUT = 30  # seconds without a byte


class WebPathHandler(HTTPURLHandler):
    """Path handler of web addresses, whose files neither meet nor leave the cache's folder."""

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        """
        Raises:
            OSError: the file can't be fetched.
            ValueError: no such address can be.
        """
        parts = urlsplit(path)
        if not parts.hostname or ".." in unquote(parts.path).replace("\\", "/").split("/"):
            raise ValueError(f"the address {path} has no server, or '..' in it; give another.")
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        key = hashlib.sha256(path.encode()).hexdigest()
        name = re.sub(r"[^\w.-]", "_", unquote(parts.path).rpartition("/")[2])[-100:] or "file"
        cached = Path(get_cache_dir(cache_dir)) / "web" / key / name
        cached.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(cached)):
            if force or not cached.is_file():
                _download(path, shown, cached)
        return str(cached)


def _download(address: str, shown: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:
            size = response.headers.get("Content-Length", "")
            amount = f"{int(size) / 1e6:.1f} MB" if size.isdecimal() else "of unknown size"
            logger.info("Downloading %s (%s).", shown, amount)
            with open_atomically(target) as file:
                shutil.copyfileobj(response, file)
                if size.isdecimal() and file.tell() != int(size):
                    raise OSError(f"{file.tell()} of {size} bytes came")
    except (OSError, ValueError) as error:  # ValueError: of a malformed address
        raise OSError(f"{shown} could not be fetched ({error}).") from error
