"""`make setup`, in a folder of its own, with pip and the network replaced."""

import configparser
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import build_detectron2_wheel as builder
import setup_environment as setup

ROOT = Path(setup.__file__).resolve().parent.parent
STEPS = (
    "making .venv",
    "installing requirements.txt",
    "downloading Detectron2",
    "installing Detectron2",
    "installing this package",
    "importing what was installed",
)

pytestmark = pytest.mark.skipif(
    "{}.{}".format(*sys.version_info) not in setup.PYTHONS,
    reason="an own Python, which `make setup` does not support",
)


class Commands:
    """Stands in for `setup_environment.run`: notes each step, does its effect, fails on demand."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.steps: list[str] = []
        self.failures: dict[str, BaseException] = {}

    def __call__(self, what: str, *command: str) -> None:
        self.steps.append(what)
        if what == "making .venv":
            (self.venv / "bin").mkdir()
            (self.venv / "bin" / "python").touch()
        if what in self.failures:
            raise self.failures[what]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A project folder with its input files, and commands that only pretend."""
    for name in setup.INPUTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"contents of {name}")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup, "STAMP", tmp_path / ".venv" / ".clq-setup")
    monkeypatch.setattr(setup, "LOG", tmp_path / "setup.log")
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    monkeypatch.setattr(sys, "argv", ["setup_environment.py"])
    monkeypatch.setattr(builder, "build_wheel", lambda archive, folder: folder / "wheel")
    pretend = Commands(tmp_path / ".venv")
    monkeypatch.setattr(setup, "run", pretend)
    return pretend


def test_first_run_takes_every_step_in_order(commands, capsys):
    assert setup.main() == 0
    assert tuple(commands.steps) == STEPS
    assert setup.STAMP.read_text() == setup.setup_key()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "make setup: done"
    assert len(lines) == 5


def test_second_run_does_nothing(commands, capsys):
    setup.main()
    commands.steps.clear()
    capsys.readouterr()
    assert setup.main() == 0
    assert commands.steps == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_step_is_one_sentence_and_leaves_no_venv(commands, capsys, step):
    commands.failures[step] = setup.SetupError("A thing failed: do this.")
    assert setup.main() == 1
    assert capsys.readouterr().err == "make setup: A thing failed: do this.\n"
    assert not setup.VENV.exists()
    assert not (setup.ROOT / ".venv-removed").exists()
    commands.failures.clear()
    commands.steps.clear()
    assert setup.main() == 0
    assert tuple(commands.steps) == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_leaves_no_venv(commands, capsys, step):
    commands.failures[step] = KeyboardInterrupt()
    assert setup.main() == 130
    assert capsys.readouterr().err == "make setup: interrupted; run it again.\n"
    assert not setup.VENV.exists()


def test_a_patch_that_no_longer_matches_is_one_sentence(commands, capsys, monkeypatch):
    def fail(archive, folder):
        raise builder.WheelBuildError("The patch of a.py expects 'x' 1 time(s): correct PATCHES.")

    monkeypatch.setattr(builder, "build_wheel", fail)
    assert setup.main() == 1
    error = capsys.readouterr().err
    assert error == "make setup: The patch of a.py expects 'x' 1 time(s): correct PATCHES.\n"
    assert not setup.VENV.exists()


@pytest.mark.parametrize("left_over", ((), ("bin/python", "lib/torch/half.py")))
def test_a_killed_run_is_not_taken_for_a_good_one(commands, left_over):
    for name in (".clq-setup", *left_over):
        (setup.VENV / name).parent.mkdir(parents=True, exist_ok=True)
        (setup.VENV / name).touch()
    assert setup.main() == 0
    assert tuple(commands.steps) == STEPS
    assert not (setup.VENV / "lib").exists()


def test_a_venv_without_interpreter_is_made_anew(commands):
    setup.main()
    (setup.VENV / "bin" / "python").unlink()
    commands.steps.clear()
    assert setup.main() == 0
    assert tuple(commands.steps) == STEPS


