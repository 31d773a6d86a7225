"""Prediction inputs that are no files: cameras, and addresses of the network.

An address may hold a password, so it stands in no name, file or message: a stream is called by its
host and path.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ..runtime.inputs import IMAGE_SUFFIXES, Source, UnreadableError, open_capture

_SCHEMES = ("http", "https", "rtsp", "rtsps")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_LONGEST_NAME = 100  # characters
_HIGHEST_RATE = 240  # frames per second; some live streams state the rate of their clock


def split_inputs(
    inputs: Sequence[str | Path], *, ignored: Path | None = None
) -> tuple[list[Source], list[Path]]:
    """Tell cameras and addresses from files and folders.

    A number is a camera, and a pattern such as ``photos/*.jpg`` what matches it, where no file has
    that name. ``~`` is the home folder.

    Args:
        inputs: as the user wrote them.
        ignored: a folder that patterns do not look into, such as that of earlier predictions.

    Returns:
        Streams, not yet opened, and paths.

    Raises:
        ValueError: an address is of another scheme, or nothing matches a pattern.
    """
    streams: list[Source] = []
    paths: list[Path] = []
    for item in map(str, inputs):
        path = Path(item).expanduser()
        if os.path.lexists(path):
            paths.append(path)
        elif item.isascii() and item.isdecimal():
            streams.append(_stream(f"camera-{int(item)}", int(item)))
        elif scheme := _SCHEME.match(item):
            streams.append(_stream(_name_of(item, scheme[1].lower()), item))
        elif glob.has_magic(str(path)):
            paths += _matches(path, ignored)
        else:
            paths.append(path)
    return streams, paths


def _stream(name: str, address: str | int) -> Source:
    is_image = Path(name).suffix.lower() in IMAGE_SUFFIXES
    return Source(Path(name), name, is_video=not is_image, num_frames=0, address=address)


def _name_of(address: str, scheme: str) -> str:
    """Join host and path; what may be a password is left out, such as ``password=x``.

    Raises:
        ValueError: the scheme is not known; the address is not shown.
    """
    if scheme not in _SCHEMES:
        raise ValueError(
            f"an input is an address of {scheme}, which is not read; there are "
            f"{', '.join(_SCHEMES)}."
        )
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError(f"an input is an address of {scheme} that is not valid.") from None
    is_cut = "@" not in parts.netloc and "@" in address  # at a / ? or # of the password
    words = [] if is_cut else [host, *parts.path.split("/")]
    safe = [word for word in words if re.fullmatch(r"(?!\.+$)[\w.:-]+", word, re.ASCII)]
    name = "-".join(safe).replace(":", "-").strip("-.")
    return name[-_LONGEST_NAME:] or f"{scheme}-stream"


def _matches(pattern: Path, ignored: Path | None) -> list[Path]:
    found = map(Path, sorted(glob.glob(str(pattern), recursive=True)))
    outside = [path for path in found if not ignored or not _is_within(path, ignored)]
    if not outside:
        raise ValueError(f"no file matches the pattern {pattern}.")
    return outside


def _is_within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def probe_stream(source: Source) -> Source:
    """Open a stream up to its first frame.

    Args:
        source: of :func:`split_inputs`.

    Returns:
        The source with its frame rate, and the number of frames where the stream has an end.

    Raises:
        UnreadableError: by the name of the stream.
    """
    import cv2

    assert source.address is not None
    capture = open_capture(source.address)
    try:
        if not capture.isOpened() or not capture.grab():
            is_camera = isinstance(source.address, int)
            kind = "video" if source.is_video else "image"
            reason = (
                "there is no such camera, or another program has it"
                if is_camera
                else f"nothing answers there, it asks for a password, or it sends no {kind}"
            )
            raise UnreadableError(f"{source.name} can't be read ({reason})")
        count, rate = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    if not source.is_video:
        return replace(source, num_frames=1)
    has_end = isinstance(source.address, str) and count > 0
    source = replace(source, num_frames=int(count) if has_end else 0)
    return replace(source, frame_rate=rate) if 0 < rate <= _HIGHEST_RATE else source


def put_live_last(sources: Sequence[Source]) -> list[Source]:
    """Order sources such that the stream without an end is read when all others are done.

    Raises:
        ValueError: there are several, or two streams have one name.
    """
    live = [source.name for source in sources if source.is_live]
    if len(live) > 1:
        raise ValueError(
            f"{' and '.join(live)} have no end, so that only the first would be read; predict on "
            "one at a time."
        )
    counts = Counter(source.name for source in sources if source.address is not None)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"two streams are both called {twice[0]}; predict on one at a time.")
    return sorted(sources, key=lambda source: source.is_live)
