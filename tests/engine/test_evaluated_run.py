"""Detections that `clq report` takes: those that lie there, or new ones."""

import os
import shutil
import time
from pathlib import Path

import pytest

from clq.engine import evaluated_run
from clq.engine.evaluated_run import find_evaluation
from clq.engine.run import run_in_process
from clq.evaluation.coco_evaluation import detections_file
from reference.tiny import TinyData, command_line, parse, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")


class Trained:
    """A training run of its own data."""

    def __init__(self, folder: Path) -> None:
        self.data = TinyData(
            write_pair(folder, "train", num_images=3, seed=1),
            write_pair(folder, "val", num_images=2, seed=2),
        )
        self.run, self.scratch = folder / "run", folder / "scratch"
        run_in_process(parse(command_line(self.data, self.run, keys={"SOLVER.MAX_ITER": 2})))

    def find(self, val=(), opts=(), source: Path | None = None):
        """Find detections; tells whether they are those in the run's folder."""
        cfg = find_evaluation(str(source or self.run), list(map(str, val)), self.scratch, opts)
        (name,) = cfg.DATASETS.TEST
        assert detections_file(cfg.OUTPUT_DIR, name).is_file()
        assert Path(cfg.MODEL.WEIGHTS).is_file()
        return Path(cfg.OUTPUT_DIR) == self.run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def test_detections_of_the_run_serve(trained: Trained):
    results = (trained.run / "results.json").stat().st_mtime_ns
    assert trained.find()
    assert trained.find(val=trained.data.val)
    assert not trained.scratch.exists()
    assert (trained.run / "results.json").stat().st_mtime_ns == results


def test_other_data_settings_or_weights_are_evaluated(trained: Trained, tmp_path: Path):
    assert not trained.find(val=write_pair(tmp_path, "other", num_images=1, seed=3))
    assert not trained.find(opts=["MODEL.CLQ.NMS_THRESH_TEST", "0.5"])
    weights = trained.run / "model_final.safetensors"
    assert not trained.find(source=weights, val=trained.data.val)
    assert not (trained.scratch / "report").exists()


@pytest.mark.parametrize("newer", ["run/model_final.safetensors", "val.json"])
def test_detections_older_than_weights_or_labels_do_not_serve(trained: Trained, newer: str):
    path = trained.run.parent / newer
    before = path.stat()
    os.utime(path, (time.time() + 60,) * 2)
    try:
        assert not trained.find()
    finally:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_detections_of_other_weights_in_the_folder_of_a_run_do_not_serve(
    trained: Trained, tmp_path: Path
):
    run = Path(shutil.copytree(trained.run, tmp_path / "run"))
    final = run / "model_final.safetensors"
    others = Path(shutil.copy(final, tmp_path / "others.safetensors"))
    for weights in (others, final):
        keys = {"MODEL.WEIGHTS": weights}
        run_in_process(parse(command_line(trained.data, run, "--eval-only", keys=keys)))
        cfg = find_evaluation(str(run), [], tmp_path / "scratch")
        assert (cfg.OUTPUT_DIR == str(run)) == (weights == final)


def test_a_run_whose_training_data_is_gone_can_be_reported_on(trained: Trained, tmp_path: Path):
    moved = shutil.move(trained.data.train.json_file, tmp_path)
    try:
        assert trained.find()
    finally:
        shutil.move(moved, trained.data.train.json_file)


def test_a_run_whose_test_data_has_moved_is_evaluated_where_it_is_now(
    trained: Trained, tmp_path: Path
):
    moved = shutil.move(trained.data.val.json_file, tmp_path)
    try:
        assert not trained.find(val=(moved, trained.data.val.images))
        with pytest.raises(ValueError, match="val.json"):
            trained.find()
    finally:
        shutil.move(moved, trained.data.val.json_file)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("model_final.safetensors", "has no model_final.safetensors, which a complete training"),
        ("config.yaml", "has no config.yaml; name the data by --val"),
    ],
)
def test_an_incomplete_run_is_refused(trained: Trained, tmp_path: Path, missing: str, reason: str):
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    (run / missing).unlink()
    with pytest.raises(ValueError, match=reason):
        find_evaluation(str(run), [], tmp_path / "scratch")


def test_weights_without_data_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="weights need data, by --val"):
        find_evaluation(str(tmp_path / "nothing.pth"), [], tmp_path)


def test_data_of_the_same_name_elsewhere_is_other_data(trained: Trained, tmp_path: Path):
    copy = shutil.copy(trained.data.val.json_file, tmp_path)
    assert evaluated_run._files_of("val") != evaluated_run._real([copy, trained.data.val.images])
