"""Helpers for tests of killed and resumed training runs."""

import json
from pathlib import Path
from typing import Any

_OF_TIME = ("time", "data_time", "eta_seconds", "rank_data_time")


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the trainer sees it."""


def curve(output: Path) -> list[dict[str, Any]]:
    """All that metrics.json says, but for the times."""
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in _OF_TIME} for line in lines]
