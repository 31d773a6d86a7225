"""Loading weights from any file that CLQ knows, with one sentence where a file does not serve."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..data.downloads import write_atomically
from .contents import Contents, read_contents
from .fitting import fit
from .reading import plain_address

logger = logging.getLogger(__name__)


class CLQCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer for all files of :func:`read_contents`, complete or not at all.

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
        about: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            model: to load into and to save.
            save_dir: folder of the checkpoints.
            trusted: let a pickle run code.
            about: what every saved checkpoint says of itself beside tensors.
            options: as of Detectron2's.
        """
        super().__init__(model, save_dir, **options)
        self._trusted = trusted
        self._about = dict(about or {})
        self._may_change_classes = False

    def save(self, name: str, **kwargs: Any) -> None:
        super().save(name, **{**self._about, **kwargs})

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Point at the newest checkpoint in one step: a kill leaves the old name or the new."""
        write_atomically(Path(self.save_dir, "last_checkpoint"), last_filename_basename.encode())

    def load(
        self, path: str, checkpointables: list[str] | None = None, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """
        Raises:
            ValueError: the file does not exist, can't be read, or does not fit the model.
        """
        file = plain_address(path)
        if path and not os.path.isfile(self.path_manager.get_local_path(file)):
            raise ValueError(f"the weights {path} do not exist.")
        self._may_change_classes = self._may_change(checkpointables)
        return super().load(file, checkpointables, *args, **kwargs)

    def _may_change(self, checkpointables: list[str] | None) -> bool:
        """Whether the class count may: not where the optimizer's state is loaded as well."""
        return checkpointables == []

    def _load_file(self, filename: str) -> dict[str, Any]:
        contents = read_contents(filename, trusted=self._trusted)
        return {**contents.rest, "model": contents, "file": filename}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        contents: Contents = checkpoint.pop("model")
        file = checkpoint.pop("file")
        try:
            state, notes = fit(
                contents, self.model.state_dict(), may_change_classes=self._may_change_classes
            )
        except ValueError as error:
            raise ValueError(f"{file} {error}") from None
        for note in (*contents.notes, *notes):
            logger.info(note)
        self.model.load_state_dict(state, strict=False)


class CompleteCheckpointer(CLQCheckpointer):
    """Refuses weights that do not fill the model, as evaluation must."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """
        Raises:
            ValueError: no file is named, or the file is no detector that fits the model.
        """
        if not path:
            raise ValueError("MODEL.WEIGHTS is empty; name the checkpoint to evaluate.")
        return super().load(path, *args, **kwargs)

    def _may_change(self, checkpointables: list[str] | None) -> bool:
        return False

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = super()._load_file(filename)
        if checkpoint["model"].kind != "detector":
            raise ValueError(f"{filename} holds a backbone, but no detector to evaluate.")
        return checkpoint
