"""A user's mistake ends in one sentence that names it, code 1, and nothing half-written."""

import contextlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import train_net
from clq.checkpoint import find_last
from reference.refusal import refusal
from reference.tiny import Pair, TinyData, command_line, free_url, parse, run_script, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> TinyData:
    """A copy that a test may spoil."""
    return TinyData(
        write_pair(tmp_path, "train", num_images=4, seed=1),
        write_pair(tmp_path, "val", num_images=2, seed=2),
    )


@pytest.fixture(scope="module")
def trained(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    keys = {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_ITER": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        train_net.main(parse(command_line(tiny_data, output, keys=keys)))
    return output


def check_nothing_written(output: Path) -> None:
    assert not list(output.glob("*.pth")) and not list(output.glob("*.safetensors"))
    assert not (output / "results.json").exists() and not list(output.glob(".*"))


# ----------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("SOLVER.BASE_LRR", 1, "there is no key SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR?"),
        ("MODEL.CLQ.NUM_CONVS.X", 1, "no key MODEL.CLQ.NUM_CONVS.X; did you mean"),
        ("SOLVER.BASE_LR", "abc", "SOLVER.BASE_LR"),
        ("MODEL.RETINANET.NUM_CLASSES", 3, "use MODEL.CLQ.NUM_CLASSES"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3, "use MODEL.CLQ.SCORE_THRESH_TEST"),
        ("MODEL.CLQ.ALPHA", 2.0, "MODEL.CLQ.ALPHA is 2.0; it must lie in [0, 1]"),
        ("MODEL.CLQ.QUALITY", "iou", "MODEL.CLQ.QUALITY is 'iou'; it must be"),
        ("MODEL.CLQ.NUM_CLASSES", 5, "MODEL.CLQ.NUM_CLASSES is 5, but the data set 'train' has 3"),
        ("MODEL.DEVICE", "cuda", "MODEL.DEVICE is cuda, but this machine has no CUDA"),
        ("MODEL.DEVICE", "abacus", "MODEL.DEVICE is 'abacus'; it must be a device"),
        ("SOLVER.IMS_PER_BATCH", 0, "SOLVER.IMS_PER_BATCH is 0; it must be positive"),
        ("DATALOADER.SAMPLER_TRAIN", "x", "DATALOADER.SAMPLER_TRAIN is 'x'; it must be"),
        ("MODEL.WEIGHTS", "nowhere.pth", "the weights nowhere.pth do not exist"),
    ],
)
def test_keys(key: str, value: Any, sentence: str, data: TinyData, tmp_path: Path, capsys: Capture):
    message = refusal(capsys, command_line(data, tmp_path / "output", keys={key: value}))
    assert sentence in message
    check_nothing_written(tmp_path / "output")


def test_a_value_is_left_out(data: TinyData, tmp_path: Path, capsys: Capture):
    message = refusal(capsys, [*command_line(data, tmp_path / "output"), "SEED"])
    assert "must come in pairs, but 'SEED' is left over" in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "config.yaml"),
        ("MODEL: [", "is not valid yaml"),
        ("MODEL:\n  CLQ:\n    NUM_CLASES: 1\n", "did you mean MODEL.CLQ.NUM_CLASSES?"),
        ("MODEL:\n  META_ARCHITECTURE: RetinaNet\n", "is 'RetinaNet', not CLQ"),
    ],
)
def test_yaml(text: str | None, sentence: str, data: TinyData, tmp_path: Path, capsys: Capture):
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    arguments = command_line(data, tmp_path / "output")
    arguments[1] = str(file)
    assert sentence in refusal(capsys, arguments)
    check_nothing_written(tmp_path / "output")


# ----------------------------------------------------------------------------------------- data


