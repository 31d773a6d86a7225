"""train_net.py from the command line to results.json: train, stop, resume, evaluate."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import train_net
from clq.checkpoint import load_detector
from clq.engine import TrainingStep, user_errors
from clq.evaluation import METRIC_NAMES
from reference.forks import ForkedProgram
from reference.refusal import refusal
from reference.tiny import (
    CLASS_NAMES,
    ROOT,
    TinyData,
    command_line,
    options,
    parse,
    start_training,
    write_pair,
)

pytestmark = pytest.mark.usefixtures("cpu_only")


DETECTIONS = "inference/val/coco_instances_results.json"


def train(data: TinyData, output: Path, *flags: str, **keys: Any) -> None:
    train_net.main(parse(command_line(data, output, *flags, keys=keys)))


def logged_numbers(output: Path) -> list[str]:
    """The lines of numbers that an evaluation printed last."""
    lines = [
        line.split("copypaste: ")[1] for line in log(output).splitlines() if "copypaste" in line
    ]
    return lines[-3:]


def log(output: Path) -> str:
    return (output / "log.txt").read_text()


# -------------------------------------------------------------------------- training, evaluation


@pytest.fixture(scope="module")
def tiny_data(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Images enough to evaluate on that a short training finds something in one of them."""
    folder = tmp_path_factory.mktemp("evaluated")
    return tiny_data._replace(val=write_pair(folder, "val", num_images=9, seed=2))


@pytest.fixture(scope="module")
def trained(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training long enough to detect something."""
    output = tmp_path_factory.mktemp("trained")
    train(tiny_data, output, **{"SOLVER.MAX_ITER": 40})
    return output


def test_training_writes_numbers_of_the_data_it_was_given(trained: Path, tiny_data: TinyData):
    results = json.loads((trained / "results.json").read_text())
    assert set(results) == {"val"}
    assert set(results["val"]) == {*METRIC_NAMES, "per_class"}
    assert list(results["val"]["per_class"]) == CLASS_NAMES
    assert results["val"]["AP50"] > 0, "too little training for the tests below to mean much"
    assert results["val"]["APl"] is None  # no object is that large
    found = json.loads((trained / DETECTIONS).read_text())
    assert {detection["category_id"] for detection in found} == {3, 17, 90}
    images = {image["id"] for image in tiny_data.val.content["images"]}
    assert {detection["image_id"] for detection in found} == images


@pytest.mark.parametrize(
    "keys", [{}, {"TEST.EVALUATOR": "pycocotools"}], ids=["same", "pycocotools"]
)
def test_evaluation_repeats_the_numbers_of_training(
    keys: dict[str, Any], trained: Path, tiny_data: TinyData, tmp_path: Path
):
    keys = {"MODEL.WEIGHTS": trained / "model_final.pth", **keys}
    metrics = train_net.main(parse(command_line(tiny_data, tmp_path, "--eval-only", keys=keys)))
    assert metrics is not None
    assert (tmp_path / "results.json").read_text() == (trained / "results.json").read_text()
    assert (tmp_path / DETECTIONS).read_bytes() == (trained / DETECTIONS).read_bytes()
    assert logged_numbers(tmp_path) == logged_numbers(trained)
    written = json.loads((trained / "results.json").read_text())["val"]
    for name in METRIC_NAMES[:5]:
        assert metrics["bbox"][name] == written[name]


def test_fast_inference_evaluates_the_fast_detector(
    trained: Path, tiny_data: TinyData, tmp_path: Path
):
    keys = {"MODEL.WEIGHTS": trained / "model_final.pth", "MODEL.FAST_INFERENCE": True}
    train_net.main(parse(command_line(tiny_data, tmp_path, "--eval-only", keys=keys)))
    fast, slow = (
        [found["score"] for found in json.loads((folder / DETECTIONS).read_text())]
        for folder in (tmp_path, trained)
    )
    assert max(fast) == pytest.approx(max(slow), rel=0.05)
    assert fast != slow, "norms as part of convolutions round otherwise"


def test_evaluation_needs_only_the_json_to_evaluate_on(
    trained: Path, tiny_data: TinyData, tmp_path: Path
):
    keys = {"MODEL.WEIGHTS": trained / "model_final.pth"}
    arguments = command_line(tiny_data, tmp_path, "--eval-only", keys=keys)
    place = arguments.index("--train")
    train_net.main(parse(arguments[:place] + arguments[place + 3 :]))
    assert (tmp_path / "results.json").read_text() == (trained / "results.json").read_text()


def test_training_without_evaluation_data(tiny_data: TinyData, tmp_path: Path):
    arguments = command_line(tiny_data, tmp_path, keys={"SOLVER.MAX_ITER": 1})
    place = arguments.index("--val")
    train_net.main(parse(arguments[:place] + arguments[place + 3 :]))
    assert (tmp_path / "model_final.pth").is_file()
    assert not (tmp_path / "results.json").exists()


# ----------------------------------------------------------------------------------- stop, resume


@pytest.fixture(scope="module")
def one_image(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """A single training image, so that all steps see the same data in the same order."""
    folder = tmp_path_factory.mktemp("one_image")
    train_pair = write_pair(folder, "train", num_images=1, seed=8)
    return TinyData(train_pair, write_pair(folder, "val", num_images=1, seed=9))


# The learning rate differs in every step: warm-up, then a step down.
SCHEDULE: dict[str, Any] = {
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.MAX_ITER": 8,
    "SOLVER.CHECKPOINT_PERIOD": 3,
    "SOLVER.WARMUP_ITERS": 6,
    "SOLVER.STEPS": "(6,)",
    "INPUT.RANDOM_FLIP": "none",
}
CLOSE = {"rtol": 1e-5, "atol": 1e-7}


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Make training stop as Ctrl-C would, in the step that follows ``after`` complete ones."""
    steps = []
    run_step = TrainingStep.run_step

    def interrupted(trainer: TrainingStep) -> None:
        if len(steps) == after:
            raise KeyboardInterrupt
        steps.append(trainer.iter)
        run_step(trainer)

    monkeypatch.setattr(TrainingStep, "run_step", interrupted)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    optimizer: str, one_image: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    keys = {**SCHEDULE, "SOLVER.OPTIMIZER": optimizer}
    train(one_image, tmp_path / "unbroken", **keys)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, after=5)
        train(one_image, tmp_path / "broken", **keys)
    assert (tmp_path / "broken" / "last_checkpoint").read_text() == "model_0000002.pth"
    train(one_image, tmp_path / "broken", "--resume", **keys)
    assert "Starting training from iteration 3" in log(tmp_path / "broken")

    unbroken, resumed = (
        torch.load(tmp_path / name / "model_final.pth") for name in ("unbroken", "broken")
    )
    assert resumed["trainer"]["iteration"] == unbroken["trainer"]["iteration"] == 7
    schedules = [run["trainer"]["hooks"]["LRScheduler"] for run in (unbroken, resumed)]
    assert schedules[0] == schedules[1] and schedules[0]["last_epoch"] == 8
    states = [run["trainer"]["_trainer"]["optimizer"] for run in (unbroken, resumed)]
    assert states[0]["state"] and states[0]["param_groups"] == states[1]["param_groups"]
    torch.testing.assert_close(states[1]["state"], states[0]["state"], rtol=0, atol=0)
    torch.testing.assert_close(resumed["model"], unbroken["model"], rtol=0, atol=0)


