"""Evaluation hook that keeps the score of each evaluation."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from .preemption import PreemptionHook

logger = logging.getLogger(__name__)

Evaluation = Callable[[], Mapping[str, Any]]


class ScoredEvalHook(HookBase):
    """Evaluates periodically and after training, like Detectron2's ``EvalHook``.

    It also keeps the scores, lets a signal stop an evaluation immediately, and does not evaluate
    the same weights twice, as after early stopping.

    Attributes:
        results: of the latest evaluation, as ``evaluate`` returned them.
        scores: by the number of iterations done; NaN if undefined. The same on all ranks.
        latest: iterations done at the latest evaluation of this process.
    """

    def __init__(
        self,
        period: int,
        evaluate: Evaluation,
        preemption: PreemptionHook,
        *,
        more: Mapping[str, Evaluation] | None = None,
        score: str = "bbox/AP",
    ) -> None:
        """
        Args:
            period: iterations between evaluations; 0 evaluates after training only.
            evaluate: returns nested metrics, at least on rank 0.
            preemption: of the same trainer.
            more: further evaluations, by the prefix of their metrics.
            score: metric to keep as the score, under its logged name.
        """
        self._period = period
        self._evaluate = evaluate
        self._preemption = preemption
        self._more = dict(more or {})
        self._score = score
        self.results: Mapping[str, Any] = {}
        self.scores: dict[int, float] = {}
        self.latest: int | None = None

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._run(done)

    def after_train(self) -> None:
        done = self.trainer.iter
        if done >= self.trainer.max_iter and self.latest != done:
            self._run(done)

    def state_dict(self) -> dict[str, Any]:
        return {"scores": dict(self.scores)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.scores = dict(state_dict["scores"])

    def _run(self, done: int) -> None:
        storage = self.trainer.storage
        with self._preemption.stop_immediately():
            self.results = self._evaluate()
            metrics = dict(self.results)
            for prefix, evaluate in self._more.items():
                logger.info("Evaluating once more, for the metrics %s/...", prefix)
                metrics[prefix] = evaluate()
        metrics = flatten_results_dict(metrics)
        storage.put_scalars(**metrics, smoothing_hint=False)
        # Rank 0 has the metrics. All ranks wait here, to start the next step together.
        self.scores[done] = comm.all_gather(metrics.get(self._score, math.nan))[0]
        self.latest = done


def score_name(dataset_names: Sequence[str], prefix: str = "") -> str:
    """Return the logged name of the AP on the first data set.

    Args:
        dataset_names: in the order of ``DATASETS.TEST``. The log omits the name of a single one.
        prefix: of the evaluation.
    """
    parts = [prefix, dataset_names[0] if len(dataset_names) > 1 else "", "bbox", "AP"]
    return "/".join(part for part in parts if part)