def change(pair: Pair, action: Callable[[dict[str, Any]], Any]) -> None:
    content = pair.content
    action(content)
    pair.json_file.write_text(json.dumps(content))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DATA: dict[str, tuple[Callable[[TinyData], Any], str]] = {
    "no json": (lambda d: d.train.json_file.unlink(), "train.json does not exist"),
    "no folder": (lambda d: shutil.rmtree(d.train.images), "train does not exist"),
    "text": (lambda d: d.train.json_file.write_text("x"), "is not valid json"),
    "a list": (lambda d: d.train.json_file.write_text("[]"), "is not in COCO's format"),
    "no images": (lambda d: change(d.train, lambda c: c["images"].clear()), "lists no image"),
    "no classes": (lambda d: change(d.train, lambda c: c["categories"].clear()), "no category"),
    "no objects": (lambda d: change(d.train, lambda c: c["annotations"].clear()), "no object"),
    "nan": (
        lambda d: change(
            d.train, lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 1])
        ),
        "annotation 1 ",
    ),
    "same id": (
        lambda d: change(d.train, lambda c: c["annotations"][0].update(id=2)),
        "must be unique",
    ),
    "category": (
        lambda d: change(d.train, lambda c: c["annotations"][0].update(category_id=5)),
        "unknown category_id 5",
    ),
    "missing": (lambda d: (d.train.images / "1.png").unlink(), "1.png"),
    "wrong size": (
        lambda d: Image.new("RGB", (9, 9)).save(d.train.images / "2.png"),
        "2.png",
    ),
    "no picture": (lambda d: (d.train.images / "2.png").write_text("x"), "2.png"),
    "val classes": (
        lambda d: change(d.val, lambda c: c["categories"][0].update(name="spot")),
        "only in evaluation ['spot']",
    ),
}


@pytest.mark.parametrize("fault", DATA)
def test_data(fault: str, data: TinyData, tmp_path: Path, capsys: Capture):
    spoil, sentence = DATA[fault]
    spoil(data)
    assert sentence in refusal(capsys, command_line(data, tmp_path / "output"))
    check_nothing_written(tmp_path / "output")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_only_decoding_finds_damaged(
    num_workers: int, data: TinyData, tmp_path: Path, capsys: Capture
):
    cut_short(data.train.images / "1.png")
    keys = {"DATALOADER.NUM_WORKERS": num_workers}
    message = refusal(capsys, command_line(data, tmp_path / "output", keys=keys))
    assert "1.png (" in message and "SKIP_UNREADABLE True" in message
    assert "Traceback" not in (tmp_path / "output" / "log.txt").read_text()
    check_nothing_written(tmp_path / "output")


def test_unreadable_images_are_skipped_by_a_key(tmp_path: Path, capsys: Capture):
    train = write_pair(tmp_path, "train", num_images=20, seed=1)
    val = write_pair(tmp_path, "val", num_images=20, seed=2)
    for pair in (train, val):
        cut_short(pair.images / "3.png")
        change(pair, lambda c: c["categories"].append({"id": 200, "name": "rare"}))
    output = tmp_path / "output"
    keys = {"DATALOADER.SKIP_UNREADABLE": True, "SOLVER.MAX_ITER": 20}
    train_net.main(parse(command_line(TinyData(train, val), output, keys=keys)))
    results = json.loads((output / "results.json").read_text())["val"]
    assert list(results["per_class"]) == ["bar", "block", "dot", "rare"]
    assert results["per_class"]["rare"] is None
    log = (output / "log.txt").read_text()
    assert "Another image takes the place of" in log and "Left out 1 images" in log
    found = json.loads((output / "inference/val/coco_instances_results.json").read_text())
    assert {d["category_id"] for d in found} <= {3, 17, 90, 200}
    assert 10 + 7 * 3 not in {d["image_id"] for d in found}


# -------------------------------------------------------------------------------- weights, folder


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model_final.pth", "model_final.safetensors"])
@pytest.mark.parametrize("spoil", [flip, cut_short])
def test_damaged_weights(
    name: str, spoil: Any, trained: Path, data: TinyData, tmp_path: Path, capsys: Capture
):
    file = shutil.copy(trained / name, tmp_path / name)
    spoil(tmp_path / name)
    keys = {"MODEL.WEIGHTS": file}
    message = refusal(capsys, command_line(data, tmp_path / "output", "--eval-only", keys=keys))
    assert name in message and ("is damaged" in message or spoil is cut_short)
    check_nothing_written(tmp_path / "output")


