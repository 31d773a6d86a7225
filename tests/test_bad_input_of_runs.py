"""Weights, folders, losses and disks that do not serve end in one sentence, and code 1."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train_net
from clq.checkpoint.output_dir import find_last
from clq.modeling.criterion import CLQCriterion
from reference.refusal import check_not_started, check_nothing_left, refusal
from reference.spoiling import change, cut_short, flip, largest_file, rename_class
from reference.tiny import CLASS_NAMES, TinyData, command_line, free_url, parse, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")

Capture = pytest.CaptureFixture[str]
KEYS = {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_ITER": 3}
NOT_READABLE = "is not a checkpoint that PyTorch can read."
NO_FILE = "the weights {file} are a FIFO, a socket or a device, not a file."
DAMAGED = "is damaged: its bytes are not those that were written."


@pytest.fixture
def data(tmp_path: Path) -> TinyData:
    """A copy that a test may spoil."""
    return TinyData(
        write_pair(tmp_path, "train", num_images=4, seed=1),
        write_pair(tmp_path, "val", num_images=2, seed=2),
    )


@pytest.fixture(scope="module")
def trained(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training with the checkpoints of its iterations 0, 1 and 2."""
    output = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        train_net.main(parse(command_line(tiny_data, output, keys=KEYS)))
    return output


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_ends_as(output: Path, trained: Path) -> None:
    weights = [torch.load(folder / "model_final.pth")["model"] for folder in (trained, output)]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)


# --------------------------------------------------------------------------------------- weights

WEIGHTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "text": ("pth", lambda file: file.write_text("x"), "{file} " + NOT_READABLE),
    "empty": ("pth", lambda file: file.write_bytes(b""), "{file} " + NOT_READABLE),
    "cut": ("pth", cut_short, "{file} " + NOT_READABLE),
    "flipped": ("pth", flip, "{file} " + DAMAGED),
    "folder": (
        "pth",
        lambda f: (f.unlink(), f.mkdir()),
        "the weights {file} are a folder; name a file.",
    ),
    "fifo": ("pth", lambda f: (f.unlink(), os.mkfifo(f)), NO_FILE),
    "text 2": ("safetensors", lambda file: file.write_text("x"), "{file} " + NOT_READABLE),
    "cut 2": ("safetensors", cut_short, "{file} " + NOT_READABLE),
    "flipped 2": ("safetensors", flip, "{file} " + DAMAGED),
    "flipped header": ("safetensors", lambda file: flip(file, b"FREEZE_AT"), "{file} " + DAMAGED),
}


@pytest.mark.parametrize("fault", WEIGHTS)
@pytest.mark.parametrize("flags", [(), ("--eval-only",)], ids=["train", "evaluate"])
def test_damaged_weights(
    fault: str, flags: tuple, trained: Path, data: TinyData, tmp_path: Path, capsys: Capture
):
    suffix, spoil, sentence = WEIGHTS[fault]
    file = tmp_path / f"weights.{suffix}"
    shutil.copy(trained / f"model_final.{suffix}", file)
    spoil(file)
    arguments = command_line(data, tmp_path / "output", *flags, keys={"MODEL.WEIGHTS": file})
    assert refusal(capsys, arguments) == f"error: {sentence.format(file=file)}"
    check_not_started(tmp_path / "output")


@pytest.mark.parametrize("flags", [(), ("--eval-only",)], ids=["train", "evaluate"])
def test_weights_of_another_model(
    flags: tuple, trained: Path, data: TinyData, tmp_path: Path, capsys: Capture
):
    keys = {"MODEL.WEIGHTS": trained / "model_final.pth", "MODEL.CLQ.NUM_CONVS": 2}
    message = refusal(capsys, command_line(data, tmp_path / "output", *flags, keys=keys))
    assert message == (
        f"error: {trained}/model_final.pth does not fit the model: missing tensors (6): "
        "head.bbox_subnet.1.weight, head.bbox_subnet.1.norm.weight, head.bbox_subnet.1.norm.bias, "
        "head.cls_subnet.1.weight, head.cls_subnet.1.norm.weight, head.cls_subnet.1.norm.bias."
    )
    check_nothing_left(tmp_path / "output")


def test_the_folder_of_a_run_is_no_weights(trained: Path, data: TinyData, capsys: Capture):
    arguments = ["--eval-only", "--weights", str(trained), "--val", *map(str, data.val)]
    assert refusal(capsys, arguments) == (
        f"error: the weights {trained} are a folder; name a file, such as "
        f"{trained}/model_final.safetensors."
    )


