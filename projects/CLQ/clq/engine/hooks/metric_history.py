"""Write the metrics, and continue them on resume."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from .preemption import PreemptionHook

_WINDOW = 20  # values over which the writers smooth a metric


class MetricWriterHook(PeriodicWriter):
    """Writes metrics periodically and at the end, unless a signal stops the training run.

    The resumed run writes what is left then, with the metrics of an evaluation that was cut short:
    Weights & Biases takes no more of an iteration that it has.
    """

    def __init__(
        self, writers: Sequence[EventWriter], period: int, preemption: PreemptionHook
    ) -> None:
        super().__init__(writers, period)
        self._all_writers = writers
        self._preemption = preemption

    def after_train(self) -> None:
        if not self._preemption.has_stopped:
            super().after_train()
            return
        for writer in self._all_writers:
            writer.close()


class MetricHistoryHook(HookBase):
    """Continues the metrics of a resumed run as if it had not been stopped.

    A checkpoint precedes the writers in its step. On resume, metrics.json is cut back to the last
    write before the checkpoint, and the metrics that were not written by then are restored.
    """

    def __init__(self, metrics_file: Path, period: int) -> None:
        """
        Args:
            metrics_file: of Detectron2's ``JSONWriter``.
            period: iterations between writes.
        """
        self._metrics_file = metrics_file
        self._period = period
        self._restored: dict[str, Any] = {"values": {}}

    def state_dict(self) -> dict[str, Any]:
        storage = self.trainer.storage
        return {
            "values": {
                name: [list(value) for value in buffer.values()[-_WINDOW:]]
                for name, buffer in storage.histories().items()
            },
            "hints": dict(storage.smoothing_hints()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def before_train(self) -> None:
        start_iter, storage = self.trainer.start_iter, self.trainer.storage
        last_written = max(start_iter - 1, 0) // self._period * self._period - 1
        if comm.is_main_process():
            _drop_lines_after(last_written, self._metrics_file)
        for name, values in self._restored["values"].items():
            is_written = values[-1][1] <= last_written
            for value, iteration in [] if is_written else values:
                storage.iter = iteration
                storage.put_scalar(name, value, smoothing_hint=self._restored["hints"][name])
        storage.iter = start_iter


def _drop_lines_after(iteration: int, metrics_file: Path) -> None:
    """Drop the lines of later iterations, and a last one that a kill cut off."""
    if not metrics_file.is_file():
        return
    size = 0
    with contextlib.suppress(ValueError):
        for line in metrics_file.read_bytes().splitlines(keepends=True):
            if json.loads(line)["iteration"] > iteration:
                break
            size += len(line)
    os.truncate(metrics_file, size)
