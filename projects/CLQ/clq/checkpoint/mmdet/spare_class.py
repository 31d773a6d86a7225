"""The unused extra class channel of the CLQ authors' released head."""

from enum import Enum

from torch import Tensor

# A channel below both limits never makes a detection.
_MAX_BIAS = -9.0
_MAX_NORM = 0.25  # of its weight, relative to the median of the other classes


class Spare(Enum):
    """Treatment of the spare class channel."""

    DROP_IF_SILENT = "drop it where it says nothing, else refuse the file"
    DROP = "drop it"
    KEEP = "keep it as a class of its own"


def drop_spare_class(weight: Tensor, bias: Tensor, spare: Spare) -> tuple[Tensor, Tensor, str]:
    """Drop the last class channel, unless it is to be kept.

    Args:
        weight: of the class predictor, (K + 1, C, 3, 3).
        bias: (K + 1,).
        spare: treatment of the channel.

    Returns:
        Weight, bias, and a note for the log.

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
    silent = bias[-1].item() <= _MAX_BIAS and norm <= _MAX_NORM * median
    if not silent and spare is Spare.DROP_IF_SILENT:
        raise ValueError(
            f"the last class channel does not look spare ({facts}; at most {_MAX_BIAS:g} and "
            f"{_MAX_NORM:g} of the median would do): use --keep-spare or --drop-spare of "
            "tools/convert_checkpoint.py."
        )
    return weight[:-1], bias[:-1], f"Dropped the spare class channel: {facts}."
