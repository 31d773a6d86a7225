"""Findings about a data set, and their wording in one line."""

import reprlib
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MOST_EXAMPLES = 5
_LONGEST_TEXT = 255  # characters

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxdict = 8
_SHORT.maxlevel = 3


class Example(NamedTuple):
    """One entry and what is to be said of it.

    Attributes:
        subject: such as "annotation 3"; empty for the annotation file itself.
        predicate: the rest of the sentence.
    """

    subject: str
    predicate: str

    def __str__(self) -> str:
        return f"{self.subject or 'it'} {self.predicate}"

    def in_file(self, json_file: str | Path) -> str:
        """The sentence with the file that the entry stands in."""
        path = plain(str(json_file))
        if not self.subject:
            return f"annotation file {path} {self.predicate}"
        return f"{self.subject} in {path} {self.predicate}"


@dataclass(frozen=True)
class Finding:
    """All entries of which the same is to be said.

    Attributes:
        kind: name for programs, in snake_case.
        what: the entries in words, in the plural.
        is_fault: whether it stops a training.
        count: number of entries.
        examples: the first of them.
        total: number of entries that were looked at; None where the share does not matter.
        then: what becomes of them, without subject; may be empty.
    """

    kind: str
    what: str
    is_fault: bool
    count: int
    examples: tuple[Example, ...]
    total: int | None = None
    then: str = ""

    @property
    def sentence(self) -> str:
        """One line that says what and how many."""
        text = f"{self.what}: {self.count}"
        if self.total:
            text += f" of {self.total} ({self.count / self.total:.1%})"
        return f"{text}; {self.then}" if self.then else text


def find(
    kind: str,
    what: str,
    rows: Iterable[int] | np.ndarray,
    example: Callable[[int], Example],
    *,
    is_fault: bool = True,
    total: int | None = None,
    then: str = "",
) -> list[Finding]:
    """A list of one finding, or of none where there are no rows.

    Args:
        rows: indices of the entries.
        example: describes the entry of an index.

    The other arguments are those of :class:`Finding`.
    """
    indices = [int(row) for row in rows]
    if not indices:
        return []
    examples = tuple(example(row) for row in indices[:_MOST_EXAMPLES])
    return [Finding(kind, what, is_fault, len(indices), examples, total, then)]


def describe_faults(faults: Sequence[Finding], json_file: str | Path) -> str:
    """One sentence on all faults of a data set, with the first five.

    Args:
        faults: at least one.
        json_file: that they stand in.
    """
    count = sum(fault.count for fault in faults)
    examples = [example for fault in faults for example in fault.examples][:_MOST_EXAMPLES]
    if count == 1:
        return examples[0].in_file(json_file)
    rest = "; and more" if count > len(examples) else ""
    listed = "; ".join(map(str, examples))
    return f"annotation file {plain(str(json_file))} has {count} faults: {listed}{rest}"


def advise(sentence: str, json_file: str | Path, image_root: str | Path) -> str:
    """The sentence, and the command that shows all that there is to say."""
    paths = " ".join(shlex.quote(plain(str(path))) for path in (json_file, image_root))
    return f"{sentence}; `python tools/check_data.py {paths}` shows all"


def shown(value: object) -> str:
    """Any value of a json in one short line."""
    try:
        return _SHORT.repr(value)
    except (RecursionError, ValueError):  # an integer of too many digits
        return f"of type {type(value).__name__}"


def plain(text: str) -> str:
    """A name as it stands, or quoted where it would break the line or the terminal."""
    if text.isprintable() and 0 < len(text) <= _LONGEST_TEXT:
        return text
    return shown(text)
