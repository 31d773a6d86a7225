"""Settings that make sense only with pretrained weights."""

from pathlib import Path
from typing import Any

import pytest

from clq.engine import build_config, setup
from clq.engine.run_config.frozen_backbone import check_frozen_parts
from reference.tiny import TinyData, command_line, parse

pytestmark = pytest.mark.usefixtures("cpu_only")
TORCHVISION = "build_torchvision_fpn_backbone"
# The keys of the tiny ResNet at their defaults.
NO_RESNET: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": TORCHVISION,
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
}
FROZEN: list[tuple[dict[str, Any], str]] = [
    ({"MODEL.BACKBONE.FREEZE_AT": 1}, "frozen stem and 1 norms with fixed statistics"),
    ({"MODEL.BACKBONE.FREEZE_AT": 2, "MODEL.RESNETS.NORM": ""}, "frozen stem, res2"),
    ({"MODEL.RESNETS.NORM": "FrozenBN"}, "53 norms with fixed statistics"),
    (
        {"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.RESNETS.TRAIN_NORM_AFFINE": True},
        "53 norms with fixed statistics",
    ),
    (NO_RESNET, "52 norms with fixed statistics"),
    (
        {
            **NO_RESNET,
            "MODEL.TORCHVISION.FREEZE_NORM": False,
            "MODEL.TORCHVISION.FROZEN_LAYERS": '["features.0"]',
        },
        "frozen features.0",
    ),
]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(("keys", "parts"), FROZEN, ids=[case[1] for case in FROZEN])
def test_what_is_frozen_must_be_loaded(
    keys: dict[str, Any], parts: str, resume: bool, tiny_data: TinyData, tmp_path: Path
):
    output = tmp_path / "out"
    flags = ["--resume"] if resume else []
    with pytest.raises(ValueError) as error:
        setup(parse(command_line(tiny_data, output, *flags, keys=keys)))
    assert str(error.value).startswith(f"MODEL.WEIGHTS is empty, but the backbone has {parts}, ")
    assert "name pretrained weights, or set MODEL." in str(error.value) and not output.exists()
    keys = {**keys, "MODEL.ALLOW_FROZEN_RANDOM": True}
    cfg = build_config(parse(command_line(tiny_data, output, keys=keys)))
    check_frozen_parts(cfg, resume=resume)


def test_what_trains_may_start_at_random(tiny_data: TinyData, tmp_path: Path):
    keys = {**NO_RESNET, "MODEL.TORCHVISION.FREEZE_NORM": False}
    for more in ({}, keys):
        cfg = build_config(parse(command_line(tiny_data, tmp_path, keys=more)))
        check_frozen_parts(cfg, resume=False)


def test_files_of_the_user_alone_take_a_pretrained_config(tiny_data: TinyData, tmp_path: Path):
    """The same by flags, and by the yaml that docs/own-data.md shows."""
    pairs = {"TRAIN_JSON": tiny_data.train, "VAL_JSON": tiny_data.val}
    file = tmp_path / "mine.yaml"
    base = Path(__file__).parents[3] / "configs" / "clq_own_data.yaml"
    lines = [f'  {key}: ("{json}", "{images}")' for key, (json, images) in pairs.items()]
    file.write_text("\n".join([f'_BASE_: "{base}"', "DATASETS:", *lines]))
    train, val = (list(map(str, pair)) for pair in pairs.values())
    by_flags = build_config(parse(["--train", *train, "--val", *val]))
    assert by_flags == build_config(parse(["--config", str(file)]))
    assert by_flags.MODEL.WEIGHTS and by_flags.SOLVER.MAX_ITER == 1500
