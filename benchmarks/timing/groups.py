"""All rows, in groups that are measured together, with their bars."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import model_cases as models
from . import part_cases as parts
from .rows import Row
from .turns import Run


class Timed(NamedTuple):
    """Things that take turns."""

    name: str
    build: Callable[[list[str]], dict[str, Run]]  # from names of series; may leave some out
    check: Callable[[Mapping[str, Any]], None]  # of what the first calls gave; raises
    rows: tuple[Row, ...]
    rounds: int
    estimate: float  # seconds on two calm cores: its share of the time that there is
    threads: int | None = None  # instead of those of the command
    per_call: Mapping[str, int] = {}  # by what a series is divided; 1 if not named
    cold: Collection[str] = ()  # series that are not warmed up


class Peaks(NamedTuple):
    """Peak memory of things, each in a process of its own."""

    name: str
    prepare: Mapping[str, Callable[[], Run]]  # by series
    rows: tuple[Row, ...]
    whole: bool  # count the whole process, or what grows during the work
    rounds: int  # processes of each: where little grows, the allocator's mood counts
    estimate: float


Group = Timed | Peaks


def groups(folder: Path) -> list[Group]:
    """In the order in which they are measured.

    Args:
        folder: an empty one for files of the data rows.
    """
    return [*_inference(), *_training(), *_alignment(), *_matching(), *_data(folder)]


def _row(name: str, ours: str, peer: str | None, bar: float | None = None) -> Row:
    """Figures of single series."""
    return Row(name, (ours,), None if peer is None else (peer,), bar)


def _inference() -> list[Group]:
    rows = (
        _row("inference_vs_retinanet", "clq", "retinanet", 1.0),
        _row("inference_vs_fcos", "clq", "fcos", 1.0),
        _row("inference_fast_vs_retinanet", "clq_fast", "retinanet", 0.5),
        _row("inference_vs_torchvision_retinanet", "clq", "torchvision_retinanet"),
        _row("inference_vs_torchvision_fcos", "clq", "torchvision_fcos"),
    )
    batch = Row("batch8_vs_batch1", ("clq_8", "clq_1"), ("fcos_8", "fcos_1"), 1.0)
    share = _row("postprocess_share", "postprocess", "whole", 0.03)
    eight = {"clq_8": 8, "fcos_8": 8}
    return [
        Timed("inference", models.inference, models.check_detections, rows, 5, 90),
        Timed(
            "batches",
            models.batches,
            models.check_detections,
            (batch,),
            3,
            130,
            per_call=eight,
            cold=tuple(eight),
        ),
        Timed(
            "postprocessing", models.postprocessing, models.check_postprocessing, (share,), 5, 20
        ),
    ]


def _training() -> list[Group]:
    times = (
        _row("step_vs_fcos", "clq", "fcos", 1.07),
        _row("step_vs_retinanet", "clq", "retinanet", 1.0),
    )
    losses = (_row("losses_vs_fcos", "clq", "fcos", 1.15),)
    slower = (_row("losses_vs_retinanet", "clq", "retinanet"),)
    peaks = (
        _row("step_memory_vs_fcos", "clq", "fcos", 1.2),
        _row("step_memory_vs_retinanet", "clq", "retinanet", 1.0),
    )
    names = ("clq", "fcos", "retinanet")
    prepare = {name: partial(models.training_step, name, first_size=(128, 160)) for name in names}
    return [
        Timed("step", models.step, models.check_losses, times, 5, 240),
        # Apart, as RetinaNet's losses take twenty times as long and empty the caches of the others.
        Timed("losses", models.losses, models.check_losses, losses, 25, 10),
        Timed("losses, RetinaNet", models.losses, models.check_losses, slower, 5, 20),
        Peaks("step memory", prepare, peaks, True, 1, 60),
    ]


def _alignment() -> list[Group]:
    forward = partial(parts.alignment, backward=False)
    both = partial(parts.alignment, backward=True)
    check = parts.check_alignment
    prepare = {name: partial(parts.align_after_a_small_map, name) for name in ("ours", "op")}
    row = partial(_row, ours="ours", peer="op")
    name = "alignment_forward"
    return [
        Timed(name, forward, check, (row(name, bar=0.3),), 9, 8),
        Timed(f"{name}_backward", both, check, (row(f"{name}_backward", bar=0.15),), 5, 25),
        Timed(f"{name}, 1 thread", forward, check, (row(f"{name}_1_thread", bar=0.5),), 3, 6, 1),
        Timed(
            f"{name}_backward, 1 thread",
            both,
            check,
            (row(f"{name}_backward_1_thread", bar=0.25),),
            3,
            30,
            1,
        ),
        Peaks("alignment memory", prepare, (row("alignment_memory", bar=1.0),), False, 3, 50),
    ]


def _matching() -> list[Group]:
    counts = (1000, 10000)
    prepare = {str(count): partial(parts.match_after_one_box, count) for count in counts}
    memory = (
        _row("matching_1000_mb", "1000", None, 10),
        _row("matching_10000_mb", "10000", None, 100),
    )

    def timed(count: int, bar: float, estimate: float) -> Timed:
        row = _row(f"matching_{count}", "ours", "plain", bar)
        build = partial(parts.matching, num_boxes=count)
        return Timed(row.name, build, parts.check_matching, (row,), 5, estimate)

    return [
        timed(1000, 1 / 80, 15),
        timed(10, 1 / 3, 2),
        Peaks("matching memory", prepare, memory, False, 3, 30),
    ]


def _data(folder: Path) -> list[Group]:
    evaluation = _row("evaluation", "ours", "pycocotools", 1 / 50)
    loading = _row("data_loading", "ours", "detectron2", 1.0)
    return [
        Timed(
            "evaluation",
            parts.evaluation,
            parts.check_evaluation,
            (evaluation,),
            1,
            80,
            cold=("pycocotools",),
        ),
        Timed(
            "data_loading",
            partial(parts.data_loading, folder=folder),
            lambda results: None,
            (loading,),
            3,
            70,
        ),
    ]
