"""The command `clq`, as someone meets it."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

import clq
from clq.cli.main import COMMANDS, main
from reference.forks import ForkedProgram
from reference.tiny import TinyData, command_line, process_environment


def run(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )


def test_importing_clq_imports_and_changes_nothing_else():
    code = (
        "import os, sys, warnings\n"
        "before = dict(os.environ), list(warnings.filters)\n"
        "import clq\n"
        "assert (dict(os.environ), list(warnings.filters)) == before\n"
        "print({'torch', 'detectron2', 'numpy', 'fvcore'} & set(sys.modules), clq.__version__)\n"
    )
    done = run(code)
    assert done.stdout == f"set() {clq.__version__}\n", done.stderr


def test_names_of_the_package_are_listed_and_others_raise():
    assert {"load", "train", "evaluate", "get_clq_cfg", "add_clq_config"} <= set(dir(clq))
    with pytest.raises(AttributeError, match="module 'clq' has no attribute 'nothing'"):
        clq.nothing


@pytest.mark.parametrize("use", ["clq.load", "from clq.cli.main import main; main(['train'])"])
def test_without_detectron2_one_sentence_says_how_to_get_it(use: str):
    done = run(f"import sys; sys.modules['detectron2'] = None; import clq; {use}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith(clq.NO_DETECTRON2)
    assert "Traceback" not in done.stderr or use == "clq.load"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name, purpose in COMMANDS.items():
        assert name in text and purpose in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: clq {name} ") and "tools/" not in text


def test_an_unknown_command_is_rejected(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["fly"])
    assert stop.value.code == 2 and "invalid choice: 'fly'" in capsys.readouterr().err


@pytest.mark.usefixtures("cpu_only")
def test_train_then_eval(tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["train", *command_line(tiny_data, tmp_path / "run", keys={"SOLVER.MAX_ITER": 2})])
    weights = tmp_path / "run" / "model_final.safetensors"
    val = ["--val", *map(str, tiny_data.val)]
    main(["eval", "--weights", str(weights), "--output", str(tmp_path / "eval"), *val])
    trained, evaluated = (tmp_path / name / "results.json" for name in ("run", "eval"))
    assert trained.read_text() == evaluated.read_text()


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize(
    ("flags", "keys", "message"),
    [
        (["--config", "clq_R_5"], [], "no config of the name 'clq_R_5'; it has .*clq_R_50_FPN_1x"),
        (["--weights", "a.pth"], ["MODEL.WEIGHTS", "b.pth"], "--weights and MODEL.WEIGHTS are the"),
        (["--output", "a"], ["OUTPUT_DIR", "b"], "--output and OUTPUT_DIR are the same"),
    ],
)
def test_what_contradicts_itself_is_one_sentence(flags: list[str], keys: list[str], message: str):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(["train", *flags, *keys])


@pytest.mark.parametrize("reader", ("leaves early", "is a full disk", "stays"))
@pytest.mark.parametrize("command", ("check", "check --json", "predict", "convert"))
def test_a_reader_that_leaves_or_a_full_disk_gives_no_traceback(command: str, reader: str):
    """As with `| head -1` and `> /dev/full`, and more text than a pipe holds."""
    name, *flags = command.split()
    code = (
        "import sys\n"
        "from types import SimpleNamespace\n"
        f"from clq.cli import {name} as module\n"
        "lines = ['a line'] * 50_000\n"
        "text = '\\n'.join(lines)\n"
        "module.predict_files = module.convert = lambda *a, **k: lines\n"
        "module.check = lambda options: [SimpleNamespace(errors=[])]\n"
        "module.as_text, module.as_json = lambda report: text, lambda reports: lines\n"
        "arguments = {'check': ['t.json', '.'], 'convert': ['a', 'b'],\n"
        "             'predict': ['--weights', 'w', 'x']}\n"
        f"module.main(arguments[{name!r}] + {flags!r})\n"
    )
    if reader == "leaves early":
        output, pipe = multiprocessing.Pipe(duplex=False)
        process = ForkedProgram(code, stdout=pipe)
        pipe.close()
        assert b"a line" in os.read(output.fileno(), 10)
        output.close()
    else:
        process = ForkedProgram(code, stdout=Path("/dev/full") if reader != "stays" else None)
    done = process.wait()
    expected = {
        "leaves early": (141, ""),
        "is a full disk": (
            1,
            "error: standard output can't be written (No space left on device).\n",
        ),
        "stays": (0, ""),
    }
    assert (done.returncode, done.stderr) == expected[reader]