def test_the_optimizer_matters_to_that_test(
    one_image: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without the optimizer's state the resumed run ends elsewhere, by more than that tolerance."""
    train(one_image, tmp_path / "unbroken", **SCHEDULE)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, after=5)
        train(one_image, tmp_path / "broken", **SCHEDULE)
    monkeypatch.setattr(TrainingStep, "load_state_dict", lambda trainer, state: None)
    train(one_image, tmp_path / "broken", "--resume", **SCHEDULE)
    weights = [
        torch.load(tmp_path / name / "model_final.pth")["model"]["head.cls_score.weight"]
        for name in ("unbroken", "broken")
    ]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(*weights, **CLOSE)


def test_resume_after_kill_9(tiny_data: TinyData, tmp_path: Path):
    keys = {"SOLVER.MAX_ITER": 100_000, "SOLVER.CHECKPOINT_PERIOD": 5}
    process = start_training(command_line(tiny_data, tmp_path, keys=keys))
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "last_checkpoint").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    (last,) = (tmp_path / "last_checkpoint").read_text().split()
    done = int(last.removeprefix("model_").removesuffix(".pth")) + 1
    assert done % 5 == 0 and not (tmp_path / "model_final.pth").exists()

    keys["SOLVER.MAX_ITER"] = done + 7
    train(tiny_data, tmp_path, "--resume", **keys)
    assert f"Starting training from iteration {done}" in log(tmp_path)
    trainer = torch.load(tmp_path / "model_final.pth")["trainer"]
    assert trainer["iteration"] == done + 6
    steps = {state["step"].item() for state in trainer["_trainer"]["optimizer"]["state"].values()}
    assert steps == {done + 7}
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"val"}


def test_resume_without_a_checkpoint_starts_at_the_beginning(one_image: TinyData, tmp_path: Path):
    train(one_image, tmp_path, "--resume", **{**SCHEDULE, "SOLVER.MAX_ITER": 1})
    assert "Starting training from iteration 0" in log(tmp_path)


