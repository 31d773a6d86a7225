"""Missing, unknown and invalid tensors of the reference's checkpoint are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

from clq.checkpoint import identify
from clq.checkpoint.identify import read_weights
from clq.checkpoint.match_state_dict import match_state_dict
from clq.checkpoint.mmdet.names import is_ignored_buffer
from reference.golden import GOLDEN_DIR
from reference.mmdet_style import FAMILY, mmdet_state, random_detector, small_config

GOLDEN = min(GOLDEN_DIR.glob("mmdet_style_checkpoint_*.pth"))
CONTENT = torch.load(GOLDEN, map_location="cpu", weights_only=True)
STATE: dict[str, Tensor] = CONTENT["state_dict"]
ONE = torch.ones(1)


@pytest.fixture(scope="module")
def model() -> dict[str, Tensor]:
    config = read_weights(GOLDEN).config
    assert config is not None
    config.MODEL.DEVICE = "cpu"
    return dict(build_model(config).state_dict())


@pytest.fixture
def refusal(model: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function from a state in place of the reference's to the error message."""

    def refuse(state: dict[Any, Any]) -> str:
        content = {**CONTENT, "state_dict": state}
        monkeypatch.setattr(identify, "read_file", lambda *_, **__: content)
        with pytest.raises(ValueError) as error:
            match_state_dict(read_weights("x.pth"), model, may_change_classes=False)
        return str(error.value)

    return refuse


@pytest.mark.parametrize("name", [name for name in STATE if not is_ignored_buffer(name)])
def test_each_tensor_that_is_missing_is_named(name: str, refusal: Any):
    message = refusal({n: t for n, t in STATE.items() if n != name})
    assert name in message and "missing" in message and "unknown" not in message


@pytest.mark.parametrize(
    "name",
    [
        "bbox_head.atss_centerness.weight",
        "bbox_head.gfl_cls.weight",
        "bbox_head.gfl_reg.bias",
        "bbox_head.scales.9.scale",
        "bbox_head.scales.05.scale",
        "bbox_head.odd_momentum",
        "head.cls_score.weight",
        "head.scales",
        "backbone.fpn_lateral3.weight",
        "neck.extra.weight",
        "backbone.layer1.9.odd.weight",
        "of_something_else",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_each_tensor_too_many_is_named(name: str, first: bool, refusal: Any):
    extra = {name: ONE}
    message = refusal({**extra, **STATE} if first else {**STATE, **extra})
    assert message == f"does not fit the model: unknown tensors (1): {name}."


def refusal_by_own_model(head: str, keys: dict[str, Any], extra: str, folder: Path) -> str:
    """Error message for a detector's tensors and one more, loaded into the same model."""
    model = random_detector(small_config({**FAMILY[head], **keys}))
    torch.save({**mmdet_state(model, head), extra: ONE}, folder / "x.pth")
    with pytest.raises(ValueError) as error:
        match_state_dict(
            read_weights(folder / "x.pth"), model.state_dict(), may_change_classes=False
        )
    return str(error.value)


def test_two_tensors_for_one_place(tmp_path: Path):
    """Offsets of deformable stages had another name in early releases."""
    keys = {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, True]}
    name = "backbone.layer4.0.conv2_offset.bias"
    message = refusal_by_own_model("clq", keys, name, tmp_path)
    assert message == f"does not fit the model: unknown tensors (1): {name}."


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("gfl", "bbox_head.atss_centerness.weight"),
        ("gfl", "bbox_head.clq_cls.weight"),
        ("atss", "bbox_head.retina_iou.weight"),
    ],
)
def test_a_part_of_another_head_does_not_choose_the_head(head: str, name: str, tmp_path: Path):
    message = refusal_by_own_model(head, {}, name, tmp_path)
    assert message == f"does not fit the model: unknown tensors (1): {name}."


PREDICTOR = "bbox_head.clq_cls.weight"
BIAS = "bbox_head.clq_cls.bias"
COUNT = len(STATE[PREDICTOR])  # of classes, the spare one included
WIDTH = len(STATE["backbone.bn1.weight"])


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("bbox_head.scales.2.scale", torch.ones(2), "shape (2,), but must be one number"),
        (PREDICTOR, torch.tensor(1.0), "shape (), but must have 4 dimensions"),
        (PREDICTOR, torch.ones(8), "shape (8,), but must have 4 dimensions"),
        (PREDICTOR, torch.ones(1, 64, 3, 3), f"has 1 channels, but {BIAS} {COUNT}"),
        (BIAS, torch.ones(COUNT - 1), f"has {COUNT} channels, but {BIAS} {COUNT - 1}"),
        ("bbox_head.clq_reg.weight", torch.ones(9, 64, 3, 3), "has 9 channels"),
        ("bbox_head.clq_reg.weight", torch.tensor(1.0), "must have 4 dimensions"),
        ("backbone.conv1.weight", torch.tensor(1.0), "must have 4 dimensions"),
        ("backbone.layer1.0.conv2.weight", torch.ones(3), "must have 4 dimensions"),
        ("backbone.layer1.0.conv2.weight", torch.ones(8, 0, 3, 3), "none of them empty"),
        ("neck.fpn_convs.0.conv.weight", torch.tensor(1.0), "must have 4 dimensions"),
        ("backbone.bn1.weight", torch.ones(8).to_sparse(), "sparse"),
        ("backbone.bn1.weight", torch.ones(8, dtype=torch.int64), "of int64, not of floating"),
        ("backbone.bn1.weight", torch.ones(8, dtype=torch.complex64), "of complex64, not of"),
        ("backbone.bn1.weight", torch.full((8,), float("nan")), "not finite"),
        ("backbone.bn1.weight", torch.ones(8, device="meta"), "without values"),
        (
            "backbone.bn1.weight",
            torch.ones(WIDTH + 1),
            f"(there backbone.bn1.weight) ({WIDTH + 1},) for ({WIDTH},)",
        ),
    ],
)
def test_values_that_are_no_weights_are_named(
    name: str, tensor: Tensor, message: str, refusal: Any
):
    refused = refusal({**STATE, name: tensor})
    assert name in refused and message in refused


def test_an_index_that_no_network_has(refusal: Any):
    name = "bbox_head.cls_convs.99999999.conv.weight"
    assert "cls_convs count up to 99999999" in refusal({**STATE, name: ONE})


def test_offsets_of_no_kind(refusal: Any):
    name = "backbone.layer4.0.conv2.conv_offset.weight"
    message = refusal({**STATE, name: torch.ones(20, 64, 3, 3)})
    assert f"the tensor {name} has 20 channels" in message


def test_a_head_that_is_none(refusal: Any):
    state = {n.replace("clq_", "vfnet_"): t for n, t in STATE.items()}
    assert "its head is none of ATSS, GFL or CLQ" in refusal(state)


def test_a_name_that_is_none(refusal: Any):
    assert "holds a tensor under 3" in refusal({**STATE, 3: ONE})
