"""Evaluation hook that keeps the score of each evaluation."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ...data.formats.read import checksum
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
        score_data: Sequence[str] = (),
        on_score: Callable[[Mapping[int, float], int], None] | None = None,
    ) -> None:
        """
        Args:
            period: iterations between evaluations; 0 evaluates after training only.
            evaluate: returns nested metrics, at least on rank 0.
            preemption: of the same trainer.
            more: further evaluations, by the prefix of their metrics.
            score: metric to keep as the score, under its logged name.
            score_data: what tells the data of the score from other data, as
                :func:`identify_data` returns it.
            on_score: called after each evaluation with ``scores`` and ``latest``.
        """
        self._period = period
        self._evaluate = evaluate
        self._preemption = preemption
        self._more = dict(more or {})
        self._score = score
        self._score_source = [score, *score_data]
        self._on_score = on_score
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
        return {"scores": dict(self.scores), "source": self._score_source}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the scores, unless they are of other data or of weights averaged otherwise.

        Earlier versions did not keep what the scores are of; those are taken over.
        """
        if state_dict.get("source", self._score_source) == self._score_source:
            self.scores = dict(state_dict["scores"])
        elif state_dict["scores"]:
            logger.warning(
                "The evaluation data or SOLVER.EMA differ from those of the checkpoint: the best "
                "AP and early stopping start over."
            )

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
        if self._on_score:
            self._on_score(self.scores, done)


def identify_data(dataset_names: Sequence[str]) -> list[str]:
    """Return for each data set its name, with a checksum of its annotations where they are files.

    Raises:
        OSError: a file can't be read.
    """
    identities = []
    for name in dataset_names:
        metadata = MetadataCatalog.get(name)
        file, root = (metadata.get(key) or "" for key in ("json_file", "image_root"))
        identities.append(f"{name} {checksum(file, root):08x}" if file else name)
    return identities


def score_name(dataset_names: Sequence[str], prefix: str = "") -> str:
    """Return the logged name of the AP on the first data set.

    Args:
        dataset_names: in the order of ``DATASETS.TEST``. The log omits the name of a single one.
        prefix: of the evaluation.
    """
    parts = [prefix, dataset_names[0] if len(dataset_names) > 1 else "", "bbox", "AP"]
    return "/".join(part for part in parts if part)