def test_evaluating_weights_whose_predictions_overflow(
    trained: Path, data: TinyData, tmp_path: Path, capsys: Capture
):
    checkpoint = torch.load(trained / "model_final.pth")
    checkpoint["model"]["head.cls_score.weight"].fill_(3e38)
    torch.save(checkpoint, tmp_path / "a.pth")
    keys = {"MODEL.WEIGHTS": tmp_path / "a.pth"}
    message = refusal(capsys, command_line(data, tmp_path / "output", "--eval-only", keys=keys))
    assert message == f"error: {tmp_path}/a.pth: the detector's predictions are not finite."
    check_nothing_left(tmp_path / "output")


def test_evaluating_other_class_names(
    trained: Path, data: TinyData, tmp_path: Path, capsys: Capture
):
    for pair in data:
        rename_class(pair)
    keys = {"MODEL.WEIGHTS": trained / "model_final.pth"}
    message = refusal(capsys, command_line(data, tmp_path / "output", "--eval-only", keys=keys))
    assert message == (
        f"error: {trained}/model_final.pth knows the classes {CLASS_NAMES}, but the data set 'val' "
        "has ['bar', 'block', 'spot']."
    )
    check_not_started(tmp_path / "output")


def test_evaluating_another_number_of_classes(
    trained: Path, data: TinyData, tmp_path: Path, capsys: Capture
):
    for pair in data:
        change(pair, lambda content: content["categories"].append({"id": 99, "name": "spot"}))
    keys = {"MODEL.WEIGHTS": trained / "model_final.pth"}
    message = refusal(capsys, command_line(data, tmp_path / "output", "--eval-only", keys=keys))
    assert message == (
        f"error: {trained}/model_final.pth has 3 classes, but the model has 4; only a training "
        "that starts anew, without --resume and --eval-only, can change their number."
    )
    check_nothing_left(tmp_path / "output")


# ---------------------------------------------------------------------------- folder, resuming


def test_a_folder_with_checkpoints(trained: Path, data: TinyData, capsys: Capture):
    before = content_of(trained)
    assert refusal(capsys, command_line(data, trained)) == (
        f"error: {trained} holds checkpoints of an earlier training, such as model_final.pth; go "
        "on from them with --resume, or name another OUTPUT_DIR."
    )
    assert content_of(trained) == before


@pytest.mark.parametrize(
    ("key", "value", "before"),
    [
        ("MODEL.CLQ.ALPHA", 0.7, 0.3),
        ("MODEL.FPN.OUT_CHANNELS", 16, 8),
        ("SOLVER.IMS_PER_BATCH", 4, 2),
        ("SOLVER.BASE_LR", 0.5, 0.002),
        ("SEED", 9, 3),
    ],
)
def test_resuming_another_training(
    key: str, value: Any, before: Any, trained: Path, data: TinyData, capsys: Capture
):
    content = content_of(trained)
    keys = {"SOLVER.MAX_ITER": 5, key: value}
    assert refusal(capsys, command_line(data, trained, "--resume", keys=keys)) == (
        f"error: {key} is {value}, but {trained}/model_final.pth was trained with {before}; "
        "--resume needs the same value, or start another training in another OUTPUT_DIR."
    )
    assert content_of(trained) == content


def test_resuming_with_other_classes(trained: Path, data: TinyData, capsys: Capture):
    for pair in data:
        rename_class(pair)
    assert refusal(capsys, command_line(data, trained, "--resume")) == (
        f"error: {trained}/model_final.pth has learned the classes {CLASS_NAMES}, but the data has "
        "['bar', 'block', 'spot']; --resume needs the same."
    )


def test_damaged_checkpoints(trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: Capture):
    """An intact one is gone back to; where there is none, nothing is done."""
    output = tmp_path / "output"
    shutil.copytree(trained, output)
    flip(output / "model_final.pth")
    cut_short(output / "model_0000002.pth")
    arguments = command_line(tiny_data, output, "--resume", keys=KEYS)
    train_net.main(parse(arguments))
    log = (output / "log.txt").read_text()
    for name in ("model_final.pth", "model_0000002.pth"):
        assert f"{output}/{name} {DAMAGED} Going back to model_0000001.pth." in log
    check_ends_as(output, trained)

    for file in output.glob("model_*.pth"):
        flip(file)
    before = content_of(output)
    assert refusal(capsys, arguments) == (
        f"error: {output} has no checkpoint to go on from ({output}/model_final.pth is damaged: "
        "its bytes are not those that were written); start again in another OUTPUT_DIR."
    )
    assert content_of(output) == before


# ------------------------------------------------------------------------------------------ disk


