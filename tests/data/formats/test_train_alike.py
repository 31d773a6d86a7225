"""One data set in three formats trains one and the same detector."""

import json
import os
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import clq
from clq.cli.main import main
from clq.engine.evaluated_run import find_evaluation
from clq.evaluation.report.runs import load_runs
from reference.formats import write_voc, write_yolo
from reference.tiny import CONFIG, KEYS, Pair, options, write_pair


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """Training and evaluation data, whose images are sorted by name and have the ids 1 to N."""
    folder = tmp_path_factory.mktemp("pairs")
    found = []
    for name, count in (("train", 6), ("val", 3)):
        pair = write_pair(folder, name, num_images=count, seed=count)
        content = pair.content
        ids = {image["id"]: id_ for id_, image in enumerate(content["images"], start=1)}
        for entry in content["images"]:
            entry["id"] = ids[entry["id"]]
        for entry in content["annotations"]:
            entry["image_id"] = ids[entry["image_id"]]
        pair.json_file.write_text(json.dumps(content))
        found.append(pair)
    return found[0], found[1]


@pytest.mark.usefixtures("cpu_only")
def test_three_formats_train_to_equal_weights(pairs: tuple[Pair, Pair], tmp_path: Path):
    yolo = [
        write_yolo(pair, tmp_path / "yolo", name) for pair, name in zip(pairs, ("train", "val"))
    ]
    voc = [write_voc(pair, tmp_path / pair.images.name) for pair in pairs]
    coco = [list(map(str, pair)) for pair in pairs]
    keys = {**KEYS, "SOLVER.MAX_ITER": 2}
    weights, metrics = [], []
    for name, (train, val) in {
        "coco": coco,
        "yolo": [[str(data)] for data in yolo],
        "voc": [[str(folder)] for folder in voc],
    }.items():
        flags = ["--config", str(CONFIG), "--train", *train, "--val", *val]
        main(["train", *flags, "--output", str(tmp_path / name), *options(keys)])
        weights.append(load_file(tmp_path / name / "model_final.safetensors"))
        metrics.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert metrics[0]["val"]["per_class"] and metrics[1] == metrics[2] == metrics[0]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        assert all((other[key] == value).all() for key, value in weights[0].items())
    opts = {**keys, "SEED": 4}
    clq.train(CONFIG, train=yolo[0], output_dir=tmp_path / "seed", opts=opts)
    other = load_file(tmp_path / "seed" / "model_final.safetensors")
    assert not all((other[key] == value).all() for key, value in weights[0].items())
    check_report(tmp_path, yolo[1])


def check_report(folder: Path, data: Path) -> None:
    """`clq report` takes the run's own detections, until a label changes."""
    run = str(folder / "yolo")
    for val in ([], [str(data), ""], [f"{data}:val", ""]):
        cfg = find_evaluation(run, val, folder / "scratch")
        assert cfg.OUTPUT_DIR == run and not (folder / "scratch").exists()
        (report,) = load_runs(cfg, cfg.MODEL.WEIGHTS)
        assert len(report.truth["images"]) == 3 and report.json_file == f"{data}:val"
    label = next((data.parent / "labels" / "val").iterdir())
    later = time.time() + 10
    os.utime(label, (later, later))
    assert find_evaluation(run, [], folder / "scratch").OUTPUT_DIR == str(folder / "scratch")