def test_a_folder_with_checkpoints(trained: Path, data: TinyData, capsys: Capture):
    before = {path: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    assert "go on from them with --resume" in refusal(capsys, command_line(data, trained))
    assert {path: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"MODEL.CLQ.ALPHA": 0.7}, "MODEL.CLQ.ALPHA is 0.7, but"),
        ({"MODEL.FPN.OUT_CHANNELS": 16}, "MODEL.FPN.OUT_CHANNELS is 16, but"),
        ({"SOLVER.IMS_PER_BATCH": 4}, "SOLVER.IMS_PER_BATCH is 4, but"),
    ],
)
def test_resuming_another_training(
    keys: Any, sentence: str, trained: Path, data: TinyData, capsys: Capture
):
    keys = {"SOLVER.MAX_ITER": 5, **keys}
    assert sentence in refusal(capsys, command_line(data, trained, "--resume", keys=keys))


def test_damaged_checkpoints(trained: Path, tiny_data: TinyData, tmp_path: Path, capsys: Capture):
    output = tmp_path / "output"
    shutil.copytree(trained, output)
    flip(output / "model_final.pth")
    flip(output / "model_0000002.pth")
    keys = {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_ITER": 3}
    with contextlib.suppress(SystemExit):
        train_net.main(parse(command_line(tiny_data, output, "--resume", keys=keys)))
    log = (output / "log.txt").read_text()
    assert "model_final.pth is damaged" in log and "Going back to model_0000001.pth" in log
    weights = [torch.load(f / "model_final.pth")["model"] for f in (trained, output)]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)
    for file in output.glob("model_*.pth"):
        flip(file)
    message = refusal(capsys, command_line(tiny_data, output, "--resume", keys=keys))
    assert "has no checkpoint to go on from" in message


def test_an_output_folder_that_is_a_file(data: TinyData, tmp_path: Path, capsys: Capture):
    (tmp_path / "file").touch()
    message = refusal(capsys, command_line(data, tmp_path / "file" / "output"))
    assert "can't be written to" in message and "name another" in message


def test_a_full_disk_leaves_the_checkpoint_before(
    tiny_data: TinyData, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    saved, save = [], torch.save

    def full(content: Any, file: Any) -> None:
        saved.append(file)
        if len(saved) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(content, file)

    keys = {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.MAX_ITER": 3}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        message = refusal(capsys, command_line(tiny_data, tmp_path, keys=keys))
    assert "model_0000001.pth can't be written (No space left on device)" in message
    last = find_last(tmp_path)
    assert last is not None and last.path.name == "model_0000000.pth" and not last.damage
    train_net.main(parse(command_line(tiny_data, tmp_path, "--resume", keys=keys)))
    assert torch.load(tmp_path / "model_final.pth")["trainer"]["iteration"] == 2


def test_a_loss_that_is_not_finite(tiny_data: TinyData, tmp_path: Path, capsys: Capture):
    keys = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 1e30, "SOLVER.MAX_ITER": 9}
    message = refusal(capsys, command_line(tiny_data, tmp_path, keys=keys))
    assert "the loss is not finite in iteration" in message and ".png" in message
    (file,) = tmp_path.glob("nonfinite_*.pth")
    assert str(file) in message and torch.load(file)["images"]
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "model_final.pth").exists()


# ------------------------------------------------------------------------------------- processes


def test_a_port_in_use(data: TinyData, tmp_path: Path):
    url = free_url()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        taken.listen()
        flags = ("--num-gpus", "2", "--dist-url", url)
        done = run_script("train_net.py", *command_line(data, tmp_path / "output", *flags))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: the processes can't meet at {url} (Address already in use)" in done.stderr


def test_half_a_pair(tmp_path: Path):
    done = run_script("train_net.py", "--train", "only.json")
    assert done.returncode == 2 and "--train: expected 2 arguments" in done.stderr


def test_the_sentence_is_all_that_a_process_says(data: TinyData, tmp_path: Path):
    done = run_script("train_net.py", *command_line(data, tmp_path, keys={"SEDE": 1}))
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert told == ["error: there is no key SEDE; did you mean SEED?"]
