"""The spare class channel: dropped where it is silent, else only when told."""

import pytest
import torch

from clq.checkpoint.mmdet.spare_class import Spare, drop_spare_class


def predictor(bias: float, norm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes of weight norms 1, 2 and 6, and the spare one."""
    weight = torch.zeros(4, 2, 3, 3)
    weight[:, 0, 0, 0] = torch.tensor([1.0, 2.0, 6.0, norm])
    return weight, torch.tensor([-4.0, -4.0, -4.0, bias])


@pytest.mark.parametrize(("bias", "norm"), [(-12.0, 0.2), (-9.0, 0.5)])
def test_a_silent_channel_is_dropped(bias: float, norm: float):
    weight, biases = predictor(bias, norm)
    kept, kept_bias, note = drop_spare_class(weight, biases, Spare.DROP_IF_SILENT)
    assert kept.equal(weight[:3]) and kept_bias.equal(biases[:3])
    assert note == (
        f"Dropped the spare class channel: bias {bias:.2f}, weight norm {norm}, median class 2."
    )


def test_one_channel_alone_is_not_spare():
    weight, biases = predictor(-12, 0.2)
    with pytest.raises(ValueError, match="one class channel, so none can be spare"):
        drop_spare_class(weight[:1], biases[:1], Spare.DROP)


@pytest.mark.parametrize(("bias", "norm"), [(-8.9, 0.2), (-12.0, 0.51)])
def test_another_is_refused_unless_told(bias: float, norm: float):
    weight, biases = predictor(bias, norm)
    with pytest.raises(ValueError, match=f"bias {bias:.2f}, weight norm {norm}.*--keep-spare or"):
        drop_spare_class(weight, biases, Spare.DROP_IF_SILENT)
    assert len(drop_spare_class(weight, biases, Spare.DROP)[0]) == 3
    kept, _, note = drop_spare_class(weight, biases, Spare.KEEP)
    assert kept.equal(weight) and note.startswith("Kept")
