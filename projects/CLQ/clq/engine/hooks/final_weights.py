"""A hook that leaves the trained detector as one file that is enough for inference."""

from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from ...checkpoint import write_detector


class WriteDetector(HookBase):
    """Writes a detector with its configuration and class names once training is done."""

    def __init__(self, path: Path, model: nn.Module, config: str, class_names: list[str]) -> None:
        """
        Args:
            path: ends in ``.safetensors``.
            model: that is trained, not wrapped.
            config: yaml to put inside.
            class_names: in the order of the class indices.
        """
        self._path = path
        self._model = model
        self._config = config
        self._class_names = class_names

    def after_train(self) -> None:
        is_done = self.trainer.iter >= self.trainer.max_iter
        if is_done and comm.is_main_process():
            state = self._model.state_dict()
            write_detector(self._path, state, self._config, self._class_names)