@pytest.mark.parametrize("name", setup.INPUTS)
def test_a_changed_input_updates_the_venv(commands, name):
    setup.main()
    commands.steps.clear()
    (setup.ROOT / name).write_text("changed")
    assert setup.main() == 0
    assert tuple(commands.steps) == STEPS[1:]
    assert setup.STAMP.read_text() == setup.setup_key()


@pytest.mark.parametrize("error", (setup.SetupError("No."), KeyboardInterrupt()))
def test_a_failed_update_is_done_again_even_if_the_input_is_restored(commands, error):
    setup.main()
    text = (setup.ROOT / "requirements.txt").read_text()
    (setup.ROOT / "requirements.txt").write_text("changed")
    commands.failures["installing requirements.txt"] = error
    assert setup.main() != 0
    commands.failures.clear()
    commands.steps.clear()
    (setup.ROOT / "requirements.txt").write_text(text)
    assert setup.main() == 0
    assert tuple(commands.steps) == STEPS[1:]


def test_a_moved_folder_updates_the_venv(commands, monkeypatch, tmp_path):
    setup.main()
    key = setup.setup_key()
    monkeypatch.setattr(setup, "VENV", tmp_path / "elsewhere" / ".venv")
    assert setup.setup_key() != key


def test_a_venv_of_somebody_else_is_left_alone(commands, capsys):
    setup.VENV.mkdir()
    (setup.VENV / "pyvenv.cfg").write_text("mine")
    assert setup.main() == 1
    assert capsys.readouterr().err == (
        "make setup: .venv was not made by `make setup`: move it away and run it again.\n"
    )
    assert [path.name for path in setup.VENV.iterdir()] == ["pyvenv.cfg"]
    assert commands.steps == []


@pytest.mark.parametrize("version", ((3, 10, 4), (3, 14, 0), (2, 7, 18)))
@pytest.mark.parametrize("other", (None, "python3.12"))
def test_wrong_python_is_one_sentence(commands, capsys, monkeypatch, version, other):
    monkeypatch.setattr(sys, "version_info", (*version, "final", 0))
    monkeypatch.setattr(setup.shutil, "which", lambda name: other if name == other else None)
    assert setup.main() == 1
    fix = (
        f"run `make setup BASE_PYTHON={other}`"
        if other
        else ("install one and run `make setup BASE_PYTHON=python3.11`")
    )
    assert capsys.readouterr().err == (
        f"make setup: CLQ needs Python 3.11, 3.12, 3.13 but {sys.executable} is "
        f"{'.'.join(map(str, version))}: {fix}.\n"
    )
    assert not setup.VENV.exists()
    assert commands.steps == []


NETWORK = "the package index cannot be reached: check the network, or set PIP_INDEX_URL to a mirror"
OUTPUTS = (
    ("WARNING: Retrying after connection broken by 'NewConnectionError(...)': /simple/x/", NETWORK),
    ("ERROR: No matching distribution found for torch (from versions: none)", NETWORK),
    ("HTTPSConnectionPool: Max retries exceeded with url", NETWORK),
    (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n  Expected ..",
        "a file from the package index does not have the expected hash and was refused: "
        "see which index `pip config list` names, it serves another file",
    ),
    (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "the disk is full: free about 8 GB",
    ),
    (
        "The virtual environment was not created because ensurepip is not available.\nFailing ..",
        "this Python lacks its venv package (on Debian and Ubuntu: apt install python3-venv)",
    ),
    ("Collecting x\nERROR: Something new.\nnote: details", "Something new"),
    (
        "Traceback:\nImportError: libGL.so.1: cannot open\n\n",
        "ImportError: libGL.so.1: cannot open",
    ),
    ("", "no output"),
)


@pytest.mark.parametrize("output, reason", OUTPUTS)
def test_output_is_condensed_to_its_reason(output, reason):
    assert setup.reason_of(output) == reason


