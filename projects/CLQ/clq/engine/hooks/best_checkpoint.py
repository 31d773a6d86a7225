"""A hook that keeps the detector of the best evaluation."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from ...checkpoint import write_detector
from .evaluation import Evaluate

__all__ = ["KeepBest", "is_best"]

logger = logging.getLogger(__name__)


class KeepBest(HookBase):
    """Writes the detector, enough for inference, after each evaluation that is the best so far.

    Detectron2's ``BestCheckpointer`` forgets the best score on a resume, keeps one that is no
    number, and makes its file the one to resume from.
    """

    def __init__(
        self, path: Path, model: nn.Module, config: str, class_names: list[str], evaluate: Evaluate
    ) -> None:
        """
        Args:
            path: ends in ``.safetensors``.
            model: whose score ``evaluate`` keeps, not wrapped.
            config: yaml to put inside.
            class_names: in the order of the class indices.
            evaluate: the hook before this one.
        """
        self._path = path
        self._model = model
        self._config = config
        self._class_names = class_names
        self._evaluate = evaluate
        self._seen: int | None = None

    def after_step(self) -> None:
        self._look()

    def after_train(self) -> None:
        self._look()

    def _look(self) -> None:
        """Take note of an evaluation that is new."""
        scores, latest = self._evaluate.scores, self._evaluate.latest
        if latest is None or latest == self._seen:
            return
        self._seen = latest
        if is_best(scores, latest):
            if comm.is_main_process():
                state = self._model.state_dict()
                write_detector(self._path, state, self._config, self._class_names)
            logger.info("The AP of %.2f is the best so far: wrote %s.", scores[latest], self._path)
        elif len(scores) == 1:
            logger.warning(
                "There is no AP, since the data to evaluate on has no objects; %s waits for one.",
                self._path.name,
            )


def is_best(scores: Mapping[int, float], iterations: int) -> bool:
    """Tell whether a score is a number, and above every number before.

    Args:
        scores: by the number of iterations done.
        iterations: whose score it is about.
    """
    score = scores[iterations]
    before = [other for done, other in scores.items() if done < iterations]
    return not math.isnan(score) and not any(score <= other for other in before)
