"""What a command says to a user whose input is at fault."""

import sys

import pytest

import train_net


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """What the command says before it leaves with code 1, in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr(sys, "argv", ["train_net.py", *arguments])
        train_net.run()
    message = leaving.value.code
    assert isinstance(message, str), "Python prints a text and leaves with code 1"
    assert message.startswith("error: ") and "\n" not in message.strip()
    assert "Traceback" not in capsys.readouterr().out
    return message