def test_run_keeps_the_log_and_reports_only_this_command(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "LOG", tmp_path / "setup.log")
    setup.LOG.write_text("ERROR: of an earlier command\n")
    program = "print('first'); print('last'); raise SystemExit(3)"
    with pytest.raises(setup.SetupError) as caught:
        setup.run("trying it", sys.executable, "-c", program)
    assert str(caught.value) == "trying it failed: last (full output in setup.log)."
    assert setup.LOG.read_text() == "ERROR: of an earlier command\nfirst\nlast\n"


def test_run_says_that_a_long_step_is_alive(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup, "LOG", tmp_path / "setup.log")
    monkeypatch.setattr(setup, "NOTE_SECONDS", 0.5)
    setup.LOG.touch()
    program = "import time; print('Downloading torch', flush=True); time.sleep(1.2)"
    setup.run("waiting", sys.executable, "-c", program)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert lines[-1] == "make setup:   still waiting, 1 s: Downloading torch"


def test_interrupting_run_ends_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "LOG", tmp_path / "setup.log")
    monkeypatch.setattr(setup, "NOTE_SECONDS", 0.2)
    setup.LOG.touch()

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "say", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        setup.run("waiting", sys.executable, "-c", "import time; time.sleep(60)")
    assert time.monotonic() - started < 30


def copy_project(folder: Path) -> None:
    """Copy what setup needs, from this checkout."""
    for name in ("Makefile", "tools/setup_environment.py", *setup.INPUTS):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())


def make(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess:
    inherited = ("PYTHON", "BASE_PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    environment.update(variables)
    return subprocess.run(
        ["make", *args], cwd=folder, env=environment, capture_output=True, text=True
    )


def first_error(result: subprocess.CompletedProcess) -> str:
    """The error lines, without make's own last word."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_make_setup_without_a_network_is_one_sentence_and_leaves_nothing(tmp_path):
    copy_project(tmp_path)
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    nothing_local = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0"}
    base = getattr(sys, "_base_executable", sys.executable)
    result = make(tmp_path, "setup", f"BASE_PYTHON={base}", **unreachable, **nothing_local)
    assert result.returncode != 0
    assert first_error(result) == (
        f"make setup: installing requirements.txt failed: {NETWORK} (full output in setup.log)."
    )
    assert not (tmp_path / ".venv").exists()
    assert "127.0.0.1" in (tmp_path / "setup.log").read_text()


def test_make_names_a_missing_interpreter(tmp_path):
    copy_project(tmp_path)
    result = make(tmp_path, "setup", "BASE_PYTHON=python-absent")
    assert result.returncode != 0
    assert first_error(result) == (
        "make setup: there is no python-absent: install Python 3.11 or name one with "
        "BASE_PYTHON=..."
    )


def test_make_with_another_python_makes_no_venv(tmp_path):
    copy_project(tmp_path)
    package = {"PYTHONPATH": str(ROOT / "projects" / "CLQ")}
    assert make(tmp_path, "setup", f"PYTHON={sys.executable}", **package).returncode == 0
    result = make(tmp_path, "setup", "PYTHON=python-absent")
    assert result.returncode != 0
    assert first_error(result) == (
        "make setup: python-absent is missing or has no clq: install CLQ into it with "
        "`python-absent -m pip install -e .[dev]`"
    )
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("target", ("demo", "test", "lint", "docs", "bench"))
def test_every_target_sets_up_first(tmp_path, target):
    copy_project(tmp_path)
    lines = make(tmp_path, "-n", target).stdout.splitlines()
    ours = [line for line in lines if line.startswith(("python3 ", ".venv/bin/python "))]
    assert ours[0] == "python3 tools/setup_environment.py"
    assert len(ours) > 1
    assert all(line.startswith(".venv/bin/python ") for line in ours[1:])


def test_requirements_pin_what_setup_cfg_allows():
    pins = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            pins[requirement.name.lower()] = pin.version
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    ranges = config["options"]["install_requires"]
    for extra in ("dev", "docs", "timm"):
        ranges += config["options.extras_require"][extra]
    for line in ranges.split("\n"):
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(pins[requirement.name.lower()]), line
    assert "detectron2" not in ranges + "".join(pins)
