"""Errors and warnings about a data set, and their wording."""

import reprlib
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAX_EXAMPLES = 5
_MAX_NAME_LENGTH = 255  # characters

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlist = _REPR.maxdict = 8
_REPR.maxlevel = 3


class Example(NamedTuple):
    """One entry and what is wrong with it.

    Attributes:
        subject: such as "annotation 3"; empty for the annotations as a whole.
        predicate: the rest of the sentence.
    """

    subject: str
    predicate: str

    def __str__(self) -> str:
        return f"{self.subject or 'it'} {self.predicate}"

    def in_file(self, json_file: str | Path) -> str:
        """Return the sentence with the file or folder that holds the entry."""
        if not self.subject:
            return f"{_name(json_file)} {self.predicate}"
        return f"{self.subject} in {quote_unprintable(str(json_file))} {self.predicate}"


@dataclass(frozen=True)
class Finding:
    """An error or a warning, with all entries that it concerns.

    Attributes:
        kind: name for programs, in snake_case.
        what: the entries in words, in the plural.
        is_error: True for an error, which prevents training; False for a warning.
        count: number of entries.
        examples: the first of them.
        total: number of entries that were checked; None where the share does not matter.
        consequence: what becomes of them, without subject; may be empty.
    """

    kind: str
    what: str
    is_error: bool
    count: int
    examples: tuple[Example, ...]
    total: int | None = None
    consequence: str = ""

    @property
    def sentence(self) -> str:
        """Describe the finding and its count in one line."""
        text = f"{self.what}: {self.count}"
        if self.total:
            text += f" of {self.total} ({self.count / self.total:.1%})"
        return f"{text}; {self.consequence}" if self.consequence else text


def make_findings(
    kind: str,
    what: str,
    rows: Iterable[int] | np.ndarray,
    example: Callable[[int], Example],
    *,
    is_error: bool = True,
    total: int | None = None,
    consequence: str = "",
) -> list[Finding]:
    """Make a list of one finding, or an empty list if there are no rows.

    Args:
        rows: indices of the entries.
        example: describes the entry of an index.

    The other arguments are those of :class:`Finding`.
    """
    indices = [int(row) for row in rows]
    if not indices:
        return []
    examples = tuple(example(row) for row in indices[:_MAX_EXAMPLES])
    return [Finding(kind, what, is_error, len(indices), examples, total, consequence)]


# The same for warnings.
make_warnings = partial(make_findings, is_error=False)


def finding_on_file(kind: str, what: str, predicate: str, *, is_error: bool = True) -> Finding:
    """Make a finding about the annotation file itself, such as one that does not exist.

    Args:
        predicate: of the sentence whose subject is the file.

    The other arguments are those of :class:`Finding`.
    """
    return Finding(kind, what, is_error, 1, (Example("", predicate),))


def describe_errors(errors: Sequence[Finding], json_file: str | Path) -> str:
    """Describe all errors of a data set in one sentence, with the first five.

    Args:
        errors: at least one.
        json_file: that holds them.
    """
    count = sum(error.count for error in errors)
    examples = [example for error in errors for example in error.examples][:_MAX_EXAMPLES]
    if count == 1:
        return examples[0].in_file(json_file)
    rest = "; and more" if count > len(examples) else ""
    listed = "; ".join(map(str, examples))
    return f"{_name(json_file)} has {count} errors: {listed}{rest}"


def _name(json_file: str | Path) -> str:
    """Name the annotations; those of YOLO and Pascal VOC are in many files."""
    path = quote_unprintable(str(json_file))
    return f"{'annotation file' if path.endswith('.json') else 'data set'} {path}"


def add_hint(sentence: str, json_file: str | Path, image_root: str | Path) -> str:
    """Append the command that prints the full report."""
    paths = " ".join(shlex.quote(quote_unprintable(str(path))) for path in (json_file, image_root))
    return f"{sentence}; `python tools/check_data.py {paths}` shows all"


def short_repr(value: object) -> str:
    """Represent any value of a json in one short line."""
    try:
        return _REPR.repr(value)
    except (RecursionError, ValueError):  # an integer of too many digits
        return f"of type {type(value).__name__}"


def quote_unprintable(text: str) -> str:
    """Return a name, quoted if it would break the line or the terminal."""
    if text.isprintable() and 0 < len(text) <= _MAX_NAME_LENGTH:
        return text
    return short_repr(text)
