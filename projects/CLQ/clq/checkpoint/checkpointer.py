"""Detectron2's checkpointer for every weights file that CLQ can read."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..utils.atomic_write import open_atomically, write_atomically
from .identify import identify_weights, read_weights
from .match_state_dict import match_state_dict
from .output_dir import POINTER, LastCheckpoint, find_last
from .read_file import no_weights, normalize_path
from .weights_file import WeightsFile

logger = logging.getLogger(__name__)


class CLQCheckpointer(DetectionCheckpointer):
    """Loads any file of :func:`read_weights`, completely or not at all.

    A detector's file must fill the model, and the model have a place for each of its tensors; a
    backbone's file must fill the backbone. When only weights are loaded, as a training does that
    starts anew, the class count may differ.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        trusted: bool = False,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            model: to load into and to save.
            save_dir: directory of the checkpoints.
            trusted: let a pickle run code.
            metadata: saved with every checkpoint.
            options: of Detectron2's checkpointer.
        """
        super().__init__(model, save_dir, **options)
        self._trusted = trusted
        self._metadata = dict(metadata or {})
        self._may_change_classes = False
        self._last: LastCheckpoint | None = None  # that is being loaded

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth atomically, and make it the last checkpoint.

        Raises:
            OSError: it can't be written, as on a full disk; older checkpoints stay.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict(), **self._metadata, **kwargs}
        content |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s.", path)
        try:
            with open_atomically(path) as file:
                _save(content, file)
            self.tag_last_checkpoint(path.name)
        except OSError as error:
            raise OSError(
                f"{path} can't be written ({error.strerror or error}); the checkpoints before it "
                "are as they were."
            ) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the last checkpoint atomically."""
        write_atomically(Path(self.save_dir, POINTER), last_filename_basename.encode())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the newest intact checkpoint, or load weights only.

        Args:
            path: of the weights to start from where nothing is resumed.
            resume: resume from a checkpoint if there is one.

        Raises:
            ValueError: there are checkpoints, but all of them are damaged.
        """
        last = find_last(Path(self.save_dir), trusted=self._trusted) if resume else None
        if last is None:
            return self.load(path, checkpointables=[])
        for damage in last.damage:
            logger.warning("%s Going back to %s.", damage, last.path.name)
        self._last = last
        try:
            return self.load(str(last.path))
        finally:
            self._last = None

    def load(
        self, path: str, checkpointables: list[str] | None = None, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """
        Raises:
            ValueError: the file does not exist, can't be read, or does not fit the model.
        """
        file = normalize_path(path)
        if path and not os.path.isfile(self.path_manager.get_local_path(file)):
            raise ValueError(no_weights(path))
        self._may_change_classes = checkpointables == []  # without the optimizer's state
        return super().load(file, checkpointables, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if self._last is None:
            weights = read_weights(filename, trusted=self._trusted)
        else:
            weights = identify_weights(self._last.content, filename)
        return {**weights.metadata, "model": weights, "file": filename}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        weights: WeightsFile = checkpoint.pop("model")
        file = checkpoint.pop("file")
        try:
            state, notes = match_state_dict(
                weights, self.model.state_dict(), may_change_classes=self._may_change_classes
            )
        except ValueError as error:
            raise ValueError(f"{file} {error}") from None
        for note in (*weights.notes, *notes):
            logger.info(note)
        self.model.load_state_dict(state, strict=False)


class CompleteCheckpointer(CLQCheckpointer):
    """Rejects weights that do not fill the model, for evaluation."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """
        Raises:
            ValueError: no file is named, or the file is no detector that fits the model.
        """
        if not path:
            raise ValueError("MODEL.WEIGHTS is empty; name the checkpoint to evaluate.")
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = super()._load_file(filename)
        if checkpoint["model"].kind != "detector":
            raise ValueError(f"{filename} holds a backbone, but no detector to evaluate.")
        return checkpoint


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    """Call ``torch.save``, and raise the error of the file that it hides behind its own."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
