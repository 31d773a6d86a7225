"""Write the final and the best weights, ready for inference."""

import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from ...checkpoint import write_detector

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A ``.safetensors`` file of an unwrapped model, with its config as yaml and class names."""

    path: Path
    model: nn.Module
    config: str
    class_names: list[str]

    def write(self) -> None:
        """Write the current weights, on rank 0."""
        if comm.is_main_process():
            write_detector(self.path, self.model.state_dict(), self.config, self.class_names)


class FinalWeightsHook(HookBase):
    """Writes the final weights when training is complete."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            self._file.write()


def keep_best(file: ModelFile, scores: Mapping[int, float], done: int) -> None:
    """Write the weights if their score is the best so far.

    Detectron2's ``BestCheckpointer`` forgets the best score on resume, and writes a whole
    checkpoint, which becomes the one to resume from.

    Args:
        file: of the model that is scored.
        scores: by the number of iterations done.
        done: iterations of the latest.
    """
    if is_best(scores, done):
        file.write()
        logger.info("The AP of %.2f is the best so far: wrote %s.", scores[done], file.path)
    elif len(scores) == 1:
        logger.warning(
            "There is no AP, since the data to evaluate on has no objects; %s waits for one.",
            file.path.name,
        )


def is_best(scores: Mapping[int, float], iteration: int) -> bool:
    """Tell whether a score is above all earlier ones; NaN never is.

    Args:
        scores: by the number of iterations done.
        iteration: of the score.
    """
    earlier = [score for done, score in scores.items() if done < iteration]
    best = max((score for score in earlier if not math.isnan(score)), default=-math.inf)
    return scores[iteration] > best
