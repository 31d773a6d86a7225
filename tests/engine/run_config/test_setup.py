"""From the command line to a configuration: what is filled in and what is refused."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from clq.checkpoint.output_dir import list_checkpoints
from clq.config import check_training_config
from clq.engine import build_config, setup
from clq.engine.distributed.cluster_env import RankInfo
from clq.engine.run_config.setup import find_device
from reference.tiny import CLASS_NAMES, CONFIG, KEYS, TinyData, command_line, options, parse

pytestmark = pytest.mark.usefixtures("cpu_only")
CHOSEN_DEVICE = {key: value for key, value in KEYS.items() if key != "MODEL.DEVICE"}


def refusal(arguments: list[str]) -> str:
    """The message of the refusal, which must be one line."""
    with pytest.raises(ValueError) as error:
        build_config(parse(arguments))
    message = str(error.value)
    assert "\n" not in message.strip()
    return message


def test_data_from_json_sets_classes_and_data_sets(tiny_data: TinyData, tmp_path: Path):
    cfg = build_config(parse(command_line(tiny_data, tmp_path)))
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("train",), ("val",))
    assert cfg.MODEL.CLQ.NUM_CLASSES == 3
    assert MetadataCatalog.get("train").thing_classes == CLASS_NAMES
    assert len(DatasetCatalog.get("val")) == 3
    assert not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    assert cfg.is_frozen()


def test_json_may_be_given_by_keys_too(tiny_data: TinyData, tmp_path: Path):
    keys = {
        f"DATASETS.{split}_JSON": tuple(map(str, pair))
        for split, pair in (("TRAIN", tiny_data.train), ("VAL", tiny_data.val))
    }
    cfg = build_config(parse(command_line(None, tmp_path, keys=keys)))
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("train",), ("val",))


def test_command_line_goes_before_the_file(tmp_path: Path):
    file = tmp_path / "leaf.yaml"
    file.write_text(f'_BASE_: "{CONFIG}"\nSOLVER:\n  MAX_ITER: 7\n  BASE_LR: 0.5\n')
    arguments = ["--config-file", str(file), *options({"SOLVER.MAX_ITER": 9})]
    cfg = build_config(parse(arguments))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (9, 0.5)
    assert cfg.MODEL.META_ARCHITECTURE == "CLQ"


def test_evaluation_needs_no_training_data(tiny_data: TinyData):
    arguments = ["--eval-only", "--val", *map(str, tiny_data.val)]
    cfg = build_config(parse(["--config-file", str(CONFIG), *arguments]))
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == ((), ("val",))
    assert cfg.MODEL.CLQ.NUM_CLASSES == 3


def test_training_needs_no_evaluation_data(tiny_data: TinyData):
    arguments = ["--config-file", str(CONFIG), "--train", *map(str, tiny_data.train)]
    cfg = build_config(parse(arguments))
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("train",), ())


# --------------------------------------------------------------------------------------- device


def test_without_cuda_it_runs_on_cpu_and_says_so_in_one_line(tiny_data: TinyData, tmp_path: Path):
    arguments = command_line(tiny_data, tmp_path)
    place = arguments.index("MODEL.DEVICE")
    del arguments[place : place + 2]
    cfg = setup(parse(arguments))
    assert cfg.MODEL.DEVICE == "cpu"
    log = (tmp_path / "log.txt").read_text()
    assert log.count("Running on CPU with 1 threads, since this machine has no CUDA.") == 1


def test_with_cuda_the_default_stays(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    arguments = ["--config-file", str(CONFIG), "--train", *map(str, tiny_data.train)]
    assert build_config(parse(arguments)).MODEL.DEVICE == "cuda"
    assert build_config(parse([*arguments, "MODEL.DEVICE", "cpu"])).MODEL.DEVICE == "cpu"


def test_cuda_that_was_asked_for_and_is_absent_is_refused(tiny_data: TinyData, tmp_path: Path):
    message = refusal(command_line(tiny_data, tmp_path, keys={"MODEL.DEVICE": "cuda"}))
    assert message.startswith("MODEL.DEVICE is cuda, but this machine has no CUDA")


@pytest.mark.parametrize("number", ["1", "2"])
@pytest.mark.parametrize("starts", ["--num-gpus", "--num-machines", "torchrun"])
def test_a_gpu_of_many_processes_is_refused(
    starts: str, number: str, tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    flags = [] if starts == "torchrun" else [starts, number]
    data = ["--config-file", str(CONFIG), "--train", *map(str, tiny_data.train)]
    for device in ("cuda", "cuda:1"):
        args = parse([*data, *flags, "MODEL.DEVICE", device])
        if starts == "torchrun":
            args.place = RankInfo(starts, 0, int(number), local_rank=0, node=0, url="env://")
        if device == "cuda" or number == "1":
            assert build_config(args).MODEL.DEVICE == find_device(args) == device
            continue
        for build in (build_config, find_device):
            with pytest.raises(ValueError) as error:
                build(args)
            assert str(error.value) == (
                "MODEL.DEVICE is cuda:1, but each of the 2 processes takes a GPU of its own; say "
                "cuda."
            )


def test_the_device_is_known_without_the_data(tmp_path: Path):
    keys = ["OUTPUT_DIR", str(tmp_path), "DATASETS.TRAIN", "('nowhere',)"]
    assert find_device(parse(["--config-file", str(CONFIG), *keys])) == "cpu"


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.CLQ.NO_SUCH_KEY": 1}, "there is no key MODEL.CLQ.NO_SUCH_KEY"),
        ({"SOLVER.MAX_ITER": "many"}, "SOLVER.MAX_ITER"),
        ({"MODEL.DEVICE": "gpu"}, "MODEL.DEVICE is 'gpu'"),
        ({"MODEL.RETINANET.NUM_CLASSES": 3}, "CLQ ignores it; use MODEL.CLQ"),
        ({"MODEL.CLQ.NUM_CLASSES": 5}, "NUM_CLASSES is 5, but the data set 'train' has 3 classes"),
        ({"SOLVER.IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH is 0"),
    ],
)
def test_a_wrong_key_is_refused(
    keys: dict[str, Any], message: str, tiny_data: TinyData, tmp_path: Path
):
    assert message in refusal(command_line(tiny_data, tmp_path, keys=keys))


def test_an_explicit_class_count_that_fits_is_accepted(tiny_data: TinyData, tmp_path: Path):
    keys = {"MODEL.CLQ.NUM_CLASSES": 3}
    assert build_config(parse(command_line(tiny_data, tmp_path, keys=keys))).MODEL.CLQ.NUM_CLASSES


def test_missing_weights_are_refused_unless_a_checkpoint_goes_before(
    tiny_data: TinyData, tmp_path: Path
):
    keys = {"MODEL.WEIGHTS": tmp_path / "nowhere.pth"}
    (tmp_path / "model_0000003.pth").touch()
    sentence = f"the weights {tmp_path}/nowhere.pth do not exist."
    assert refusal(command_line(tiny_data, tmp_path, keys=keys)) == sentence
    flags = ("--eval-only", "--resume")
    assert refusal(command_line(tiny_data, tmp_path, *flags, keys=keys)) == sentence
    build_config(parse(command_line(tiny_data, tmp_path, "--resume", keys=keys)))
    (tmp_path / "model_0000003.pth").unlink()
    assert refusal(command_line(tiny_data, tmp_path, "--resume", keys=keys)) == sentence


def test_a_key_without_value_is_refused(tiny_data: TinyData, tmp_path: Path):
    arguments = [*command_line(tiny_data, tmp_path), "SOLVER.MAX_ITER"]
    assert "'SOLVER.MAX_ITER' is left over" in refusal(arguments)


def test_a_missing_json_is_refused(tiny_data: TinyData, tmp_path: Path):
    missing = tiny_data.train._replace(json_file=tmp_path / "nowhere.json")
    message = refusal(command_line(tiny_data._replace(train=missing), tmp_path))
    assert message == f"annotation file {tmp_path / 'nowhere.json'} does not exist"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("MODEL: [", "is not valid yaml"),
        ("MODEL:\n  CLQ:\n    NO_SUCH_KEY: 1\n", "there is no key MODEL.CLQ.NO_SUCH_KEY"),
    ],
)
def test_a_wrong_config_file_is_refused(content: str | None, message: str, tmp_path: Path):
    file = tmp_path / "wrong.yaml"
    if content is not None:
        file.write_text(content)
    assert message in refusal(["--config-file", str(file)])


def test_named_data_must_have_the_models_classes_and_exist(tmp_path: Path):
    keys: dict[str, Any] = {"DATASETS.TRAIN": "('clq_trees_train',)", "DATASETS.TEST": "()"}
    message = refusal(command_line(None, tmp_path, keys=keys))
    assert "NUM_CLASSES is 80, but the data set 'clq_trees_train' has 1 classes" in message
    keys["DATASETS.TRAIN"] = "('nowhere',)"
    assert "no data set of the name 'nowhere'" in refusal(command_line(None, tmp_path, keys=keys))


def test_no_data_is_refused(tiny_data: TinyData):
    config = ["--config-file", str(CONFIG)]
    assert "--train" in refusal([*config, "--val", *map(str, tiny_data.val)])
    train = ["--train", *map(str, tiny_data.train)]
    assert "--val" in refusal([*config, "--eval-only", *train])


def test_a_batch_must_be_shared_out_evenly(tiny_data: TinyData, tmp_path: Path):
    message = refusal(command_line(tiny_data, tmp_path, "--num-gpus", "3"))
    assert "SOLVER.IMS_PER_BATCH is 2" in message and "processes, 3." in message
    build_config(parse(command_line(tiny_data, tmp_path, "--num-gpus", "2")))
    args = parse(command_line(tiny_data, tmp_path))
    args.place = RankInfo("srun", 2, 3, local_rank=0, node=2, url="tcp://node1:29500")
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 2; .* processes, 3."):
        build_config(args)


# ----------------------------------------------------------------------------------------- setup


def test_setup_seeds_and_keeps_the_configuration(tiny_data: TinyData, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    cfg = setup(parse(command_line(tiny_data, first)))
    drawn = torch.rand(3)
    setup(parse(command_line(tiny_data, second)))
    assert torch.rand(3).equal(drawn)
    setup(parse(command_line(tiny_data, second, keys={"SEED": 4})))
    assert not torch.rand(3).equal(drawn)
    kept = build_config(parse(["--config-file", str(first / "config.yaml")]))
    assert yaml.safe_load(kept.dump()) == yaml.safe_load(cfg.dump())


def test_a_training_that_torchrun_starts_again_goes_on(tiny_data: TinyData, tmp_path: Path):
    def start(launch_id: str, *flags: str) -> bool:
        """Tell whether a launch would resume from what is in the folder."""
        args = parse(command_line(tiny_data, tmp_path, *flags))
        where = {"local_rank": 0, "node": 0, "url": "env://", "launch_id": launch_id}
        args.place = RankInfo("torchrun", 0, 1, **where)
        setup(args)
        return args.resume

    assert not start("first", "--eval-only")
    assert not start("first")
    (tmp_path / "model_0000003.pth").touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["model_0000003.pth"]
    for _ in range(2):  # torchrun repeats what was refused
        with pytest.raises(ValueError, match="holds checkpoints of an earlier training"):
            start("second")
    assert not start("first", "--eval-only")
    (tmp_path / "model_0000003.pth").unlink()
    assert start("first")
    sentence = "torchrun has started the processes anew, so the training resumes as with --resume."
    assert (tmp_path / "log.txt").read_text().count(sentence) == 1
    assert not start("second")


def test_coco_that_is_not_on_this_machine_is_named(tmp_path: Path):
    config = str(CONFIG.parent / "COCO-Detection" / "clq_R_50_FPN_1x.yaml")
    args = parse(["--config-file", config, "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(ValueError, match="instances_train2017.json; set DETECTRON2_DATASETS"):
        setup(args)
    assert list(tmp_path.iterdir()) == []


def test_a_config_of_another_detector_is_refused(tiny_data: TinyData):
    data = ["--train", *map(str, tiny_data.train), "--val", *map(str, tiny_data.val)]
    data += ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
    assert "MODEL.META_ARCHITECTURE is 'GeneralizedRCNN', not CLQ" in refusal(data)


def test_a_deterministic_run_lets_no_other_operators_run(tiny_data: TinyData, tmp_path: Path):
    try:
        setup(parse(command_line(tiny_data, tmp_path, keys={"DETERMINISTIC": False})))
        assert not torch.are_deterministic_algorithms_enabled()
        setup(parse(command_line(tiny_data, tmp_path, keys={"DETERMINISTIC": True})))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_device_that_is_named_by_number_becomes_the_current_one(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    # Detectron2's part then asks the driver about the device.
    module = sys.modules[setup.__module__]
    monkeypatch.setattr(module, "default_setup", lambda cfg, args: None)
    for device in ("cuda:1", "cuda", "cpu"):
        folder = tmp_path / device.replace(":", "")
        setup(parse(command_line(tiny_data, folder, keys={"MODEL.DEVICE": device})))
    assert chosen == ["cuda:1"]


def test_deformable_stages_are_refused_in_a_deterministic_run_on_a_gpu(
    tiny_data: TinyData, tmp_path: Path
):
    keys = {"DETERMINISTIC": True, "MODEL.RESNETS.DEFORM_ON_PER_STAGE": "(False,False,True,True)"}
    cfg = build_config(parse(command_line(tiny_data, tmp_path, keys=keys)))
    check_training_config(cfg)  # on CPU they keep their order
    cfg.defrost()
    cfg.MODEL.DEVICE = "cuda:1"
    with pytest.raises(ValueError) as error:
        check_training_config(cfg)
    assert str(error.value) == (
        "DETERMINISTIC is True, but MODEL.RESNETS.DEFORM_ON_PER_STAGE is [False, False, True, "
        "True], and deformable stages train in no fixed order on a GPU; set DETERMINISTIC to "
        "False or all stages to False."
    )
    cfg.DETERMINISTIC = False
    check_training_config(cfg)
