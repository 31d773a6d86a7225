"""The evaluations of a training, and how good it was at each of them."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

from .preemption import StopOnSignal

__all__ = ["Evaluate", "score_name"]

logger = logging.getLogger(__name__)

Evaluation = Callable[[], Mapping[str, Any]]


class Evaluate(EvalHook):
    """Detectron2's hook, which keeps the scores, and in which a signal stops an evaluation at once.

    After a training that ended early there is no evaluation, and nor is there a second one of the
    same weights.

    Attributes:
        scores: of each evaluation of the training, by the number of iterations done; NaN where
            there was nothing to find. All processes know them.
        latest: iterations done at the latest evaluation of this process, if there was one.
    """

    def __init__(
        self,
        period: int,
        evaluate: Evaluation,
        stop: StopOnSignal,
        *,
        more: Mapping[str, Evaluation] | None = None,
        score: str = "bbox/AP",
    ) -> None:
        """
        Args:
            period: iterations between evaluations; 0 evaluates at the end alone.
            evaluate: gives nested metrics, in the main process at least.
            stop: of the training.
            more: further evaluations, by what is put before the names of their metrics.
            score: metric that tells how good the detector is, as the log calls it.
        """

        def evaluate_all() -> dict[str, Any]:
            with stop.at_once():
                results = dict(evaluate())
                for prefix, other in (more or {}).items():
                    logger.info("Evaluating once more, for the metrics %s/...", prefix)
                    results[prefix] = other()
            return results

        super().__init__(period, evaluate_all)
        self._score = score
        self.scores: dict[int, float] = {}
        self.latest: int | None = None

    def after_train(self) -> None:
        is_complete = self.trainer.iter >= self.trainer.max_iter
        if is_complete and self.latest != self.trainer.iter:
            super().after_train()
        else:
            del self._func  # it holds the trainer, which holds this hook

    def state_dict(self) -> dict[str, Any]:
        return {"scores": dict(self.scores)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.scores = dict(state_dict["scores"])

    def _do_eval(self) -> None:
        super()._do_eval()
        score, _ = self.trainer.storage.latest().get(self._score, (math.nan, 0))
        score = comm.all_gather(score)[0]
        # After the training, Detectron2 counts the last iteration as done already.
        self.latest = min(self.trainer.iter + 1, self.trainer.max_iter)
        self.scores[self.latest] = score


def score_name(dataset_names: Sequence[str], prefix: str = "") -> str:
    """Name of the AP on the first data set in the log.

    Args:
        dataset_names: in the order of ``DATASETS.TEST``; the log leaves out the name of a single
            one.
        prefix: of the evaluation.
    """
    parts = [prefix, dataset_names[0] if len(dataset_names) > 1 else "", "bbox", "AP"]
    return "/".join(part for part in parts if part)
