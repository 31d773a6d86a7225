"""Text of files that may not reach a terminal or a log as it is."""

import logging
import os
import re
import signal
import sys

_COLOR = re.compile(r"\x1b\[[\d;]*m")  # of Detectron2's tables


def escape_unprintable(text: str) -> str:
    """Return a text in one line, whose control characters are written as Python writes them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def escape_log_record(record: logging.LogRecord) -> bool:
    """Escape control characters of a log message but newlines and tabs; a filter of a handler."""
    text = record.getMessage()
    if not text.isprintable():
        lines = _COLOR.sub("", text).split("\n")
        escaped = ("\t".join(map(escape_unprintable, line.split("\t"))) for line in lines)
        record.msg, record.args = "\n".join(escaped), None
    return True


def print_output(*lines: str) -> None:
    """Print what a command was asked for, with control characters as Python writes them.

    Raises:
        OSError: standard output can't be written.
        SystemExit: with code 141 and without a word when the reader has left, as ``head`` does.
    """
    try:
        print(*map(escape_unprintable, lines), sep="\n", flush=True)
    except OSError as error:  # what is left in the buffer would fail once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        raise OSError(f"standard output can't be written ({error.strerror}).") from None
