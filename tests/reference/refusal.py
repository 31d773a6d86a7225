"""Messages of a command to a user whose input is at fault, and files left behind."""

import sys
from pathlib import Path

import pytest
import torch.utils.cpp_extension  # noqa: F401  # warns once where CUDA is half there

import train_net


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one sentence of train_net.py before it exits with code 1."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(sys, "argv", ["train_net.py", *arguments])
        train_net.run()
    message = leaving.value.code
    assert isinstance(message, str), "Python prints a text and leaves with code 1"
    assert message.startswith("error: ") and "\n" not in message
    said = capsys.readouterr()
    assert said.err == ""
    assert "Traceback" not in said.out
    return message


def check_not_started(output: Path) -> None:
    """The command was refused before it touched the folder."""
    assert not output.exists()


def check_nothing_left(output: Path) -> None:
    """The command was refused later: there is a log without a traceback, and no result."""
    assert "Traceback" not in (output / "log.txt").read_text()
    assert not list(output.glob("*.pth")) and not list(output.glob("*.safetensors"))
    assert not (output / "results.json").exists() and not list(output.glob(".*"))
