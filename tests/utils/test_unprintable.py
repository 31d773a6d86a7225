"""Control characters of names reach neither terminal nor log."""

import logging
import sys

import pytest

from clq.utils.unprintable import escape_log_record, escape_unprintable, print_output


@pytest.mark.parametrize(
    "text, escaped",
    [
        ("caf\u00e9 \u6728.png", "caf\u00e9 \u6728.png"),
        ("\x1b]0;T\x07", r"\x1b]0;T\x07"),
        ("a\nerror: b", r"a\nerror: b"),
        ("\u202egnp", r"\u202egnp"),
        ("\udcff", r"\udcff"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_one_printable_line(text: str, escaped: str):
    assert escape_unprintable(text) == escaped and escaped.isprintable()


def test_a_log_keeps_its_lines_and_no_control_character():
    message = "table\n\x1b[36m|a\x1b[0m\t|\x1b]0;T\x07 %s"
    record = logging.LogRecord("n", logging.INFO, "f", 1, message, ("\r",), None)
    assert escape_log_record(record)
    assert record.getMessage() == "table\n|a\t|" + r"\x1b]0;T\x07 \r"


def test_the_sentence_of_an_error_is_one_line(capsys: pytest.CaptureFixture[str]):
    from clq.engine import exit_on_user_error

    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise ValueError("a\x1b[2J\nb is bad.")
    assert leaving.value.code == r"error: a\x1b[2J\nb is bad." and sys.stdout


def test_output_is_a_line_each_without_control_characters(capsys: pytest.CaptureFixture[str]):
    print_output("a table")
    print_output("Wrote a\nb.json", "", "and \x1b[31m\xe9.png")
    assert capsys.readouterr().out == "a table\nWrote a\\nb.json\n\nand \\x1b[31m\xe9.png\n"
