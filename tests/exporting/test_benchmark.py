"""The table of `clq benchmark`."""

import multiprocessing
import os
import re
import signal
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clq
from clq.cli import benchmark as command
from clq.config.serialize import dump_config
from clq.exporting.benchmark import (
    Contender,
    Row,
    _reported_to,
    compare,
    contenders,
    measure_ap,
    table,
)
from reference.members import member_config
from reference.prediction import write_checkpoint
from reference.tiny import CLASS_NAMES, TinyData
from reference.tiny_graph import PLAIN, write_detector


def _end(*_: object) -> None:
    os._exit(3)


def _take_long(connection: Connection, entry: Contender, val: object) -> None:
    with _reported_to(connection), tempfile.TemporaryDirectory(dir=entry.path):
        time.sleep(30)
        Path(entry.path, "done").touch()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    settings = replace(PLAIN.settings, class_names=tuple(CLASS_NAMES))
    config = dump_config(member_config("clq", **{"INPUT.MIN_SIZE_TEST": 0}))
    write_detector(path, replace(PLAIN, settings=settings, config=config))
    return path


def test_a_table_by_hand(tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(bytes(2_000_000))
    (tmp_path / "b.xml").write_bytes(bytes(100_000))
    (tmp_path / "b.bin").write_bytes(bytes(900_000))
    a, b = str(tmp_path / "a.safetensors"), str(tmp_path / "b.xml")
    rows = [
        Row(Contender(a), [10.0, 30.0, 20.0], 512.4, 51.239),
        Row(Contender(a, fast=True), [8.0, 9.0], 400.0),
        Row(Contender(b), [5.0], 99.0, 51.2),
    ]
    assert table(rows).splitlines()[2:] == [
        "| a.safetensors | 20.0 | 10.0 to 30.0 | 1.00 | 2.0 | 512 | 51.24 |",
        "| a.safetensors (--fast) | 8.5 | 8.0 to 9.0 | 0.42 | 2.0 | 400 |  |",
        "| b.xml | 5.0 | 5.0 to 5.0 | 0.25 | 1.0 | 99 | 51.20 |",
    ]


def test_a_checkpoint_runs_in_two_ways():
    found = contenders(["a.pth", "b.onnx"], threads=3)
    assert [(entry.path, entry.fast) for entry in found] == [
        ("a.pth", False),
        ("a.pth", True),
        ("b.onnx", False),
    ]
    assert all(entry.threads == 3 for entry in found)


def test_contenders_take_turns_in_processes_of_their_own(exported: Path, tmp_path: Path):
    weights = write_checkpoint(tmp_path / "model.safetensors")
    images = [np.zeros((60, 90, 3), np.uint8), np.zeros((90, 60, 3), np.uint8)]
    rows = compare(contenders([str(weights), str(exported)], threads=1), images, rounds=3)
    assert [len(row.milliseconds) for row in rows] == [3, 3, 3]
    assert all(time > 0 for row in rows for time in row.milliseconds)
    eager, fast, onnx = (row.peak_megabytes for row in rows)
    assert 20 < onnx < eager / 2 and fast > onnx  # without PyTorch


def test_images_are_read_as_the_detector_sees_them(tmp_path: Path):
    """Of 12 bits by one, which another one can't read."""
    image = tmp_path / "a.png"
    Image.fromarray(np.full((60, 90), 4095, np.uint16)).save(image)
    for bits in (12, 8):
        path = tmp_path / f"of_{bits}_bits.onnx"
        write_detector(path, replace(PLAIN, settings=replace(PLAIN.settings, bit_depth=bits)))
    paths = [str(tmp_path / f"of_{bits}_bits.onnx") for bits in (12, 8)]
    (row,) = compare(contenders(paths[:1], threads=1), [image], rounds=1)
    assert len(row.milliseconds) == 1
    with pytest.raises(ValueError, match=r"a.png can't be read \(it has more than 8 bits"):
        compare(contenders(paths[1:], threads=1), [image], rounds=1)


def test_the_command_prints_ap(
    exported: Path, tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--val", *map(str, tiny_data.val), "--rounds", "2", "--threads", "1"]
    command.main([str(exported), *arguments])
    *lines, empty, machine = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and empty == "" and machine.endswith(", 1 thread")
    expected = clq.evaluate(
        exported, val=tiny_data.val, output_dir=tmp_path, opts={"TEST.REPORT": False}
    )
    assert lines[2].endswith(f" | {expected['AP']:.2f} |")
    assert re.fullmatch(r"\| model.onnx( \| [\d. to]+){6} \|", lines[2])


def test_a_process_that_ends_is_told(exported: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clq.exporting.benchmark._evaluate", _end)
    with pytest.raises(ValueError, match="model.onnx ended with code 3, perhaps for lack of"):
        measure_ap(Contender(str(exported)), ["a.json", ""])


def test_ctrl_c_ends_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At once, and no file of it stays."""

    def interrupt(*_: object) -> None:
        while not os.listdir(tmp_path):
            time.sleep(0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr("clq.exporting.benchmark._evaluate", _take_long)
    monkeypatch.setattr("clq.exporting.benchmark._answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure_ap(Contender(str(tmp_path)), "a.json")
    assert not os.listdir(tmp_path)


def test_an_error_that_nobody_waits_for_is_not_raised():
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _reported_to(theirs):
        raise ValueError("the other end was interrupted")
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}/no.onnx"], "no.onnx does not exist."),
        (["{}/text.onnx"], "text.onnx is no model that ONNX Runtime can run"),
        (["{}/text.pth"], "text.pth is not a checkpoint that PyTorch can read."),
        (["{model}", "--rounds", "0"], "--rounds is 0; it must lie in [1, 1024]."),
        (["{model}", "--images", "{}/text.pth"], "text.pth can't be read (it is no image)."),
    ],
)
def test_refusals_are_one_sentence(arguments: list[str], said: str, exported: Path, tmp_path: Path):
    for name in ("text.onnx", "text.pth"):
        (tmp_path / name).write_text("text")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as error:
        command.main([argument.format(tmp_path, model=exported) for argument in arguments])
    assert said in str(error.value.code)
