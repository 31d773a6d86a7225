"""The section on training: which curves are drawn, and what is said of them."""

import json
import shutil
from pathlib import Path

import pytest

from clq.engine import build_config
from clq.evaluation.report.history import read_history
from clq.evaluation.report.labels import count_labels
from clq.evaluation.report.training import curve_panels, describe_training, label_panels
from reference.tiny import TinyData, command_line, parse, write_pair

LOSSES = {"total_loss": 2.0, "loss_cls": 1.0, "lr": 0.01, "time": 0.5, "data_time": 0.2}


def history(tmp_path: Path, *records: dict):
    path = tmp_path / "metrics.json"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return read_history(path)


def readings(panels):
    return {panel.name: panel.reading for panel in panels}


def test_curves_and_what_is_read_from_them(tmp_path: Path):
    records = [
        {"iteration": 19, **LOSSES},
        {"iteration": 39, **LOSSES, "total_loss": 1.25, "lr": 0.001, "bbox/AP": 20.0},
        {"iteration": 59, **LOSSES, "total_loss": 1.0, "lr": 0.0, "bbox/AP": 22.5},
    ]
    text = readings(curve_panels(history(tmp_path, *records)))
    assert text["losses"] == "The total loss went from 2.00 to 1.00 in 60 iterations."
    assert text["accuracy"].startswith("The last AP is 22.5, the best so far, 2.5 more")
    assert text["learning_rate"] == "It is highest at iteration 20, with 0.01, and ends at 0."
    assert "0.50 s, 40 % of it" in text["time"] and "NUM_WORKERS may help" in text["time"]


def test_an_earlier_best_is_told(tmp_path: Path):
    records = [{"iteration": i, "a/bbox/AP": ap} for i, ap in ((9, 30.0), (19, 20.0))]
    text = readings(curve_panels(history(tmp_path, *records)))
    assert list(text) == ["accuracy"]
    assert "The last AP is 20.0; the best, 30.0, came at iteration 10" in text["accuracy"]


def test_what_was_not_recorded_is_no_curve(tmp_path: Path):
    assert curve_panels(history(tmp_path)) == []
    untimed = {"iteration": 0, "total_loss": 2.0, "data_time": 0.1}
    assert list(readings(curve_panels(history(tmp_path, untimed)))) == ["losses"]


def test_alternative_texts_have_the_last_value_of_a_long_curve(tmp_path: Path):
    records = [{"iteration": i, **LOSSES, "total_loss": float(i)} for i in range(99)]
    losses = curve_panels(history(tmp_path, *records))[0]
    assert losses.alt.endswith("; 99: 98.00.") and losses.alt.count(";") == 9


def test_labels_of_train_and_val_are_compared(tiny_data: TinyData):
    train, val = tiny_data.train.content, tiny_data.val.content
    train["annotations"] = [a for a in train["annotations"] if a["category_id"] != 90]
    panels = label_panels([count_labels("train", train), count_labels("val", val)])
    text = readings(panels)
    assert text["class_counts"] == (
        "The rarest class of train is bar, with 3 objects (50 %). dot has no object in train."
    )
    assert "6 objects in 4 images of train, half of them below 29 pixels; and 6 objects in 3" in (
        text["object_sizes"]
    )
    assert "train, bar: 3; train, block: 3; train, dot: 0; val, bar: 2" in panels[0].alt


def test_a_set_without_objects_can_be_drawn(tiny_data: TinyData):
    empty = {**tiny_data.val.content, "annotations": []}
    text = readings(label_panels([count_labels("val", empty)]))
    assert text["class_counts"] == "val has no object."
    assert text["object_sizes"].startswith("There are 0 objects in 3 images of val. The")


def test_one_class_needs_no_figure_of_classes(tiny_data: TinyData):
    content = tiny_data.val.content
    content["categories"] = content["categories"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 90]
    assert list(readings(label_panels([count_labels("val", content)]))) == ["object_sizes"]


@pytest.mark.usefixtures("cpu_only")
def test_a_run_is_described_with_its_data(tiny_data: TinyData, tmp_path: Path):
    history(tmp_path, {"iteration": 1, **LOSSES})
    cfg = build_config(parse(command_line(tiny_data, tmp_path)))
    section = describe_training(cfg, tmp_path / "metrics.json")
    assert [labels.num_objects for labels in section.labels] == [9]
    assert len(section.images) == 8 and "matched anchors" in section.images_reading
    assert any("images without objects" in note for note in section.notes)


@pytest.mark.usefixtures("cpu_only")
def test_training_images_that_are_gone_are_a_note(tiny_data: TinyData, tmp_path: Path):
    history(tmp_path, {"iteration": 1, **LOSSES})
    data = TinyData(write_pair(tmp_path, "train", num_images=2, seed=5), tiny_data.val)
    cfg = build_config(parse(command_line(data, tmp_path)))
    shutil.rmtree(data.train.images)
    section = describe_training(cfg, tmp_path / "metrics.json")
    assert section.images == [] and len(section.panels) == 3
    (note,) = section.notes
    assert (
        note.startswith("The training data can't be shown: ") and str(data.train.json_file) in note
    )
