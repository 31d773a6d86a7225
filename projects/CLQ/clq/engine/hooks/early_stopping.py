"""A hook that ends a training which evaluations show to gain no more."""

import logging
import math
from collections.abc import Mapping

from detectron2.engine import HookBase

from .evaluation import Evaluate

__all__ = ["EarlyStopping", "TrainingDone", "evaluations_without_gain"]

logger = logging.getLogger(__name__)


class TrainingDone(BaseException):
    """Leaves the loop of a training that is complete; Detectron2 would log an ``Exception``."""


class EarlyStopping(HookBase):
    """Completes the training where its last evaluations brought no gain; stands behind all hooks.

    The checkpoint of the last step becomes ``model_final``. A training resumed from it is complete
    at once, unless it is given more patience.
    """

    def __init__(self, evaluate: Evaluate, patience: int, min_gain: float = 0.0) -> None:
        """
        Args:
            evaluate: whose scores decide, in all processes alike.
            patience: evaluations without a gain after which the training ends.
            min_gain: AP in percent that a gain must exceed.
        """
        self._evaluate = evaluate
        self._patience = patience
        self._min_gain = min_gain

    def after_step(self) -> None:
        count = evaluations_without_gain(self._evaluate.scores, self._min_gain)
        if count < self._patience:
            return
        trainer = self.trainer
        logger.info("The last %d evaluations brought no gain in AP; the training ends.", count)
        trainer.checkpointer.save("model_final", iteration=trainer.iter)
        # What the loop does after its last step.
        trainer.max_iter = trainer.iter + 1
        trainer.iter += 1
        raise TrainingDone


def evaluations_without_gain(scores: Mapping[int, float], min_gain: float) -> int:
    """How many evaluations there were since the last that gained; one without AP does not count.

    Args:
        scores: by the number of iterations done, NaN where there is no AP.
        min_gain: by how much a score must exceed the one that gained last.
    """
    best, count = -math.inf, 0
    for _, score in sorted(scores.items()):
        if score > best + min_gain:
            best, count = score, 0
        elif not math.isnan(score):
            count += 1
    return count
