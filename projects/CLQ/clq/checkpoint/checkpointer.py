"""Loading weights, with one sentence where a file does not serve."""

import os
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer


class CLQCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that says which file it can't read."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """
        Raises:
            ValueError: the file does not exist or is no checkpoint.
        """
        file = path.partition("?")[0]  # Detectron2 takes options after a question mark
        if path and not os.path.isfile(self.path_manager.get_local_path(file)):
            raise ValueError(f"the weights {path} do not exist.")
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            return super()._load_file(filename)
        except OSError:
            raise
        except Exception as error:  # PyTorch and pickle have many ways to say it
            raise ValueError(f"{filename} is not a checkpoint that PyTorch can read.") from error


class CompleteCheckpointer(CLQCheckpointer):
    """Refuses weights that do not fill the model, as evaluation must."""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """
        Raises:
            ValueError: no file is named, or the file does not fill the model.
        """
        if not path:
            raise ValueError("MODEL.WEIGHTS is empty; name the checkpoint to evaluate.")
        return super().load(path, *args, **kwargs)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """
        Raises:
            ValueError: the file lacks tensors of the model, or has them in another shape.
        """
        super()._log_incompatible_keys(incompatible)
        wrong = [*incompatible.missing_keys, *(name for name, *_ in incompatible.incorrect_shapes)]
        if wrong:
            raise ValueError(
                f"MODEL.WEIGHTS does not fit this model: {len(wrong)} of its tensors are missing "
                f"from the file or have another shape there, such as {wrong[0]}."
            )
