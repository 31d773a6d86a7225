"""The Python API on a tiny detector: the lines that a notebook holds."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clq
from clq.evaluation import METRIC_NAMES
from reference.tiny import CONFIG, KEYS, TinyData

pytestmark = pytest.mark.usefixtures("cpu_only")
OPTS = {**KEYS, "SOLVER.MAX_ITER": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def trained(tiny_data: TinyData, folder: Path) -> dict[str, Any]:
    """Metrics of a detector whose weights are then in the folder ``run``."""
    return clq.train(
        CONFIG, train=tiny_data.train, val=tiny_data.val, output_dir=folder / "run", opts=OPTS
    )


@pytest.fixture(scope="module")
def detector(trained: dict[str, Any], folder: Path) -> clq.Detector:
    return clq.load(folder / "run" / "model_final.safetensors", device="cpu")


@pytest.fixture
def photo(tiny_data: TinyData) -> Path:
    return tiny_data.val.images / "0.png"


def test_training_returns_the_metrics_that_an_evaluation_finds(
    trained: dict[str, Any], tiny_data: TinyData, folder: Path
):
    assert set(METRIC_NAMES) <= set(trained) and "AP-block" in trained
    weights = folder / "run" / "model_final.safetensors"
    found = clq.evaluate(weights, val=tiny_data.val, output_dir=folder / "eval")
    np.testing.assert_equal(found, trained)  # for which nan equals nan


@pytest.mark.parametrize(
    "opts",
    [
        {"TEST.AUG.ENABLED": True, "TEST.AUG.FLIP": False, "TEST.AUG.MIN_SIZES": (64,)},
        {"TEST.TILE": 1000, "TEST.TILE_WHOLE": True},
    ],
)
def test_one_view_of_an_image_is_the_plain_evaluation(
    opts: dict[str, Any],
    trained: dict[str, Any],
    tiny_data: TinyData,
    folder: Path,
    tmp_path: Path,
):
    weights = folder / "run" / "model_final.safetensors"
    found = clq.evaluate(
        weights, val=tiny_data.val, output_dir=tmp_path, opts={**opts, "TEST.REPORT": False}
    )
    np.testing.assert_equal(found, trained)


def test_the_home_folder_needs_no_shell(
    trained: dict[str, Any],
    tiny_data: TinyData,
    photo: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("train.json", "train", "val.json", "val"):
        (folder / name).symlink_to(tiny_data.train.json_file.parent / name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir("/")
    pair = ("~/val.json", "~/val")
    found = clq.evaluate("~/run/model_final.safetensors", val=pair, output_dir="~/home")
    np.testing.assert_equal(found, trained)
    opts = {**OPTS, "SOLVER.MAX_ITER": 1}
    clq.train(CONFIG, train=("~/train.json", Path("~/train")), output_dir="~/again", opts=opts)
    assert (folder / "again" / "model_final.safetensors").is_file()
    detector = clq.load(Path("~/run/model_final.safetensors"), device="cpu")
    assert len(detector.predict(f"~/val/{photo.name}", threshold=0)) > 0
    with pytest.raises(ValueError, match=f"^{folder}/none.png can't be read"):
        detector.predict("~/none.png")


def test_every_kind_of_image_gives_the_same(detector: clq.Detector, photo: Path):
    array = np.asarray(Image.open(photo))
    kinds = (photo, str(photo), io.BytesIO(photo.read_bytes()), Image.open(photo), array)
    first, *others = (detector.predict(kind, threshold=0) for kind in kinds)
    assert len(first) > 0 and (first.image == array).all()
    assert first.boxes.shape == (len(first), 4) and first.boxes.dtype == np.float32
    assert first.names == [detector.class_names[k] for k in first.labels]
    assert (np.diff(first.scores) <= 0).all()
    for other in others:
        assert (other.boxes == first.boxes).all() and (other.scores == first.scores).all()


def test_a_list_gives_a_list_in_its_order(detector: clq.Detector, tiny_data: TinyData):
    paths = sorted(tiny_data.val.images.glob("*.png"))
    together = detector.predict(paths, threshold=0, batch_size=2)
    for path, found in zip(paths, together, strict=True):
        alone = detector.predict(path, threshold=0)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
    assert detector.predict([]) == []


def test_images_of_one_size_pass_the_network_in_batches_of_any_size(detector: clq.Detector):
    sizes = []
    hook = detector.predictor.model.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0]))
    )
    detector.predict([np.zeros((32, 32, 3), np.uint8)] * 14, batch_size=10)
    hook.remove()
    assert sizes == [10, 4]


def test_an_evaluation_looks_at_an_image_as_a_prediction_does(
    detector: clq.Detector, tiny_data: TinyData, folder: Path, tmp_path: Path
):
    weights = folder / "run" / "model_final.safetensors"
    views = {"tile": 40, "overlap": 0.3, "whole": True, "augment": True}
    keys = ("TEST.TILE", "TEST.TILE_OVERLAP", "TEST.TILE_WHOLE", "TEST.AUG.ENABLED")
    opts = {**dict(zip(keys, views.values())), "TEST.AUG.MIN_SIZES": (64, 80)}
    clq.evaluate(
        weights, val=tiny_data.val, output_dir=tmp_path, opts={**opts, "TEST.REPORT": False}
    )
    evaluated = json.loads((tmp_path / "inference/val/coco_instances_results.json").read_text())
    predictor = detector.predictor
    predictor.settings = replace(predictor.settings, augment_min_sizes=(64, 80))
    (image,) = [i for i in tiny_data.val.content["images"] if i["file_name"] == "0.png"]
    result = detector.predict(tiny_data.val.images / "0.png", threshold=0, **views)
    scores = [entry["score"] for entry in evaluated if entry["image_id"] == image["id"]]
    assert len(result) > 0
    np.testing.assert_array_equal(result.scores, np.array(scores, np.float32))


def test_the_threshold_is_the_lowest_score(detector: clq.Detector, photo: Path):
    scores = detector.predict(photo, threshold=0).scores
    middle = float(scores[len(scores) // 2])
    assert (detector.predict(photo, threshold=middle).scores >= middle).all()
    assert len(detector.predict(photo, threshold=1.0)) == 0


def test_forms_of_a_result(detector: clq.Detector, photo: Path):
    result = detector.predict(photo, threshold=0)
    entries = result.to_coco(image_id=7)
    assert len(entries) == len(result)
    x, y, width, height = entries[0]["bbox"]
    np.testing.assert_allclose((x, y, x + width, y + height), result.boxes[0], rtol=1e-5)
    assert entries[0]["category_id"] == result.labels[0] + 1 and entries[0]["image_id"] == 7
    picture = result.plot()
    assert picture.mode == "RGB" and picture.size[0] % result.image.shape[1] == 0


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("nowhere.png", {}, r"nowhere.png can't be read \(it does not exist\)"),
        (np.zeros((4, 4), np.uint8), {}, "must be .* uint8"),
        (np.zeros((4, 4, 3), np.float32), {}, "must be .* uint8"),
        ([], {"threshold": 2}, r"threshold is 2; it must lie in \[0, 1\]"),
        ([], {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ([], {"tile": 3}, "TEST.TILE is 3; it must be a whole number of pixels, at least 32, or 0"),
        ([], {"overlap": 0.5}, "overlap is 0.5, but there are no tiles"),
    ],
)
def test_what_is_no_image_is_told_in_a_sentence(
    images: Any, options: dict[str, Any], message: str, detector: clq.Detector
):
    with pytest.raises(ValueError, match=message):
        detector.predict(images, **options)


def test_unknown_keys_and_configs_are_told_in_a_sentence(tiny_data: TinyData, tmp_path: Path):
    with pytest.raises(ValueError, match="there is no key SOLVER.MAX_ITERS; did you mean"):
        clq.train(CONFIG, train=tiny_data.train, output_dir=tmp_path, opts={"SOLVER.MAX_ITERS": 1})
    with pytest.raises(ValueError, match="no config of the name 'clq_R_5'"):
        clq.train("clq_R_5", train=tiny_data.train, output_dir=tmp_path)
