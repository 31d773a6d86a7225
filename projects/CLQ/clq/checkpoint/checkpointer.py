"""Loading a trained detector."""

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer


class CompleteCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that refuses weights which do not fill the model."""

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
