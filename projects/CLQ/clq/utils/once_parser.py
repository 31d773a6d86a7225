"""Parser of the commands: no flag twice, and help as it is written."""

import argparse
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

# Keys of a configuration: those of a section have a dot, the others are few.
_KEY = re.compile(
    r"[A-Z][A-Z0-9_]*\.[A-Z0-9_.]+|CUDNN_BENCHMARK|DETERMINISTIC|FLOAT32_PRECISION|OUTPUT_DIR|SEED"
    "|VERSION|VIS_PERIOD"
)


class OnceParser(argparse.ArgumentParser):
    """Refuses a flag whose second value would replace the first, and keeps the help's lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.given: set[str] = set()
        self._data_flags: list[str] = []
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def add_data(self, flag: str, **options: Any) -> None:
        """Add a flag of annotations and an image folder, which is empty where it is left out."""
        self._data_flags.append(flag)
        self.add_argument(flag, nargs=2, metavar=("DATA", "[IMAGES]"), **options)

    def error(self, message: str) -> NoReturn:
        """Exit, with a hint where a flag may have taken what was no image folder."""
        if self._data_flags and message.startswith("the following arguments are required"):
            message += f"; they go before {' and '.join(self._data_flags)}"
        super().error(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.given.clear()
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args(self._completed(args), namespace)

    def _completed(self, args: Iterable[object]) -> list[str]:
        """Put an empty folder where none follows annotations, but a key, a file or a flag."""
        done: list[str] = []
        rest = list(map(str, args))
        while rest:
            flag, has_value, value = rest.pop(0).partition("=")
            if len(flag) < 3 or not any(known.startswith(flag) for known in self._data_flags):
                done.append(flag + has_value + value)
                continue
            if not has_value and (not rest or rest[0].startswith("--")):
                self.error(
                    f"{flag} needs a value: a COCO json and its images, or data that has "
                    "them, such as data.yaml."
                )
            done += [flag, value if has_value else rest.pop(0)]
            done.append(rest.pop(0) if rest and _may_be_folder(rest[0]) else "")
        return done


def _may_be_folder(text: str) -> bool:
    if os.path.isdir(text):
        return True
    return not (text.startswith("--") or _KEY.fullmatch(text) or os.path.isfile(text))


class _StoreOnce(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        if option_string and self.dest in parser.given:
            parser.error(f"{option_string} is given twice; give one value.")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, values)
