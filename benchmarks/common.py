"""Helpers of all benchmarks: the commit, processes of their own, and rows of a csv."""

import csv
import io
import multiprocessing
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from clq.utils.atomic_write import write_atomically
from clq.utils.hardware import cpu_name

ROOT = Path(__file__).resolve().parents[1]
# What decides a result.
_CODE = (
    *("projects", "configs", "benchmarks", "train_net.py", "requirements.txt"),
    ":!benchmarks/results",
)
_T = TypeVar("_T")


def commit() -> str:
    """The commit that the code is at, with "-dirty" where a file that decides a result differs.

    "unknown" outside a git checkout.
    """
    git = ["git", "--no-optional-locks", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *_CODE])
    return head.stdout.strip() + ("-dirty" if differs.returncode else "")


def device_name(device: str) -> str:
    """Name of the GPU or processor behind a device of PyTorch."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def run_apart(function: Callable[..., _T], *arguments: Any, threads: int | None = None) -> _T:
    """Call a function in a process of its own, which shares neither memory nor loggers.

    Args:
        function: of a module, to call.
        arguments: of the function.
        threads: of PyTorch; by default as many as it likes.

    Raises:
        Exception: what the function raised, or that its process ended.
    """
    set_threads: dict[str, Any] = {}
    if threads is not None:
        set_threads = {"initializer": torch.set_num_threads, "initargs": (threads,)}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, **set_threads) as pool:
        return pool.submit(function, *arguments).result()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a csv as text; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, fields: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a csv in one step: a reader sees the old file or the new one, never a half."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
