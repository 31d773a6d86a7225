"""Evaluation of an exported file: the same data, keys and results as of a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clq
from clq.cli.main import main
from clq.config.serialize import dump_config
from clq.data.transforms import resize
from clq.runtime import load
from reference.members import member_config
from reference.tiny import CLASS_NAMES, TinyData
from reference.tiny_graph import PLAIN, write_detector


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = member_config("clq", **{"INPUT.MIN_SIZE_TEST": 64, "TEST.DETECTIONS_PER_IMAGE": 30})
    cfg.MODEL.CLQ.SCORE_THRESH_TEST = 0.05
    settings = replace(PLAIN.settings, class_names=tuple(CLASS_NAMES), min_size=64, topk=1000)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    write_detector(path, replace(PLAIN, settings=settings, config=dump_config(cfg)))
    return path


def detections(folder: Path, data: TinyData) -> dict[str, list[dict[str, Any]]]:
    """Entries by file name."""
    names = {image["id"]: image["file_name"] for image in data.val.content["images"]}
    entries = json.loads((folder / "inference/val/coco_instances_results.json").read_text())
    return {name: [e for e in entries if names[e["image_id"]] == name] for name in names.values()}


@pytest.mark.parametrize(
    ("opts", "views"),
    [
        ({}, {}),
        ({"TEST.TILE": 40}, {"tile": 40}),
        ({"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (64,)}, {"augment": True}),
    ],
)
def test_an_evaluation_detects_what_a_prediction_does(
    exported: Path, opts: dict[str, Any], views: dict[str, Any], tiny_data: TinyData, tmp_path: Path
):
    metrics = clq.evaluate(
        exported, val=tiny_data.val, output_dir=tmp_path, opts={**opts, "TEST.REPORT": False}
    )
    assert json.loads((tmp_path / "results.json").read_text())["val"]["AP"] == metrics["AP"]
    detector = load(exported)
    sizes = {"max_detections": 30, "augment_min_sizes": (64,), "topk": 20}
    detector.predictor.settings = replace(detector.predictor.settings, **sizes)
    count = 0
    for name, entries in detections(tmp_path, tiny_data).items():
        result = detector.predict(tiny_data.val.images / name, threshold=0, **views)
        scores = np.array([entry["score"] for entry in entries], np.float32)
        np.testing.assert_array_equal(scores, result.scores)
        boxes = np.array([entry["bbox"] for entry in entries]).reshape(-1, 4)
        expected = [entry["bbox"] for entry in result.to_coco()]
        np.testing.assert_allclose(boxes, np.reshape(expected, (-1, 4)), atol=1e-3)
        count += len(result)
    assert count > 5


def test_keys_behind_the_graph_count(exported: Path, tiny_data: TinyData, tmp_path: Path):
    counts = []
    for topk in (20, 1):
        opts = {"MODEL.CLQ.SCORE_THRESH_TEST": 0.6, "MODEL.CLQ.TOPK_CANDIDATES_TEST": topk}
        opts["TEST.REPORT"] = False
        clq.evaluate(exported, val=tiny_data.val, output_dir=tmp_path / str(topk), opts=opts)
        found = detections(tmp_path / str(topk), tiny_data)
        assert all(entry["score"] > 0.6 for entries in found.values() for entry in entries)
        counts.append(sum(map(len, found.values())))
    assert counts[0] > counts[1] > 0 and counts[1] <= len(tiny_data.val.content["images"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["MODEL.CLQ.ALPHA", "0.4"], "MODEL.CLQ.ALPHA is 0.4, but the graph of an exported file"),
        (["INPUT.FORMAT", "BGR"], "INPUT.FORMAT is BGR, but the graph"),
        (["MODEL.FAST_INFERENCE", "True"], "MODEL.FAST_INFERENCE is True, but the graph"),
        (["MODEL.CLQ.TOPK_CANDIDATES_TEST", "2000"], "has 1000 candidates of a level"),
    ],
)
def test_what_the_graph_fixes_is_refused(
    arguments: list[str], said: str, exported: Path, tiny_data: TinyData, tmp_path: Path
):
    data = ["--val", *map(str, tiny_data.val), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as error:
        main(["eval", "--weights", str(exported), *data, *arguments])
    assert said in str(error.value.code)


def test_a_config_beside_an_exported_file_is_refused(exported: Path, tiny_data: TinyData):
    with pytest.raises(ValueError, match="has its own configuration; leave --config out"):
        clq.evaluate(exported, val=tiny_data.val, config="clq_R_50_FPN_1x")


def test_an_exported_file_is_not_trained_converted_or_exported(
    exported: Path, tiny_data: TinyData, tmp_path: Path
):
    said = "model.onnx is an exported file, .* name the checkpoint that it was exported from"
    with pytest.raises(ValueError, match=said):
        clq.train("clq_own_data", train=tiny_data.train, weights=exported, output_dir=tmp_path)
    with pytest.raises(ValueError, match=said):
        clq.export(exported, tmp_path / "b.onnx")


def test_other_classes_are_refused(exported: Path, tmp_path: Path, tiny_data: TinyData):
    settings = replace(PLAIN.settings, class_names=("a", "b", "c"))
    config = dump_config(member_config("clq"))
    write_detector(tmp_path / "abc.onnx", replace(PLAIN, settings=settings, config=config))
    with pytest.raises(ValueError, match=r"abc.onnx knows the classes \['a', 'b', 'c'\]"):
        clq.evaluate(tmp_path / "abc.onnx", val=tiny_data.val, output_dir=tmp_path / "out")


def test_predict_and_load_take_exported_files(exported: Path, tiny_data: TinyData, tmp_path: Path):
    image = tiny_data.val.images / "0.png"
    with pytest.raises(SystemExit) as error:
        main(["predict", "--weights", str(exported), str(image), "--fast"])
    assert "is an exported file, which runs on CPU; omit --fast." in str(error.value.code)
    arguments = [str(image), "--output", str(tmp_path), "--no-pictures"]
    main(["predict", "--weights", str(exported), *arguments])
    written = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    result = clq.load(exported).predict(image, threshold=0)
    assert [entry["score"] for entry in written] == result.scores.tolist() and len(result) > 3
    enlarged = resize(result.image, 200, 300)
    assert len(clq.load(exported).predict(enlarged)) > 0