def test_resume_of_a_finished_run_changes_nothing(one_image: TinyData, tmp_path: Path):
    train(one_image, tmp_path, **SCHEDULE)
    results = (tmp_path / "results.json").read_text()
    weights = (tmp_path / "model_final.pth").read_bytes()
    train(one_image, tmp_path, "--resume", **SCHEDULE)
    assert (tmp_path / "results.json").read_text() == results
    assert (tmp_path / "model_final.pth").read_bytes() == weights


# --------------------------------------------------------------------------------------- weights


def test_the_file_that_training_leaves_is_enough_to_evaluate(
    trained: Path, tiny_data: TinyData, tmp_path: Path
):
    flags = ["--eval-only", "--val", *map(str, tiny_data.val)]
    expected = json.loads((trained / "results.json").read_text())
    for name in ("model_final.safetensors", "model_final.pth"):
        keys = {"MODEL.WEIGHTS": trained / name, "MODEL.DEVICE": "cpu", "OUTPUT_DIR": tmp_path}
        train_net.main(parse([*flags, *options({**keys, "DATALOADER.NUM_WORKERS": 0})]))
        assert json.loads((tmp_path / "results.json").read_text()) == expected
    model, names = load_detector(trained / "model_final.safetensors")
    assert names == CLASS_NAMES and not model.training


def test_a_number_of_classes_changes_where_a_training_starts_alone(
    trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = tiny_data.train.content
    content["categories"].append({"id": 99, "name": "spot"})
    four = tiny_data.train._replace(json_file=tmp_path / "four.json")
    four.json_file.write_text(json.dumps(content))
    data = TinyData(train=four, val=four)
    start = trained / "model_final.safetensors"
    keys = {"MODEL.WEIGHTS": start, "SOLVER.MAX_ITER": 1, "TEST.EVAL_PERIOD": 0}
    output = tmp_path / "output"
    train_net.main(parse(command_line(data, output, keys=keys)))
    line = "The weights have 3 classes and the model 4: head.cls_score starts anew."
    assert log(output).count(line) == 1
    assert load_detector(output / "model_final.safetensors")[1] == [*CLASS_NAMES, "spot"]
    refused = "has 3 classes, but the model has 4"
    arguments = command_line(data, tmp_path / "other", "--eval-only", keys=keys)
    assert refused in refusal(capsys, arguments)
    arguments = command_line(data, trained, "--resume", keys={"SOLVER.MAX_ITER": 1})
    assert "has learned the classes ['bar', 'block', 'dot']" in refusal(capsys, arguments)


def test_weights_that_run_code_need_the_key(
    trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = torch.load(trained / "model_final.pth", weights_only=True)
    torch.save({**content, "folder": tmp_path}, tmp_path / "code.pth")
    keys = {"MODEL.WEIGHTS": tmp_path / "code.pth"}
    arguments = command_line(tiny_data, tmp_path / "output", "--eval-only", keys=keys)
    assert "MODEL.TRUST_WEIGHTS True" in refusal(capsys, arguments)
    keys["MODEL.TRUST_WEIGHTS"] = True
    train_net.main(parse(command_line(tiny_data, tmp_path / "output", "--eval-only", keys=keys)))


def test_a_backbone_says_what_is_new_in_one_line(
    trained: Path, tiny_data: TinyData, tmp_path: Path
):
    state = torch.load(trained / "model_final.pth", weights_only=True)["model"]
    trunk = {name: value for name, value in state.items() if "bottom_up" in name}
    torch.save(trunk, tmp_path / "trunk.pth")
    keys = {"MODEL.WEIGHTS": tmp_path / "trunk.pth", "SOLVER.MAX_ITER": 1}
    train_net.main(parse(command_line(tiny_data, tmp_path, keys=keys)))
    assert log(tmp_path).count("The weights are those of a backbone; new are backbone.fpn_") == 1


# ---------------------------------------------------------------------------------------- errors


def test_weights_that_do_not_fit_are_refused(
    trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for key, value in (("MODEL.CLQ.NUM_CONVS", 2), ("MODEL.FPN.OUT_CHANNELS", 16)):
        keys = {"MODEL.WEIGHTS": trained / "model_final.pth", key: value}
        message = refusal(capsys, command_line(tiny_data, tmp_path, "--eval-only", keys=keys))
        assert "model_final.pth does not fit the model: " in message
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("", "MODEL.WEIGHTS is empty"),
        ("{folder}/nowhere.pth", "nowhere.pth do not exist"),
        ("{folder}/text.pth", "is not a checkpoint"),
        ("clq://nowhere.pth", "clq://nowhere.pth is not known"),
    ],
)
def test_weights_that_are_none_are_refused(
    weights: str,
    message: str,
    tiny_data: TinyData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "text.pth").write_text("no checkpoint")
    keys = {"MODEL.WEIGHTS": weights.format(folder=tmp_path)}
    arguments = command_line(tiny_data, tmp_path / "output", "--eval-only", keys=keys)
    assert message in refusal(capsys, arguments)
    if weights:  # training may start without
        arguments.remove("--eval-only")
        assert message in refusal(capsys, arguments)


def test_other_classes_for_evaluation_are_refused(
    tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = tiny_data.val.content
    content["categories"][0]["name"] = "spot"
    other = tiny_data.val._replace(json_file=tmp_path / "other.json")
    other.json_file.write_text(json.dumps(content))
    data = tiny_data._replace(val=other)
    assert "only in training ['dot']" in refusal(capsys, command_line(data, tmp_path / "output"))


def test_debug_shows_the_traceback(tiny_data: TinyData, tmp_path: Path):
    arguments = command_line(tiny_data, tmp_path, "--debug", keys={"MODEL.DEVICE": "cuda"})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="no CUDA"):
        patch.setattr(sys, "argv", ["train_net.py", *arguments])
        train_net.run()


@pytest.mark.parametrize(
    ("flags", "keys", "message"),
    [
        ((), {"MODEL.DEVICE": "cuda"}, "MODEL.DEVICE is cuda, but this machine has no CUDA"),
        (
            ("--eval-only",),
            {"MODEL.DEVICE": "cuda", "MODEL.FAST_INFERENCE": True},
            "MODEL.FAST_INFERENCE is for CPU, but MODEL.DEVICE is cuda; leave one of them out.",
        ),
        (("--num-gpus", "2"), {"MODEL.CLQ.NO_SUCH": 1}, "there is no key MODEL.CLQ.NO_SUCH"),
    ],
    ids=["cuda", "fast on cuda", "two processes"],
)
def test_the_command_ends_in_one_sentence(
    flags: tuple[str, ...], keys: dict[str, Any], message: str, tiny_data: TinyData, tmp_path: Path
):
    arguments = command_line(tiny_data, tmp_path, *flags, keys=keys)
    done = ForkedProgram(ROOT / "train_net.py", *arguments).wait()
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "spawn" not in done.stderr, "no process is started for it"
    assert [line for line in done.stderr.splitlines() if message in line] == [
        line for line in done.stderr.splitlines() if line.startswith("error: ")
    ]
    assert message in done.stderr and not tmp_path.joinpath("results.json").exists()


# -------------------------------------------------------------------------------------- launchers

# The second of two processes of torchrun.
TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}


