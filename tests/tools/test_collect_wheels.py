"""The collector of wheels, with an interpreter that notes what it is asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reference.tiny import ROOT

BASH = f"#!{shutil.which('bash')}"
SCRIPT = ROOT / "tools" / "collect_wheels.sh"
# Stands in for Python: pip download and pip wheel leave small wheels, the builder a large one.
PYTHON = """
echo "$*" >>"$NOTES"
last="${@: -1}"
case "$*" in
*"pip --disable-pip-version-check --quiet download"*archive.txt*)
    touch "$last/pb1-detectron2-0.6.tar.gz" ;;
*"quiet download"*)
    cp "$last" "$NOTES.binary"
    for ((i = 1; i <= $#; i++)); do [[ ${!i} == -d ]] && next=$((i + 1)) && folder=${!next}; done
    touch "$folder/tqdm-1-py3-none-any.whl" ;;
*"quiet wheel"*)
    for ((i = 1; i <= $#; i++)); do [[ ${!i} == -w ]] && next=$((i + 1)) && folder=${!next}; done
    for name in antlr4_python3_runtime fvcore iopath; do
        touch "$folder/$name-1-${TAG:-py3-none-any}.whl"
    done ;;
*build_detectron2_wheel.py*) head -c "${BYTES:-9}" /dev/zero >"$last/detectron2-0.6-py3.whl" ;;
*) echo "pb1-detectron2==0.6" ;;
esac
"""


@pytest.fixture
def collect(tmp_path: Path):
    python = tmp_path / "python"
    python.write_text(BASH + PYTHON)
    python.chmod(0o755)

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        notes = {"PYTHON": str(python), "NOTES": str(tmp_path / "notes"), **variables}
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env={**os.environ, **notes},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_help_teaches(collect):
    done = collect("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: tools/collect_wheels.sh")
    assert len(done.stdout.split()) > 100


@pytest.mark.parametrize("arguments", [(), ("3.12",), ("3.9", "wheels"), ("wheels", "3.12")])
def test_other_arguments_are_refused(collect, tmp_path: Path, arguments: tuple[str, ...]):
    done = collect(*arguments)
    assert done.returncode == 2 and done.stderr and not (tmp_path / "notes").exists()


def test_everything_is_fetched_in_the_pinned_versions(collect, tmp_path: Path):
    done = collect("3.12", str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"5 wheels, 0 MB, for Python 3.12: {tmp_path / 'wheels'}\n"
    pinned = set((ROOT / "requirements.txt").read_text().splitlines())
    asked = (tmp_path / "notes.binary").read_text().splitlines()
    assert set(asked) <= pinned and len(asked) > 25
    names = {line.split("==")[0] for line in asked}
    assert {"hotcoco", "pytest", "matplotlib"} <= names
    assert not {"torch", "torchvision", "numpy", "pillow", "opencv-python-headless"} & names
    notes = (tmp_path / "notes").read_text()
    assert "--python-version 3.12" in notes and "--platform manylinux_2_28_x86_64" in notes


def test_a_second_run_does_not_build_detectron2_again(collect, tmp_path: Path):
    for _ in range(2):
        assert collect("3.11", str(tmp_path / "wheels")).returncode == 0
    assert (tmp_path / "notes").read_text().count("tools/build_detectron2_wheel.py") == 1


def test_more_than_40_mb_are_told(collect, tmp_path: Path):
    done = collect("3.12", str(tmp_path / "wheels"), BYTES="40000001")
    assert done.returncode == 1 and "more than 40 MB" in done.stderr


def test_a_wheel_of_this_machine_is_refused(collect, tmp_path: Path):
    done = collect("3.12", str(tmp_path / "wheels"), TAG="cp311-cp311-linux_x86_64")
    assert done.returncode == 1 and "for this machine alone" in done.stderr
