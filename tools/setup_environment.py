#!/usr/bin/env python3
"""Make .venv with everything CLQ needs; this is what `make setup` runs.

In order: a new virtual environment, requirements.txt, Detectron2 (its source archive from the
package index, turned into a wheel by build_detectron2_wheel.py) and this package, editable.
A finished .venv carries a stamp of the files it was made from: a second run does nothing, and a
run after such a file changed updates it. A failed or interrupted first run leaves no .venv.
pip's full output is in setup.log.
"""

import argparse
import fcntl
import hashlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".clq-setup"  # empty while a setup runs, then its key
OUTDATED = "a failed update\n"
LOG = ROOT / "setup.log"
INPUTS = ("requirements.txt", "setup.cfg", "pyproject.toml", "tools/build_detectron2_wheel.py")
PYTHONS = ("3.11", "3.12", "3.13")
NOTE_SECONDS = 30  # how often a long step says that it still runs
REASONS = (  # what pip prints, and what a person can do about it
    (
        "DO NOT MATCH THE HASHES",
        "a file from the package index does not have the expected hash and was refused: "
        "see which index `pip config list` names, it serves another file",
    ),
    (
        "ensurepip is not available",
        "this Python lacks its venv package (on Debian and Ubuntu: apt install python3-venv)",
    ),
    ("No space left on device", "the disk is full: free about 8 GB"),
    (
        "connection broken by|Max retries exceeded|Read timed out|from versions: none",
        "the package index cannot be reached: check the network, or set PIP_INDEX_URL to a mirror",
    ),
)


class SetupError(Exception):
    """Setup cannot go on; the message is one sentence for the user."""


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"make setup: {text}", flush=True)


def setup_key() -> str:
    """Return the hash of all that .venv is made from, its place included."""
    contents = [(ROOT / name).read_bytes() for name in INPUTS]
    return hashlib.sha256(b"\0".join([str(VENV).encode(), *contents])).hexdigest()


def stamp() -> str:
    """Return the stamp of a finished .venv, or "" if there is none."""
    usable = (VENV / "bin" / "python").exists() and STAMP.is_file()
    return STAMP.read_text() if usable else ""


def check_python() -> None:
    """Raise SetupError unless this interpreter can make the environment."""
    if "{}.{}".format(*sys.version_info) not in PYTHONS:
        found = [f"python{version}" for version in PYTHONS if shutil.which(f"python{version}")]
        raise SetupError(
            f"CLQ needs Python {', '.join(PYTHONS)} but {sys.executable} is "
            f"{'.'.join(map(str, sys.version_info[:3]))}: {'' if found else 'install one and '}"
            f"run `make setup BASE_PYTHON={(found or ['python' + PYTHONS[0]])[0]}`."
        )


def remove_venv() -> None:
    """Remove .venv, by way of another name: an interrupted removal leaves no half of it."""
    trash = ROOT / ".venv-removed"
    shutil.rmtree(trash, ignore_errors=True)
    if VENV.exists():
        VENV.rename(trash)
        shutil.rmtree(trash)


def reason_of(output: str) -> str:
    """Condense the output of a failed command to one reason."""
    for pattern, reason in REASONS:
        if re.search(pattern, output):
            return reason
    lines = [line for line in output.splitlines() if line.strip()] or ["no output"]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines)[-1].replace("ERROR:", "").strip().rstrip(".")


def run(what: str, *command: str) -> None:
    """Run a command, its output appended to the log; raise SetupError with a reason if it fails."""
    begin, started = LOG.stat().st_size, time.monotonic()
    with LOG.open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None:
            try:
                process.wait(timeout=NOTE_SECONDS)
            except subprocess.TimeoutExpired:
                last = LOG.read_text(errors="replace").rstrip().split("\n")[-1].strip()[:70]
                say(f"  still {what}, {time.monotonic() - started:.0f} s: {last}")
    finally:
        process.terminate()  # on Ctrl-C; a finished process does not mind
        process.wait()
    if process.returncode:
        output = LOG.read_bytes()[begin:].decode(errors="replace")
        raise SetupError(f"{what} failed: {reason_of(output)} (full output in {LOG.name}).")


def install(folder: Path) -> None:
    """Fill .venv, with downloads in a temporary folder."""
    from build_detectron2_wheel import ARCHIVE_PIN, WheelBuildError, build_wheel

    python = str(VENV / "bin" / "python")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--no-input")
    say("installing requirements.txt (torch is about 5.7 GB on disk; a minute or more)")
    run("installing requirements.txt", *pip, "install", "-r", "requirements.txt")
    say("making Detectron2 from its source archive")
    pin = folder / "archive.txt"
    pin.write_text(f"{ARCHIVE_PIN}\n")
    options = ("--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(pin))
    run("downloading Detectron2", *pip, "download", *options, "-d", str(folder))
    try:
        wheel = build_wheel(folder / "pb1-detectron2-0.6.tar.gz", folder)
    except WheelBuildError as error:
        raise SetupError(str(error)) from error
    run("installing Detectron2", *pip, "install", "--no-deps", "--force-reinstall", str(wheel))
    say("installing this package and checking that everything imports")
    run("installing this package", *pip, "install", "--no-deps", "--no-build-isolation", "-e", ".")
    run("importing what was installed", python, "-c", "import cv2, hotcoco, detectron2, clq")


def make_environment(key: str) -> None:
    """Make or update .venv and stamp it with the key, or raise SetupError."""
    if VENV.exists() and any(VENV.iterdir()) and not STAMP.is_file():
        raise SetupError(".venv was not made by `make setup`: move it away and run it again.")
    is_update = stamp() != ""
    try:
        if is_update:
            say("updating .venv, because what it was made from changed")
            STAMP.write_text("")
        else:
            say(f"new virtual environment .venv (Python {sys.version.split()[0]})")
            remove_venv()
            VENV.mkdir()
            STAMP.touch()
            base = getattr(sys, "_base_executable", sys.executable)  # not an activated .venv's
            run("making .venv", base, "-m", "venv", str(VENV))
        with tempfile.TemporaryDirectory(prefix="clq-setup-") as folder:
            install(Path(folder))
        STAMP.write_text(key)
    except BaseException:
        if is_update:
            STAMP.write_text(OUTDATED)
        else:
            remove_venv()
        raise
    say("done")


def main() -> int:
    """Run the command line; return the exit code."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as on Ctrl-C
    try:
        key = setup_key()
        if stamp() == key:
            return 0
        check_python()
        with LOG.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits for the first
            lock.truncate(0)
            if stamp() != key:
                make_environment(key)
    except (SetupError, OSError) as error:
        print(f"make setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make setup: interrupted; run it again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
