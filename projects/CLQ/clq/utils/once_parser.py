"""Parser of the commands: no flag twice, and help as it is written."""

import argparse
from typing import Any


class OnceParser(argparse.ArgumentParser):
    """Refuses a flag whose second value would replace the first, and keeps the help's lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.given: set[str] = set()
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.given.clear()
        return super().parse_known_args(args, namespace)


class _StoreOnce(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        if option_string and self.dest in parser.given:
            parser.error(f"{option_string} is given twice; give one value.")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, values)
