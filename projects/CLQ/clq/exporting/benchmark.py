"""Time, size, memory and AP of checkpoints and exported files, side by side."""

import multiprocessing
import os
import re
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.exported import ExportedPredictor, is_exported
from ..runtime.images import READ_ERRORS, reason_of
from ..runtime.predictor import ImagePredictor

# A COCO JSON file and its image folder; or a YOLO data.yaml, a YOLO or a Pascal VOC folder, which
# tells where its images are.
Data = str | Path | Sequence[str | Path]
Image = Path | np.ndarray

_WARM_UP = 2  # predictions before the first that counts
_SPAWN = multiprocessing.get_context("spawn")
# Of OpenMP and of the libraries under PyTorch and NumPy.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """A file, and how it runs.

    Attributes:
        path: checkpoint or exported file.
        fast: of a checkpoint, by :func:`clq.modeling.fast_inference_model`.
        threads: of the network.
    """

    path: str
    fast: bool = False
    threads: int | None = None

    def open(self) -> ImagePredictor:
        """Open the detector on CPU; of an exported file without PyTorch."""
        if is_exported(self.path):
            return ExportedPredictor.from_file(self.path, threads=self.threads)
        import torch

        from ..prediction.predictor import open_predictor

        if self.threads:
            torch.set_num_threads(self.threads)
        return open_predictor(self.path, "cpu", fast=self.fast)

    def megabytes(self) -> float:
        """Size of the file, of OpenVINO with its weights, in MB of 10^6 bytes."""
        files = [Path(self.path)]
        if files[0].suffix.lower() == ".xml":
            files.append(files[0].with_suffix(".bin"))
        return sum(file.stat().st_size for file in files) / 1e6


@dataclass
class Row:
    """Measurements of a contender.

    Attributes:
        milliseconds: of each prediction of a single image, from pixels to boxes.
        peak_megabytes: of the process that ran it, everything included.
        ap: on the given data, in percent.
    """

    contender: Contender
    milliseconds: list[float] = field(default_factory=list)
    peak_megabytes: float = 0.0
    ap: float | None = None


def contenders(paths: Sequence[str], threads: int | None) -> list[Contender]:
    """List each file, and each checkpoint once more by fast inference."""
    found = []
    for path in paths:
        found.append(Contender(path, threads=threads))
        if not is_exported(path):
            found.append(Contender(path, fast=True, threads=threads))
    return found


def compare(entries: Sequence[Contender], images: Sequence[Image], rounds: int) -> list[Row]:
    """Time contenders in turns (A B C, A B C, ...), each in a process of its own.

    Args:
        entries: to compare.
        images: files, or (H, W, 3) uint8 RGB, of which each round takes the next.
        rounds: predictions of each contender.

    Raises:
        ValueError: a file can't be used or read.
    """
    rows = [Row(entry) for entry in entries]
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(entry, images)) for entry in entries]
        for i in range(-_WARM_UP, rounds):
            for row, predict in zip(rows, workers):
                elapsed, peak = predict(i % len(images))
                if i >= 0:
                    row.milliseconds.append(1000 * elapsed)
                row.peak_megabytes = peak
    return rows


def measure_ap(entry: Contender, val: Data) -> float:
    """Evaluate a contender as ``clq eval`` does; AP in percent.

    Raises:
        ValueError: the file does not fit the data.
    """
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_evaluate, args=(theirs, entry, val))
    process.start()
    theirs.close()  # so that the end of the process ends the wait for it
    try:
        return _answer(process, ours, entry)
    except KeyboardInterrupt:
        process.terminate()
        raise
    finally:
        process.join()


def table(rows: Sequence[Row]) -> str:
    """Write the rows as a table of Markdown; ratios are to the first."""
    lines = [
        "| file | ms | lowest to highest | of the first | MB | peak memory, MB | AP |",
        "|---|---|---|---|---|---|---|",
    ]
    first = statistics.median(rows[0].milliseconds)
    for row in rows:
        median = statistics.median(row.milliseconds)
        name = Path(row.contender.path).name + (" (--fast)" if row.contender.fast else "")
        cells = [
            name,
            f"{median:.1f}",
            f"{min(row.milliseconds):.1f} to {max(row.milliseconds):.1f}",
            f"{median / first:.2f}",
            f"{row.contender.megabytes():.1f}",
            f"{row.peak_megabytes:.0f}",
            "" if row.ap is None else f"{row.ap:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@contextmanager
def _worker(
    entry: Contender, images: Sequence[Image]
) -> Iterator[Callable[[int], tuple[float, float]]]:
    """Start a process that predicts on request; gives seconds and its peak memory in MB."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(theirs, entry, list(images)), daemon=True)
    with _thread_variables(entry.threads):
        process.start()
    theirs.close()

    def predict(index: int) -> tuple[float, float]:
        ours.send(index)
        return _answer(process, ours, entry)

    try:
        _answer(process, ours, entry)
        yield predict
    finally:
        ours.close()
        process.join(timeout=10)
        process.kill()


@contextmanager
def _thread_variables(threads: int | None) -> Iterator[None]:
    """Set the number of threads for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    if threads:
        os.environ.update(dict.fromkeys(before, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _answer(process: Any, connection: Connection, entry: Contender) -> Any:
    """Receive a result, or raise the error that came instead."""
    try:
        result = connection.recv()
    except EOFError:
        process.join()
        raise ValueError(
            f"the process that ran {entry.path} ended with code {process.exitcode}, perhaps for "
            "lack of memory."
        ) from None
    if isinstance(result, Exception):
        raise result
    return result


def _serve(connection: Connection, entry: Contender, images: Sequence[Image]) -> None:
    with _reported_to(connection):
        predictor = entry.open()
        arrays = [_read(predictor, image) for image in images]
        connection.send(None)
        while True:
            try:
                image = arrays[connection.recv()]
            except EOFError:
                return
            start = time.perf_counter()
            predictor.find([image])
            connection.send((time.perf_counter() - start, _peak_megabytes()))


def _read(predictor: ImagePredictor, image: Image) -> np.ndarray:
    """Read an image as the detector sees it, with its bit depth."""
    try:
        return predictor.read(image)
    except READ_ERRORS as error:
        raise ValueError(f"{image} can't be read ({reason_of(error)}).") from error


def _evaluate(connection: Connection, entry: Contender, val: Data) -> None:
    multiprocessing.set_start_method(None, force=True)  # of the data loader's workers
    with _reported_to(connection), tempfile.TemporaryDirectory() as folder:
        with open(os.devnull, "w") as nowhere:  # the log of the evaluation
            os.dup2(nowhere.fileno(), 1)
        import clq

        opts = {"TEST.REPORT": False, **({"MODEL.FAST_INFERENCE": True} if entry.fast else {})}
        metrics = clq.evaluate(entry.path, val=val, output_dir=folder, opts=opts)
        connection.send(float(metrics["AP"]))


@contextmanager
def _reported_to(connection: Connection) -> Iterator[None]:
    """Send an error over the connection instead of raising it; one of the user as such.

    Ctrl-C is left to the process at the other end, which terminates this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # and leave no files
    with suppress(ConnectionError):  # the other end has left
        try:
            yield
        except ConnectionError:
            raise
        except (FloatingPointError, OSError, ValueError) as error:
            connection.send(ValueError(str(error)))
        except Exception as error:
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _peak_megabytes() -> float:
    """Most memory that this process held, in MB of 10^6 bytes."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
