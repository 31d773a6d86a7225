"""Every script explains itself."""

import subprocess
from pathlib import Path

import pytest

from reference.forks import ForkedProgram
from reference.tiny import ROOT

SCRIPTS = [ROOT / "train_net.py", *sorted((ROOT / "tools").glob("*.py"))]
SCRIPTS += sorted(set((ROOT / "benchmarks").glob("*.py")) - {ROOT / "benchmarks" / "common.py"})
NAMES = [str(path.relative_to(ROOT)) for path in SCRIPTS]


def test_the_promised_scripts_are_there():
    assert {"train_net.py", "tools/demo.py", "tools/build_detectron2_wheel.py"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches(name: str):
    check_help(ForkedProgram(ROOT / name, "--help").wait(), Path(name).name)


def test_help_of_the_accuracy_study_teaches():
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "runpy.run_module('benchmarks.accuracy', run_name='__main__', alter_sys=True)"
    )
    check_help(ForkedProgram(code, "--help").wait(), "python -m benchmarks.accuracy")


def check_help(done: subprocess.CompletedProcess, program: str) -> None:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    usage, _, rest = done.stdout.partition("\n\n")
    assert usage.startswith(f"usage: {program}")
    prose = [line for line in rest.splitlines() if not line.lstrip().startswith("-")]
    assert len(" ".join(prose).split()) > 50, "a usage line and bare options teach nothing"


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_a_script_runs_only_when_asked_to(path: Path):
    assert '\nif __name__ == "__main__":\n' in path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_short(name: str):
    limits = {"train_net.py": 150, "tools/demo.py": 100, "tools/convert_checkpoint.py": 100}
    assert len((ROOT / name).read_text().splitlines()) < limits.get(name, 350)
