"""The released CLQ head's class channel too many: trained towards 0 and never an object's."""

from enum import Enum

from torch import Tensor

__all__ = ["Spare", "drop_spare_class"]

# A channel that says as little as this never makes a detection.
_LARGEST_BIAS = -9.0
_LARGEST_NORM = 0.25  # of its weight, relative to the median of the other classes


class Spare(Enum):
    """Treatment of the spare class channel."""

    DROP_IF_SILENT = "drop it where it says nothing, else refuse the file"
    DROP = "drop it"
    KEEP = "keep it as a class of its own"


def drop_spare_class(weight: Tensor, bias: Tensor, spare: Spare) -> tuple[Tensor, Tensor, str]:
    """Leave out the last of the class channels, or not.

    Args:
        weight: of the class predictor, (K + 1, C, 3, 3).
        bias: (K + 1,).
        spare: what to do.

    Returns:
        Weight and bias, and a sentence that says what was done.

    Raises:
        ValueError: there is no other channel, or this one is not silent and ``spare`` does not say
            what to do with it.
    """
    if len(weight) < 2:
        raise ValueError("it has one class channel, so none can be spare.")
    norms = weight.flatten(1).norm(dim=1)  # (K + 1,)
    norm, median = norms[-1].item(), norms[:-1].median().item()
    facts = f"bias {bias[-1].item():.2f}, weight norm {norm:.3g}, median class {median:.3g}"
    if spare is Spare.KEEP:
        return weight, bias, f"Kept the spare class channel as a class of its own: {facts}."
    silent = bias[-1].item() <= _LARGEST_BIAS and norm <= _LARGEST_NORM * median
    if not silent and spare is Spare.DROP_IF_SILENT:
        raise ValueError(
            f"the last class channel does not look spare ({facts}; at most {_LARGEST_BIAS:g} and "
            f"{_LARGEST_NORM:g} of the median would do): use --keep-spare or --drop-spare of "
            "tools/convert_checkpoint.py."
        )
    return weight[:-1], bias[:-1], f"Dropped the spare class channel: {facts}."
