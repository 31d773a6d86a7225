"""Save and stop on SIGINT or SIGTERM."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..distributed.launch import SIGNALS, is_second_signal
from ..user_errors import RESUME, is_peer_failure

logger = logging.getLogger(__name__)


class PreemptionHook(HookBase):
    """Saves a checkpoint after the step in which a signal arrives, and exits.

    A second signal ends the process at once.

    All ranks stop after the same step: ``flags`` goes into the reduction of every step, and the
    trainer's ``flag_counts`` is its result.

    Attributes:
        has_stopped: a signal has ended the training run.
    """

    def __init__(self) -> None:
        self.has_stopped = False
        self._received = 0
        self._times: list[float] = []
        self._stops_immediately = False
        self._last_step: int | None = None  # complete, but maybe not saved
        self._handlers: dict[int, Any] = {}

    def flags(self) -> list[bool]:
        """Tell which of ``SIGNALS`` this process has received."""
        return [self._received == number for number in SIGNALS]

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_step(self) -> None:
        self._last_step = self.trainer.iter
        number = self._received_by_any_rank()
        if number:
            self._stop(number, wait=True)

    def restore_handlers(self) -> None:
        """Restore the signal handlers; call this after the last evaluation."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def stop_immediately(self) -> Iterator[None]:
        """Stop on a signal without finishing the block, which a resumed run repeats.

        Save, too, when another process of the run ended meanwhile, by a signal of its own or
        killed: the error may come before the launcher's signal.
        """
        self._stops_immediately = True
        try:
            if self._received:
                self._stop(self._received)
            yield
        except RuntimeError as error:
            if is_peer_failure(error):
                self._save()
            raise
        finally:
            self._stops_immediately = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if is_second_signal(self._times):
            os.write(2, f"Stopped at once by a second signal; {RESUME}.\n".encode())
            os._exit(128 + number)
        if self._stops_immediately:
            self._stops_immediately = False
            self._stop(number)

    def _received_by_any_rank(self) -> int:
        """Return the number of a signal that any rank has received, or 0."""
        if comm.get_world_size() == 1:
            return self._received
        return next((n for n, count in zip(SIGNALS, self.trainer.flag_counts) if count), 0)

    def _stop(self, number: int, *, wait: bool = False) -> None:
        self.has_stopped = True
        self._save()
        if wait:  # the launcher terminates the other processes once one has exited
            comm.synchronize()
        logger.info("Stopped by %s; %s.", signal.Signals(number).name, RESUME)
        sys.exit(128 + number)

    def _save(self) -> None:
        """Save the last step, unless the checkpoint of a complete training holds it."""
        step = self._last_step
        if step is not None and step + 1 < self.trainer.max_iter:
            self.trainer.checkpointer.save(f"model_{step:07d}", iteration=step)