def under_torchrun(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[float]:
    """Stand where torchrun starts a process; how long it waits before it speaks."""
    waits: list[float] = []
    monkeypatch.setattr(user_errors.time, "sleep", waits.append)
    for name, value in {**TORCHRUN, **variables}.items():
        monkeypatch.setenv(name, value)
    return waits


@pytest.mark.parametrize(("local_rank", "expected"), [("0", []), ("1", [5])])
def test_a_launch_in_a_launch_is_refused_by_one_process_at_once(
    local_rank: str,
    expected: list[float],
    tiny_data: TinyData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    waits = under_torchrun(monkeypatch, LOCAL_RANK=local_rank)
    assert refusal(capsys, command_line(tiny_data, tmp_path, "--num-gpus", "2")) == (
        "error: torchrun has started 2 processes, and --num-gpus 2 with --num-machines 1 would "
        "start others in each: leave both flags out."
    )
    assert waits == expected


def test_half_a_launch_is_refused(
    tiny_data: TinyData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    under_torchrun(monkeypatch)
    monkeypatch.delenv("WORLD_SIZE")
    assert refusal(capsys, command_line(tiny_data, tmp_path)) == (
        "error: RANK is set but WORLD_SIZE is not: start by torchrun, which sets both, or unset "
        "RANK."
    )


def test_a_wrong_key_is_told_before_the_processes_meet(
    tiny_data: TinyData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    waits = under_torchrun(monkeypatch)
    keys = {"MODEL.CLQ.NO_SUCH": 1}
    message = refusal(capsys, command_line(tiny_data, tmp_path, keys=keys))
    assert message.startswith("error: there is no key MODEL.CLQ.NO_SUCH") and waits == [5]


def test_torchrun_with_one_process_runs_as_without(monkeypatch: pytest.MonkeyPatch):
    ran: list[Any] = []
    monkeypatch.setattr("clq.cli.train.run_in_process", ran.append)
    monkeypatch.setattr(sys, "argv", ["train_net.py"])
    train_net.run()
    under_torchrun(monkeypatch, RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    train_net.run()
    plain, joined = ran
    assert plain.place is None and joined.place.launcher == "torchrun"
