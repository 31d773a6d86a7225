"""One data set in three formats trains one and the same detector."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import clq
from clq.cli.main import main
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
    weights, metrics = [], []
    for name, (train, val) in {
        "coco": coco,
        "yolo": [[str(data)] for data in yolo],
        "voc": [[str(folder)] for folder in voc],
    }.items():
        flags = ["--config", str(CONFIG), "--train", *train, "--val", *val]
        main(["train", *flags, "--output", str(tmp_path / name), *options(KEYS)])
        weights.append(load_file(tmp_path / name / "model_final.safetensors"))
        metrics.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert metrics[0]["val"]["per_class"] and metrics[1] == metrics[2] == metrics[0]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        assert all((other[key] == value).all() for key, value in weights[0].items())
    opts = {**KEYS, "SEED": 4}
    clq.train(CONFIG, train=yolo[0], output_dir=tmp_path / "seed", opts=opts)
    other = load_file(tmp_path / "seed" / "model_final.safetensors")
    assert not all((other[key] == value).all() for key, value in weights[0].items())
