"""The section of the report on how a training run went."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from ...data_report import check_training_data
from ..coco_evaluation import load_ground_truth
from . import training_figures as figures
from .first_batch import TrainingImage, read_first_images
from .history import History, accuracy_prefixes, read_history, series
from .labels import LabelStatistics, count_labels
from .panels import Panel, listed
from .readings import counted, number, percent


@dataclass(frozen=True)
class TrainingSection:
    """The section on a training run.

    Attributes:
        panels: curves.
        labels: statistics of the training data.
        images: the first training images.
        images_reading: a sentence on these.
        notes: warnings of the data check, one sentence each.
    """

    panels: list[Panel] = field(default_factory=list)
    labels: list[LabelStatistics] = field(default_factory=list)
    images: list[TrainingImage] = field(default_factory=list)
    images_reading: str = ""
    notes: list[str] = field(default_factory=list)


def describe_training(cfg: CfgNode, metrics_file: Path) -> TrainingSection:
    """Describe a training run by its metrics and its data.

    Args:
        cfg: of the run, with its data sets registered.
        metrics_file: metrics.json of the run.

    Returns:
        The section; only curves where the training data is not known any more, and a note where
        it can't be read.
    """
    panels = curve_panels(read_history(metrics_file))
    if not cfg.DATASETS.TRAIN:
        return TrainingSection(panels)
    try:
        notes = check_training_data(cfg)
        num_classes = cfg.MODEL.CLQ.NUM_CLASSES
        labels = [
            count_labels(name, load_ground_truth(name, num_classes)[0])
            for name in cfg.DATASETS.TRAIN
        ]
    except (OSError, ValueError) as error:
        return TrainingSection(panels, notes=[f"The training data can't be shown: {error}"])
    try:
        images = read_first_images(cfg)
    except (OSError, ValueError) as error:
        notes.append(f"The first training images can't be shown: {error}")
        return TrainingSection(panels, labels, notes=notes)
    return TrainingSection(panels, labels, images, _read_images(images), notes)


def curve_panels(history: History) -> list[Panel]:
    """Draw losses, accuracy, learning rate and time, as far as they were written."""
    panels = []
    iterations, losses = series(history, "total_loss")
    if iterations:
        panels.append(
            Panel(
                "losses",
                "Losses",
                figures.draw_losses(history),
                listed("Total loss", _few(iterations, losses)),
                _read_losses(iterations, losses),
            )
        )
    prefixes = accuracy_prefixes(history)
    evaluated, values = series(history, f"{prefixes[0]}bbox/AP") if prefixes else ([], [])
    if evaluated:
        panels.append(
            Panel(
                "accuracy",
                "Accuracy on the test data",
                figures.draw_accuracy(history),
                listed("AP by iteration", _few(evaluated, values)),
                _read_accuracy(evaluated, values),
            )
        )
    for name, draw in (("lr", _learning_rate), ("time", _time)):
        if series(history, name)[0]:  # the first iterations are not timed
            panels.append(draw(history))
    return panels


def label_panels(sets: Sequence[LabelStatistics]) -> list[Panel]:
    """Draw classes, if there are several, and sizes of the labels of data sets, training first."""
    medians = [(s.name, f"{np.median(s.sides):.0f} pixels") for s in sets if s.num_objects]
    sizes = Panel(
        "object_sizes",
        "Sizes of objects",
        figures.draw_object_sizes(sets),
        listed("Median size", medians),
        _read_sizes(sets),
    )
    if len(sets[0].counts) < 2:
        return [sizes]
    counts = [
        (f"{s.name}, {name}", f"{count}")
        for s in sets
        for name, count in list(s.counts.items())[:30]
    ]
    classes = Panel(
        "class_counts",
        "Objects by class",
        figures.draw_class_counts(sets),
        listed("Objects", counts),
        _read_class_counts(sets),
    )
    return [classes, sizes]


def _learning_rate(history: History) -> Panel:
    iterations, rates = series(history, "lr")
    peak = int(np.argmax(rates))
    return Panel(
        "learning_rate",
        "Learning rate",
        figures.draw_learning_rate(history),
        listed(
            "Learning rate",
            ((f"{i + 1}", f"{rate:.2g}") for i, rate in _sampled(iterations, rates)),
        ),
        f"It is highest at iteration {iterations[peak] + 1}, with {rates[peak]:.2g}, and ends at "
        f"{rates[-1]:.2g}.",
    )


def _time(history: History) -> Panel:
    iterations, seconds = series(history, "time")
    _, waits = series(history, "data_time")
    typical, waiting = float(np.median(seconds)), float(np.median(waits))
    share = waiting / typical if typical else 0.0
    verdict = (
        "; more DATALOADER.NUM_WORKERS may help"
        if share > 0.2
        else ", so that data is no bottleneck"
    )
    return Panel(
        "time",
        "Time of an iteration",
        figures.draw_time(history),
        listed("Seconds an iteration", _few(iterations, seconds)),
        f"An iteration takes {typical:.2f} s, {percent(share)} of it spent waiting for images"
        f"{verdict}.",
    )


def _read_losses(iterations: Sequence[float], losses: Sequence[float]) -> str:
    return (
        f"The total loss went from {losses[0]:.2f} to {losses[-1]:.2f} in "
        f"{iterations[-1] + 1} iterations."
    )


def _read_accuracy(iterations: Sequence[float], values: Sequence[float]) -> str:
    best = int(np.argmax(values))
    last = f"The last AP is {number(values[-1])}"
    if len(values) == 1:
        return f"{last}, of the only evaluation (TEST.EVAL_PERIOD asks for more)."
    if best < len(values) - 1:
        return (
            f"{last}; the best, {number(values[best])}, came at iteration {iterations[best] + 1} "
            "(SOLVER.KEEP_BEST keeps such weights)."
        )
    gain = values[-1] - values[-2]
    return f"{last}, the best so far, {number(gain)} more than at the evaluation before."


def _read_class_counts(sets: Sequence[LabelStatistics]) -> str:
    first = sets[0]
    counts = {name: count for name, count in first.counts.items() if count}
    if not counts:
        return f"{first.name} has no object."
    rarest = min(counts, key=counts.__getitem__)
    unseen = [
        name
        for s in sets[1:]
        for name, count in s.counts.items()
        if count and not first.counts.get(name)
    ]
    note = f" {unseen[0]} has no object in {first.name}." if unseen else ""
    return (
        f"The rarest class of {first.name} is {rarest}, with {counted(counts[rarest], 'object')} "
        f"({percent(counts[rarest] / first.num_objects)}).{note}"
    )


def _read_sizes(sets: Sequence[LabelStatistics]) -> str:
    parts = [
        f"{counted(s.num_objects, 'object')} in {counted(s.num_images, 'image')} of {s.name}"
        + (f", half of them below {np.median(s.sides):.0f} pixels" if s.num_objects else "")
        for s in sets
    ]
    return (
        f"There are {'; and '.join(parts)}. The dotted lines are COCO's limits of small and "
        "large, 32 and 96."
    )


def _read_images(images: Sequence[TrainingImage]) -> str:
    objects = sum(image.num_objects for image in images)
    anchors = sum(sum(image.num_anchors.values()) for image in images)
    if not objects:
        return "The first images have no object."
    return (
        f"The first {counted(len(images), 'image')} as the network sees them have "
        f"{counted(objects, 'object')} and {counted(anchors, 'matched anchor')}, "
        f"{anchors / objects:.1f} for each object. Boxes should lie on objects."
    )


def _few(iterations: Sequence[float], values: Sequence[float]) -> list[tuple[str, str]]:
    return [(f"{i + 1}", number(value, 2)) for i, value in _sampled(iterations, values)]


def _sampled(iterations: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """Return at most ten points of a curve, the last one included."""
    points = list(zip(iterations, values, strict=True))
    step = -(-len(points) // 10)
    return points[::-1][::step][::-1]
