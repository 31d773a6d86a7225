"""Text of files that may not reach a terminal or a log as it is."""

import logging
import re

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
