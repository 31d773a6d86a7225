"""A user's mistake in keys, yaml or data ends in one sentence that names it, and code 1."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import train_net
from clq.checkpoint import load_detector
from reference.forks import ForkedProgram
from reference.refusal import check_not_started, check_nothing_left, refusal
from reference.spoiling import change, cut_short, rename_class
from reference.tiny import CONFIG, ROOT, TinyData, command_line, parse, run_script, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> TinyData:
    """A copy that a test may spoil."""
    return TinyData(
        write_pair(tmp_path, "train", num_images=4, seed=1),
        write_pair(tmp_path, "val", num_images=2, seed=2),
    )


# ----------------------------------------------------------------------------------------- keys

KEYS: list[tuple[str, Any, str]] = [
    ("SOLVER.BASE_LRR", 1, "there is no key SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR?"),
    ("ALPHA", 1, "there is no key ALPHA; did you mean MODEL.CLQ.ALPHA?"),
    ("QWERTZ", 1, "there is no key QWERTZ."),
    (
        "SOLVER.MAX_ITER.X",  # below a key that is no section
        1,
        "there is no key SOLVER.MAX_ITER.X; did you mean SOLVER.MAX_ITER?",
    ),
    (
        "SOLVER.MAX_ITER",
        "many",
        "SOLVER.MAX_ITER is set to many; it takes a value of type int, such as 90000.",
    ),
    (
        "SOLVER.STEPS",
        5,
        "SOLVER.STEPS is set to 5; it takes a value of type tuple, such as (60000, 80000).",
    ),
    (
        "MODEL.CLQ",
        "{'ALPHA': 1}",
        "MODEL.CLQ is a section of keys, which takes no value; set one of MODEL.CLQ.*.",
    ),
    (
        "MODEL.RETINANET.NUM_CLASSES",
        3,
        "MODEL.RETINANET.NUM_CLASSES is set to 3, but CLQ ignores it; use MODEL.CLQ.NUM_CLASSES.",
    ),
    (
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        0.3,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST is set to 0.3, but CLQ ignores it; use "
        "MODEL.CLQ.SCORE_THRESH_TEST.",
    ),
    ("MODEL.CLQ.ALPHA", 2.0, "MODEL.CLQ.ALPHA is 2.0; it must lie in [0, 1]."),
    ("SOLVER.OPTIMIZER", "sgd", "SOLVER.OPTIMIZER is 'sgd'; it must be 'SGD' or 'AdamW'."),
    (
        "MODEL.CLQ.NUM_CLASSES",
        5,
        "MODEL.CLQ.NUM_CLASSES is 5, but the data set 'train' has 3 classes.",
    ),
    (
        "MODEL.DEVICE",
        "cuda",
        "MODEL.DEVICE is cuda, but this machine has no CUDA; leave the key out to run on CPU.",
    ),
    (
        "MODEL.DEVICE",
        "abacus",
        "MODEL.DEVICE is 'abacus'; it must be a device of PyTorch, such as cpu or cuda.",
    ),
    (
        "SOLVER.IMS_PER_BATCH",
        0,
        "SOLVER.IMS_PER_BATCH is 0; it must be positive and a multiple of the number of "
        "processes, 1.",
    ),
    ("MODEL.WEIGHTS", "nowhere.pth", "the weights nowhere.pth do not exist."),
]


@pytest.mark.parametrize(("key", "value", "sentence"), KEYS)
def test_keys(key: str, value: Any, sentence: str, data: TinyData, tmp_path: Path, capsys: Capture):
    arguments = command_line(data, tmp_path / "output", keys={key: value})
    assert refusal(capsys, arguments) == f"error: {sentence}"
    check_not_started(tmp_path / "output")


def test_a_flag_stands_behind_the_keys(data: TinyData, tmp_path: Path, capsys: Capture):
    arguments = [*command_line(data, tmp_path / "output"), "--resume"]
    assert refusal(capsys, arguments) == (
        "error: --resume stands among the configuration keys; put it before them."
    )
    check_not_started(tmp_path / "output")


def test_a_value_is_left_out(data: TinyData, tmp_path: Path, capsys: Capture):
    assert refusal(capsys, [*command_line(data, tmp_path / "output"), "SEED"]) == (
        "error: configuration keys and values must come in pairs, but 'SEED' is left over."
    )
    check_not_started(tmp_path / "output")


def test_a_batch_that_can_not_be_shared_out(data: TinyData, tmp_path: Path, capsys: Capture):
    assert refusal(capsys, command_line(data, tmp_path / "output", "--num-gpus", "3")) == (
        "error: SOLVER.IMS_PER_BATCH is 2; it must be positive and a multiple of the number of "
        "processes, 3."
    )
    check_not_started(tmp_path / "output")


def test_a_flag_without_data():
    done = ForkedProgram(ROOT / "train_net.py", "--train").wait()
    assert done.returncode == 2 and done.stdout == ""
    usage, error = done.stderr.split("train_net.py: error: ")
    assert usage.startswith("usage: train_net.py ")
    assert error.startswith("--train needs a value: a COCO json and its images, or data that has")


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_the_sentence_is_all_that_a_process_says(
    debug: tuple[str, ...], data: TinyData, tmp_path: Path
):
    arguments = command_line(data, tmp_path / "output", *debug, keys={"SEDE": 1})
    if debug:
        done = ForkedProgram(ROOT / "train_net.py", *arguments).wait()
    else:  # messages of imports would be seen, too
        done = run_script("train_net.py", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    sentence = "there is no key SEDE; did you mean SEED?"
    if debug:
        assert "Traceback (most recent call last):\n" in done.stderr
        assert done.stderr.endswith(f"\nValueError: {sentence}\n")
    else:
        assert done.stderr == f"error: {sentence}\n"
    check_not_started(tmp_path / "output")


# ----------------------------------------------------------------------------------------- yaml

YAML: dict[str, tuple[str | None, str]] = {
    "missing": (None, "Config file '{file}' does not exist!"),
    "syntax": ("MODEL: [", "{file} is not valid yaml: while parsing a flow node "),
    "binary": ("\x00\x01", "{file} is not valid yaml: unacceptable character #x0000"),
    "text": ("a detector", "{file} is no configuration; it must hold keys with their values, "),
    "empty": ("", "{file} is no configuration; it must hold keys with their values, "),
    "code": (
        "SEED: !!python/object/apply:os.getpid []",
        "{file} is not valid yaml: could not determine a constructor for the tag ",
    ),
    "base": (
        "_BASE_: nowhere.yaml",
        "{folder}/nowhere.yaml can't be read (No such file or directory), but {file} is based on "
        "it.",
    ),
    "misspelled": (
        f"_BASE_: {CONFIG}\nMODEL:\n  CLQ:\n    NUM_CLASES: 1\n",
        "{file}: there is no key MODEL.CLQ.NUM_CLASES; did you mean MODEL.CLQ.NUM_CLASSES?",
    ),
    "type": (
        f"_BASE_: {CONFIG}\nSOLVER:\n  BASE_LR: [1]\n",
        "{file}: SOLVER.BASE_LR is set to [1]; it takes a value of type float, such as 0.001.",
    ),
    "section": (
        f"_BASE_: {CONFIG}\nSOLVER: 3\n",
        "{file}: SOLVER is a section of keys, which takes no value; set one of SOLVER.*.",
    ),
    "other architecture": (
        "VERSION: 2\nMODEL:\n  META_ARCHITECTURE: RetinaNet\n",
        "MODEL.META_ARCHITECTURE is 'RetinaNet', not CLQ; name a config of CLQ by --config-file, ",
    ),
}


@pytest.mark.parametrize("fault", YAML)
def test_yaml(fault: str, data: TinyData, tmp_path: Path, capsys: Capture):
    text, sentence = YAML[fault]
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    arguments = command_line(data, tmp_path / "output")
    arguments[1] = str(file)
    expected = "error: " + sentence.format(file=file, folder=tmp_path)
    assert refusal(capsys, arguments)[: len(expected)] == expected
    check_not_started(tmp_path / "output")


# ----------------------------------------------------------------------------------------- data


def change_first(key: str, **values: Any) -> Callable[[TinyData], None]:
    """Give the first of the training json's images, annotations or categories other values."""
    return lambda data: change(data.train, lambda content: content[key][0].update(values))


