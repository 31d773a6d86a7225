"""Ways to damage what a user gives to a command."""

import contextlib
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reference.tiny import Pair


def change(pair: Pair, action: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a json in place."""
    content = pair.content
    action(content)
    pair.json_file.write_text(json.dumps(content))


def rename_class(pair: Pair) -> None:
    """Call the first category of a json "spot"."""
    change(pair, lambda content: content["categories"][0].update(name="spot"))


def cut_short(file: Path) -> None:
    """Leave the first half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path, text: bytes = b"") -> None:
    """Flip a bit of a text in the file, or in its middle."""
    content = bytearray(file.read_bytes())
    content[content.index(text) if text else len(content) // 2] ^= 1
    file.write_bytes(content)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write more bytes into a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
