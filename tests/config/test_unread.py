"""Every key is read, refused where it has no effect, or listed here with the reason why not."""

from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from clq.config import check_unread_by_run, flatten, get_clq_cfg
from clq.config.unread import (
    NOT_AVAILABLE,
    SECTIONS_OF_OTHERS,
    UNREAD_BY_EVALUATION,
    UNREAD_BY_MODEL,
    UNREAD_BY_RUN,
)
from clq.engine import CLQTrainer, setup
from reference.tiny import TinyData, command_line, parse

MAY_BE_IGNORED = {
    "CUDNN_BENCHMARK": "read while the process is set up",
    "DATASETS.TRAIN_JSON": "read while the data sets are registered",
    "DATASETS.VAL_JSON": "read while the data sets are registered",
    "DETERMINISTIC": "read while the process is set up",
    "FLOAT32_PRECISION": "a key of Detectron2's main, read while the process is set up",
    "MODEL.ALLOW_FROZEN_RANDOM": "read while the training is checked",
    "MODEL.FAST_INFERENCE": "read by evaluations, and refused for trainings",
    "SOLVER.REFERENCE_BATCH_SIZE": "read while the schedule is scaled",
    "VERSION": "read while a config file is merged",
}


class Recorder(CfgNode):
    """A configuration that notes which of its keys are read."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __getitem__(self, name: str) -> Any:
        self.__dict__["read"].add(self.__dict__["prefix"] + name)
        return super().__getitem__(name)

    def clone(self) -> "Recorder":
        return recorder(self, self.__dict__["read"], self.__dict__["prefix"])


def recorder(node: CfgNode, read: set[str], prefix: str = "") -> Recorder:
    copy = Recorder()
    copy.__dict__.update(node.__dict__, read=read, prefix=prefix)
    for name, value in node.items():
        is_section = isinstance(value, CfgNode)
        part = recorder(value, read, f"{prefix}{name}.") if is_section else value
        dict.__setitem__(copy, name, part)
    return copy


def is_named(key: str, names: Any) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


@pytest.mark.usefixtures("cpu_only")
def test_every_key_is_read_refused_or_listed(tiny_data: TinyData, tmp_path: Path):
    read: set[str] = set()
    keys = {"SOLVER.MAX_ITER": 1, "MODEL.DEVICE": "cpu"}
    cfg = setup(parse(command_line(tiny_data, tmp_path, keys=keys)))
    trainer = CLQTrainer(recorder(cfg, read))
    trainer.resume_or_load(resume=False)
    trainer.train()
    unread = {key for key, _ in flatten(cfg)} - read
    refused = [*SECTIONS_OF_OTHERS, *NOT_AVAILABLE]
    for table in (UNREAD_BY_MODEL, UNREAD_BY_RUN, UNREAD_BY_EVALUATION):
        refused += [name for names in table.values() for name in names]
    known = {key for key, _ in flatten(get_clq_cfg())}
    assert {key for key in unread if not is_named(key, refused)} == known & set(MAY_BE_IGNORED)


def refusal(keys: dict[str, Any], given: Any = (), *, eval_only: bool = False) -> str:
    cfg = get_clq_cfg()
    cfg.merge_from_list([part for item in keys.items() for part in item])
    with pytest.raises(ValueError) as error:
        check_unread_by_run(cfg, get_clq_cfg(), given, eval_only=eval_only)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("INPUT.MASK_FORMAT", "bitmask", "CLQ learns no masks"),
        ("DATASETS.PROPOSAL_FILES_TEST", ("a.pkl",), "CLQ takes no proposals"),
    ],
)
@pytest.mark.parametrize("eval_only", [False, True])
def test_what_no_run_does_is_refused(key: str, value: Any, reason: str, eval_only: bool):
    sentence = refusal({key: value}, eval_only=eval_only)
    assert sentence.startswith(f"{key} is {value!r}, but {reason}; leave it at ")


@pytest.mark.parametrize(
    ("chosen", "key", "value"),
    [
        ({"SOLVER.OPTIMIZER": "AdamW"}, "SOLVER.MOMENTUM", 0.8),
        ({"MODEL.BACKBONE.NAME": "build_torchvision_fpn_backbone"}, "MODEL.RESNETS.DEPTH", 18),
        (
            {"MODEL.BACKBONE.NAME": "build_clq_resnet_fpn_backbone"},
            *("MODEL.TORCHVISION.FREEZE_NORM", False),
        ),
        *(
            ({"MODEL.BACKBONE.NAME": f"build_{name}_fpn_backbone"}, key, value)
            for name, key, value in (
                ("clq_resnet", "MODEL.TIMM.NAME", "resnet18"),
                ("torchvision", "MODEL.TIMM.DROP_PATH_RATE", 0.1),
                ("timm", "MODEL.TORCHVISION.NAME", "resnet18"),
                ("timm", "MODEL.RESNETS.DEPTH", 18),
                ("timm", "MODEL.BACKBONE.FREEZE_AT", 0),
            )
        ),
        ({}, "MODEL.COMPILE.BACKEND", "eager"),
        ({}, "SOLVER.AMP.PRECISION", "bfloat16"),
        ({}, "INPUT.CROP.SIZE", [0.5, 0.5]),
        ({}, "MODEL.RESNETS.DEFORM_NUM_GROUPS", 2),
        ({}, "DATALOADER.REPEAT_THRESHOLD", 0.1),
    ],
)
def test_a_key_of_a_part_that_is_not_chosen_is_refused(chosen: dict, key: str, value: Any):
    assert f"{key} is {value!r}, but nothing reads it where " in refusal({**chosen, key: value})
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value])
    check_unread_by_run(cfg, get_clq_cfg(), (), eval_only=True)


def test_what_a_base_config_sets_is_refused_from_the_command_line_alone():
    keys = {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR", "SOLVER.STEPS": (10, 20)}
    cfg = get_clq_cfg()
    cfg.merge_from_list([part for item in keys.items() for part in item])
    check_unread_by_run(cfg, get_clq_cfg(), (), eval_only=False)
    assert "SOLVER.STEPS is (10, 20), but nothing reads it" in refusal(keys, ["SOLVER.STEPS"])


def test_what_a_checkpoint_was_trained_with_is_no_fault_of_the_user():
    cfg = get_clq_cfg()
    cfg.merge_from_list(["SOLVER.OPTIMIZER", "AdamW", "SOLVER.MOMENTUM", 0.8])
    check_unread_by_run(cfg, cfg, (), eval_only=False)


def test_what_the_command_line_switches_off_a_config_file_may_have_set_up():
    keys = {"INPUT.CROP.ENABLED": False, "INPUT.CROP.TYPE": "absolute"}
    switch, set_up = keys
    cfg = get_clq_cfg()
    cfg.merge_from_list([part for item in keys.items() for part in item])
    check_unread_by_run(cfg, get_clq_cfg(), [switch], eval_only=False)
    for given in ([], [set_up], [switch, set_up]):
        assert f"{set_up} is 'absolute', but nothing reads it" in refusal(keys, given)


@pytest.mark.parametrize(
    ("key", "value", "chooser", "part"),
    [
        ("TEST.AUG.FLIP", False, "TEST.AUG.ENABLED", False),
        ("TEST.AUG.MERGE", "vote", "TEST.AUG.ENABLED", False),
        ("TEST.TILE_OVERLAP", 0.5, "TEST.TILE", 0),
        ("TEST.TILE_WHOLE", True, "TEST.TILE", 0),
    ],
)
def test_views_that_an_evaluation_does_not_look_at(key: str, value: Any, chooser: str, part: Any):
    sentence = refusal({key: value}, given=(key,), eval_only=True)
    assert sentence.startswith(
        f"{key} is {value!r}, but nothing reads it where {chooser} is {part}"
    )
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value])
    check_unread_by_run(cfg, get_clq_cfg(), (), eval_only=True)  # of a file, for a prediction
    check_unread_by_run(cfg, get_clq_cfg(), (key,), eval_only=False)