def test_an_output_folder_below_a_file(data: TinyData, tmp_path: Path, capsys: Capture):
    (tmp_path / "file").touch()
    assert refusal(capsys, command_line(data, tmp_path / "file" / "output")) == (
        f"error: OUTPUT_DIR {tmp_path}/file/output can't be written to (Not a directory); name "
        "another."
    )


def test_a_disk_that_is_full_at_the_start(data: TinyData, tmp_path: Path, capsys: Capture):
    output = tmp_path / "output"
    with largest_file(1_000_000):
        assert refusal(capsys, command_line(data, output)) == (
            f"error: OUTPUT_DIR {output} can't be written to (File too large); name another."
        )
    assert not list(output.iterdir())


def test_a_disk_that_fills_leaves_the_checkpoint_before(
    trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: Capture
):
    output, first = tmp_path / "output", "model_0000000.pth"
    output.mkdir()
    shutil.copy(trained / first, output)
    arguments = command_line(tiny_data, output, "--resume", keys=KEYS)
    limit = 1_100_000  # more than a training looks for at its start
    assert (output / first).stat().st_size > limit
    with largest_file(limit):
        message = refusal(capsys, arguments)
    assert message == (
        f"error: {output}/model_0000001.pth can't be written (File too large); the checkpoints "
        "before it are as they were."
    )
    assert [file.name for file in output.iterdir() if "model" in file.name] == [first]
    assert "Traceback" not in (output / "log.txt").read_text()
    last = find_last(output)
    assert last is not None and last.path.name == first and not last.damage
    train_net.main(parse(arguments))
    check_ends_as(output, trained)


# --------------------------------------------------------------------------------- the loss


def test_a_learning_rate_that_is_too_high(tiny_data: TinyData, tmp_path: Path, capsys: Capture):
    keys = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 1e30, "SOLVER.MAX_ITER": 9}
    message = refusal(capsys, command_line(tiny_data, tmp_path / "output", keys=keys))
    assert message.startswith("error: the loss is not finite in iteration 1 (loss_cls nan, ")
    assert message.endswith(": a lower SOLVER.BASE_LR often helps.")
    assert "Traceback" not in (tmp_path / "output" / "log.txt").read_text()
    names = {file.name for file in (tmp_path / "output").glob("*.pth")}
    assert names == {"nonfinite_0000001.pth"}


def test_a_loss_that_is_not_finite(
    trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: Capture, monkeypatch: Any
):
    """Batch and weights are kept, and the training goes on from the checkpoint before."""
    compute, calls = CLQCriterion.__call__, []

    def spoiled(*args: Any) -> dict[str, torch.Tensor]:
        calls.append(args)
        losses = compute(*args)
        factor = float("inf") if len(calls) == 3 else 1
        return {**losses, "loss_dfl": losses["loss_dfl"] * factor}

    output = tmp_path / "output"
    with monkeypatch.context() as patch:
        patch.setattr(CLQCriterion, "__call__", spoiled)
        message = refusal(capsys, command_line(tiny_data, output, keys=KEYS))
    file = output / "nonfinite_0000002.pth"
    kept = torch.load(file)
    losses = ", ".join(f"{name} {value:g}" for name, value in kept["losses"].items())
    assert "loss_dfl inf" in losses and losses.count("inf") == 1
    images = kept["file_names"]
    assert message == (
        f"error: the loss is not finite in iteration 2 ({losses}), on the images "
        f"{', '.join(images)}; {file} holds batch and weights; the weights of the last "
        "checkpoint are as they were: a lower SOLVER.BASE_LR often helps."
    )
    assert len(images) == len(kept["images"]) == 2
    assert {Path(image).parent for image in images} == {tiny_data.train.images}
    before = torch.load(output / "model_0000001.pth")["model"]
    for name in (name for name in before if name.startswith("head.")):
        assert kept["model"][name].equal(before[name]), name
    assert "Traceback" not in (output / "log.txt").read_text()
    train_net.main(parse(command_line(tiny_data, output, "--resume", keys=KEYS)))
    check_ends_as(output, trained)


# ------------------------------------------------------------------------------------- processes


def test_a_port_in_use(data: TinyData, tmp_path: Path, capsys: Capture):
    url = free_url()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        taken.listen()
        flags = ("--num-gpus", "2", "--dist-url", url)
        message = refusal(capsys, command_line(data, tmp_path / "output", *flags))
    assert message.startswith(
        f"error: the processes can't meet at {url} (Address already in use); name a free port, "
        "such as --dist-url tcp://127.0.0.1:"
    )
    check_not_started(tmp_path / "output")