def empty(key: str) -> Callable[[TinyData], None]:
    return lambda data: change(data.train, lambda content: content[key].clear())


JSON = "annotation file {train}.json"
DATA: dict[str, tuple[Callable[[TinyData], Any], str]] = {
    "no json": (lambda d: d.train.json_file.unlink(), f"{JSON} does not exist"),
    "no folder": (lambda d: shutil.rmtree(d.train.images), "image folder {train} does not exist"),
    "other folder": (
        lambda d: [file.unlink() for file in d.train.images.iterdir()],
        "image folder {train} has no 0.png, which {train}.json lists first",
    ),
    "text": (
        lambda d: d.train.json_file.write_text("x"),
        f"{JSON} is not valid json: Expecting value: line 1 column 1 (char 0)",
    ),
    "a list": (
        lambda d: d.train.json_file.write_text("[]"),
        f"{JSON} is not in COCO's format: it has no list of 'categories'",
    ),
    "no images": (empty("images"), f"{JSON} lists no image"),
    "no classes": (empty("categories"), f"{JSON} lists no category"),
    "no objects": (empty("annotations"), f"{JSON} has no object to train on; "),
    "nan": (
        change_first("annotations", bbox=[0, 0, float("nan"), 1]),
        "annotation 1 in {train}.json has the bbox [0, 0, nan, 1] instead of 4 finite numbers",
    ),
    "same annotation": (
        change_first("annotations", id=2),
        "annotation ids in {train}.json must be unique, but 2 is repeated",
    ),
    "same image": (
        change_first("images", id=17),
        f"{JSON} has 4 errors: image ids must be unique, but 17 is repeated; annotation 1 ",
    ),
    "same category": (
        change_first("categories", id=3),
        f"{JSON} has 4 errors: category ids must be unique, but 3 is repeated; annotation 1 ",
    ),
    "unknown category": (
        change_first("annotations", category_id=5),
        "annotation 1 in {train}.json has the unknown category_id 5",
    ),
    "unknown image": (
        change_first("annotations", image_id=5),
        "annotation 1 in {train}.json has the unknown image_id 5",
    ),
    "missing": (
        lambda d: (d.train.images / "1.png").unlink(),
        "image 1.png in {train}.json does not exist; ",
    ),
    "wrong size": (
        lambda d: Image.new("RGB", (9, 8)).save(d.train.images / "2.png"),
        "image 2.png in {train}.json has 9 x 8 pixels, but the annotations say 96 x 64; ",
    ),
    "no picture": (
        lambda d: (d.train.images / "2.png").write_text("x"),
        "image 2.png in {train}.json can't be read (it is no image); ",
    ),
    "cut in its header": (
        lambda d: (d.train.images / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        "image 2.png in {train}.json can't be read (Truncated File Read); ",
    ),
    "other classes": (
        lambda d: rename_class(d.val),
        "the classes of the training and evaluation data differ in names, only in training "
        "['dot'], only in evaluation ['spot']",
    ),
}


@pytest.mark.parametrize("fault", DATA)
def test_data(fault: str, data: TinyData, tmp_path: Path, capsys: Capture):
    spoil, sentence = DATA[fault]
    spoil(data)
    expected = "error: " + sentence.format(train=tmp_path / "train")
    message = refusal(capsys, command_line(data, tmp_path / "output"))
    assert message[: len(expected)] == expected
    assert message == expected or "`python tools/check_data.py " in message
    check_not_started(tmp_path / "output")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_only_decoding_finds_damaged(
    num_workers: int, data: TinyData, tmp_path: Path, capsys: Capture
):
    file, output = data.train.images / "1.png", tmp_path / "output"
    cut_short(file)
    keys = {"DATALOADER.NUM_WORKERS": num_workers}
    assert refusal(capsys, command_line(data, output, keys=keys)) == (
        f"error: an image is missing or damaged: {file} (image file is truncated); mend it, take "
        "it out of the data, or set DATALOADER.SKIP_UNREADABLE True."
    )
    check_nothing_left(output)


def test_unreadable_images_are_skipped_by_a_key(tmp_path: Path):
    """Two images in twenty can't be read; a class has no object, nor has the last image."""
    data = TinyData(
        write_pair(tmp_path, "train", num_images=20, seed=1),
        write_pair(tmp_path, "val", num_images=20, seed=2),
    )
    for pair in data:
        change(pair, lambda content: content["categories"].append({"id": 20, "name": "rare"}))
        (pair.images / "3.png").unlink()
        cut_short(pair.images / "4.png")
    output = tmp_path / "output"
    keys = {"DATALOADER.SKIP_UNREADABLE": True, "SOLVER.MAX_ITER": 40}
    train_net.main(parse(command_line(data, output, keys=keys)))
    log = (output / "log.txt").read_text()
    skipped = re.findall(r"Another image takes the place of (\S+) \((.*)\); (\d) so far\.", log)
    images = data.train.images
    reasons = {f"{images}/3.png": "it does not exist", f"{images}/4.png": "image file is truncated"}
    assert dict(entry[:2] for entry in skipped) == reasons
    assert [count for *_, count in skipped] == ["1", "2"]
    lost = data.val.images / "3.png"
    assert log.count(f"Left out 2 images; the first is {lost} (it does not exist).") == 1

    names = ["bar", "block", "rare", "dot"]  # by rising id
    assert load_detector(output / "model_final.safetensors")[1] == names
    per_class = json.loads((output / "results.json").read_text())["val"]["per_class"]
    assert list(per_class) == names and per_class["rare"] is None
    assert per_class["block"] > 0, "too little training for the names to mean anything"
    found = json.loads((output / "inference/val/coco_instances_results.json").read_text())
    assert {10 + 7 * i for i in range(20)} - {d["image_id"] for d in found} == {31, 38}
