"""Early-stopping hook."""

import logging
import math
from collections.abc import Mapping

from detectron2.engine import HookBase

from .evaluation import ScoredEvalHook

logger = logging.getLogger(__name__)


class TrainingDone(BaseException):
    """Raised to leave the training loop early; not an Exception, which Detectron2 would log."""


class EarlyStoppingHook(HookBase):
    """Completes training when the latest evaluations brought no gain; must be the last hook.

    It saves ``model_final``. A run resumed from there ends immediately, unless it is given more
    patience.
    """

    def __init__(self, evaluation: ScoredEvalHook, patience: int, min_gain: float = 0.0) -> None:
        """
        Args:
            evaluation: whose scores decide; they are the same on all ranks.
            patience: evaluations without a gain before training ends.
            min_gain: AP in percent that a gain must exceed.
        """
        self._evaluation = evaluation
        self._patience = patience
        self._min_gain = min_gain

    def after_step(self) -> None:
        count = evaluations_without_gain(self._evaluation.scores, self._min_gain)
        if count < self._patience:
            return
        trainer = self.trainer
        logger.info("The last %d evaluations brought no gain in AP; the training ends.", count)
        trainer.checkpointer.save("model_final", iteration=trainer.iter)
        # As the training loop does after its last step.
        trainer.max_iter = trainer.iter + 1
        trainer.iter += 1
        raise TrainingDone


def evaluations_without_gain(scores: Mapping[int, float], min_gain: float) -> int:
    """Count the evaluations since the last gain; those without AP do not count.

    Args:
        scores: by the number of iterations done, NaN where there is no AP.
        min_gain: amount by which a score must exceed the last one that was a gain.
    """
    best, count = -math.inf, 0
    for _, score in sorted(scores.items()):
        if score > best + min_gain:
            best, count = score, 0
        elif not math.isnan(score):
            count += 1
    return count
