"""Every script explains itself."""

from pathlib import Path

import pytest

from reference.tiny import ROOT, run_script

SCRIPTS = [ROOT / "train_net.py", *sorted((ROOT / "tools").glob("*.py"))]
SCRIPTS += sorted((ROOT / "benchmarks").glob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SCRIPTS]


def test_the_promised_scripts_are_there():
    assert {"train_net.py", "tools/demo.py", "tools/build_detectron2_wheel.py"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches(name: str):
    done = run_script(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    usage, _, rest = done.stdout.partition("\n\n")
    assert usage.startswith(f"usage: {Path(name).name}")
    prose = [line for line in rest.splitlines() if not line.lstrip().startswith("-")]
    assert len(" ".join(prose).split()) > 50, "a usage line and bare options teach nothing"


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_a_script_runs_only_when_asked_to(path: Path):
    assert '\nif __name__ == "__main__":\n' in path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_short(name: str):
    limits = {"train_net.py": 150, "tools/demo.py": 100}
    assert len((ROOT / name).read_text().splitlines()) < limits.get(name, 350)
