"""Exponential moving average (EMA) of the weights."""

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMAHook(HookBase):
    """Averages the parameters and buffers of a model over the training steps.

    Step n keeps min(decay, (1 + n) / (10 + n)) of the average, so that it also follows a short
    run. Integer buffers, such as the counts of a batch norm, are copied. The average starts from
    the weights at the first step with EMA, also in a resumed run.

    PyTorch's ``AveragedModel`` would synchronize with the GPU in every step.

    Attributes:
        model: the averaged model, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """
        Args:
            model: the trained model, not wrapped.
            decay: see above.
        """
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._trained = model
        self._decay = decay
        self._num_steps = 0

    def before_train(self) -> None:
        if self._num_steps == 0:
            self.model.load_state_dict(self._trained.state_dict())

    def after_step(self) -> None:
        self._num_steps += 1
        decay = min(self._decay, (1 + self._num_steps) / (10 + self._num_steps))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, value in zip(_tensors(self.model), _tensors(self._trained), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        get_ema_multi_avg_fn(decay)(averages, values, 0)

    def state_dict(self) -> dict[str, Any]:
        return {"num_steps": self._num_steps, "model": self.model.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._num_steps = state_dict["num_steps"]
        self.model.load_state_dict(state_dict["model"])


def _tensors(model: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
