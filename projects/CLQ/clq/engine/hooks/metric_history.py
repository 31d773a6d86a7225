"""Save and restore metric history on resume."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter, TensorboardXWriter

__all__ = ["KeepHistory"]

_WINDOW = 20  # the writers smooth over so many values


class KeepHistory(HookBase):
    """Restores the latest metrics and the place of the writers.

    Lines that a killed process has added to metrics.json after the checkpoint are cut off, since
    they are written again.
    """

    def __init__(self, metrics_file: Path, writers: Sequence[EventWriter] = ()) -> None:
        """
        Args:
            metrics_file: of Detectron2's ``JSONWriter``.
            writers: of the training, if this process has them.
        """
        self._metrics_file = metrics_file
        self._writers = [w for w in writers if isinstance(w, (JSONWriter, TensorboardXWriter))]
        self._restored: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        storage: EventStorage = self.trainer.storage
        file = self._metrics_file
        return {
            "values": {
                name: [list(value) for value in buffer.values()[-_WINDOW:]]
                for name, buffer in storage.histories().items()
            },
            "hints": dict(storage.smoothing_hints()),
            "last_writes": [writer._last_write for writer in self._writers],
            "metrics_size": file.stat().st_size if file.is_file() else 0,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def before_train(self) -> None:
        if self._writers:
            _cut(self._metrics_file, self._restored.get("metrics_size", 0))
        if not self._restored:
            return
        storage: EventStorage = self.trainer.storage
        for iteration, name, value in self._in_order():
            storage.iter = iteration
            storage.put_scalar(name, value, smoothing_hint=self._restored["hints"][name])
        storage.iter = self.trainer.iter
        for writer, last_write in zip(self._writers, self._restored["last_writes"]):
            writer._last_write = last_write
        self._restored = {}

    def _in_order(self) -> Iterator[tuple[int, str, float]]:
        for name, values in self._restored["values"].items():
            for value, iteration in values:
                yield iteration, name, value


def _cut(file: Path, size: int) -> None:
    """Take away what a file has beyond a size in bytes."""
    if file.is_file() and file.stat().st_size > size:
        with file.open("r+b") as content:
            content.truncate(size)
