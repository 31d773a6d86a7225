"""The evaluations of a training."""

from collections.abc import Callable

from detectron2.engine.hooks import EvalHook

from .stopping import StopOnSignal

__all__ = ["Evaluate"]


class Evaluate(EvalHook):
    """Detectron2's hook, where a signal stops an evaluation in its midst.

    After a training that ended early there is no evaluation.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict], stop: StopOnSignal) -> None:
        """
        Args:
            period: iterations between evaluations; 0 evaluates at the end alone.
            evaluate: gives nested metrics.
            stop: of the training.
        """

        def stoppable() -> dict:
            with stop.at_once():
                return evaluate()

        super().__init__(period, stoppable)

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()
        else:
            del self._func  # it holds the trainer, which holds this hook
