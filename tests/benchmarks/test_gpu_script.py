"""The script for a machine with a GPU, with an interpreter that only notes what it is to run."""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reference.tiny import ROOT

BASH = f"#!{shutil.which('bash')}"
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
# Stands in for Python: notes its arguments; a part can be told to fail.
PYTHON = """
echo "$*" >>"$NOTES"
case "$*" in
*"-m pytest"*) part=tests ;;
*speed_cuda.py*) part=bench ;;
*benchmarks.accuracy*)
    part=study
    all=$* && csv=${all##*--results } && csv=${csv%% *}
    echo row >"$csv" && echo report >"${csv%.csv}.md" ;;
*torch.cuda.is_available*) exit "${NO_GPU:-0}" ;;
*) exit ;;
esac
echo "this is $part"
[[ $part != "${FAILING:-}" ]]
"""
# Stands in for timeout where the tests take too long.
TIMEOUT = """
[[ $* == *"-m pytest"* ]] && exit 124
exec "${@:4}"
"""


@pytest.fixture
def gpu(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    (tmp_path / "wheels").mkdir()
    for name in ("iopath-0.1.10-py3-none-any", "tqdm-4.70.1-py3-none-any"):
        (tmp_path / "wheels" / f"{name}.whl").touch()
    for name, text in (("python", BASH + PYTHON), ("nvidia-smi", "#!/bin/sh\necho a GPU\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        own = {"PYTHON": str(tmp_path / "python"), "NOTES": str(tmp_path / "notes")}
        path = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", str(SCRIPT), "--wheels", str(tmp_path / "wheels"), *arguments],
            env={**os.environ, **own, "PATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def commands(tmp_path: Path) -> dict[str, str]:
    """The command of each part, in order."""
    parts = {"-m pip": "install", "-m pytest": "tests", "speed_cuda.py": "bench"}
    parts["benchmarks.accuracy"] = "study"
    lines = (tmp_path / "notes").read_text().splitlines()
    found = [(name, line) for line in lines for key, name in parts.items() if key in line]
    return dict(found)


def test_help_teaches(gpu):
    done = gpu("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: benchmarks/gpu.sh")
    assert len(done.stdout.split()) > 200 and "CLQ_CACHE" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--device", "tpu", "out"),
        ("--device", "cpu", "out"),
        ("--quick",),
        ("--minutes", "0.5", "out"),
        ("--fast", "out"),
        ("one", "two"),
        ("--wheels", "nowhere", "out"),
        ("out", "--device"),
    ],
)
def test_other_arguments_are_refused(gpu, tmp_path: Path, arguments: tuple[str, ...]):
    done = gpu(*arguments)
    assert done.returncode == 2 and done.stderr and not (tmp_path / "notes").exists()


def test_the_parts_run_in_their_order_on_the_device(gpu, tmp_path: Path):
    output = tmp_path / "out"
    done = gpu(str(output), "--", "--data", "trees", "--seeds", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    found = commands(tmp_path)
    assert list(found) == ["install", "tests", "bench", "study"]
    assert "--no-index" in found["install"] and "--no-deps" in found["install"]
    assert found["install"].endswith("iopath==0.1.10 tqdm==4.70.1")
    assert "-m on_cuda" in found["tests"] and "tests/cuda" in found["tests"]
    assert f"--device cuda --quick --results {output}/speed_cuda.json" in found["bench"]
    assert "--minutes 2.6" in found["bench"]
    assert "--device cuda --parallel 4" in found["study"]
    assert found["study"].endswith("--data trees --seeds 3")
    files = sorted(path.name for path in output.iterdir())
    assert files == ["bench.log", "run.log", "study.csv", "study.log", "study.tgz", "tests.log"]
    with tarfile.open(output / "study.tgz") as archive:
        assert archive.getnames() == ["study.md"]
    text = (output / "run.log").read_text()
    assert "a GPU" in text and "tests: passed" in text and text.endswith("all passed\n")
    assert (output / "bench.log").read_text() == "this is bench\n"


def test_without_a_gpu_nothing_runs(gpu, tmp_path: Path):
    done = gpu(str(tmp_path / "out"), NO_GPU="1")
    assert done.returncode == 2 and "no CUDA device" in done.stderr
    assert not commands(tmp_path)


def test_on_cpu_a_study_of_one_cell_is_made(gpu, tmp_path: Path):
    done = gpu("--device", "cpu", "--quick", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = commands(tmp_path)
    assert "-m on_cpu" in found["tests"] and "tests/cuda" not in found["tests"]
    assert "--device cpu --parallel 1" in found["study"] and "--name made" in found["study"]


@pytest.mark.parametrize("part", ["tests", "bench", "study"])
def test_what_fails_is_told_and_the_others_run(gpu, tmp_path: Path, part: str):
    done = gpu(str(tmp_path / "out"), FAILING=part)
    assert done.returncode == 1 and list(commands(tmp_path))[1:] == ["tests", "bench", "study"]
    assert f"{part}: FAILED with exit code 1: this is {part}\n" in done.stdout
    assert done.stdout.count(": passed") == 2 and done.stdout.endswith("not all passed\n")


def test_a_part_is_cut_at_its_limit(gpu, tmp_path: Path):
    cutting = tmp_path / "timeout"
    cutting.write_text(BASH + TIMEOUT)
    cutting.chmod(0o755)
    done = gpu(str(tmp_path / "out"))
    assert done.returncode == 1 and "tests: cut after 180 s" in done.stdout
    assert "bench: passed" in done.stdout and "study: passed" in done.stdout
    assert list(commands(tmp_path))[1:] == ["bench", "study"]


def test_an_output_folder_in_use_is_refused(gpu, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.log").touch()
    done = gpu(str(tmp_path / "out"))
    assert done.returncode == 2 and "not empty" in done.stderr


def test_the_tests_that_it_runs_are_there():
    paths = re.findall(r"\btests/[\w/.]+", SCRIPT.read_text())
    assert len(paths) >= 3 and [path for path in paths if not (ROOT / path).exists()] == []
