"""Stopping on a signal without losing the work: finish the step, save, leave."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..user_errors import RESUME

__all__ = ["SIGNALS", "StopOnSignal", "Stopped"]

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """Ends the process as a signal would, with code 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopOnSignal(HookBase):
    """On Ctrl-C or SIGTERM, saves once the step is done, and raises :class:`Stopped`.

    All processes stop after the same step, whichever of them got the signal: ``flags`` is what
    this process tells the others in a step, and what they all told is the trainer's to know.
    """

    def __init__(
        self, save: Callable[[int], None], raised: Callable[[], Sequence[int]] = tuple
    ) -> None:
        """
        Args:
            save: writes a checkpoint of the iteration that it is given.
            raised: how many processes raised each of ``flags`` in the latest step.
        """
        self._save = save
        self._raised = raised
        self._received = 0
        self._stops_at_once = False
        self._unsaved: int | None = None  # iteration of the last step that is complete
        self._before: dict[int, Any] = {}

    def flags(self) -> list[bool]:
        """The one of ``SIGNALS`` that this process has received."""
        return [self._received == number for number in SIGNALS]

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_step(self) -> None:
        self._unsaved = self.trainer.iter
        number = self._of_any_process()
        if number:
            self._stop(number, wait=True)

    def restore_handlers(self) -> None:
        """Treat signals as before the training; to be called after its last evaluation."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal stop what is done inside in its midst; a resumed training does it again."""
        self._stops_at_once = True
        try:
            if self._received:
                self._stop(self._received)
            yield
        finally:
            self._stops_at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if self._stops_at_once:
            self._stops_at_once = False
            self._stop(number)

    def _of_any_process(self) -> int:
        """The signal that this or another process has received; 0 if none has."""
        if comm.get_world_size() == 1:
            return self._received
        return next((n for n, count in zip(SIGNALS, self._raised()) if count), 0)

    def _stop(self, number: int, *, wait: bool = False) -> None:
        name = signal.Signals(number).name
        if self._unsaved is not None and self._unsaved + 1 < self.trainer.max_iter:
            self._save(self._unsaved)
        if wait:  # a process that ends makes the launcher end the others
            comm.synchronize()
        logger.info("Stopped by %s; %s.", name, RESUME)
        raise Stopped(number)
