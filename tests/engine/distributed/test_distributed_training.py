"""Two processes train as one: same losses, same weights, same end."""

import functools
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

import train_net
from clq.checkpoint.output_dir import find_last
from clq.engine import launch
from reference import workers
from reference.family import MEMBERS
from reference.forks import START_METHOD
from reference.members import losses_of
from reference.tiny import TinyData, command_line, free_url, parse, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")

# Each step sees all four images, whoever gets which; nothing depends on the batch but the losses.
SAME_STEPS: dict[str, Any] = {
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 3,
    "SOLVER.IMS_PER_BATCH": 4,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.ALLOW_FROZEN_RANDOM": True,
    "INPUT.RANDOM_FLIP": "none",
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
}
LONGER = {"SOLVER.MAX_ITER": 6}
MICRO_BATCHES = {"SOLVER.ACCUMULATION.MICRO_BATCHES": 2}
RUNS: dict[str, dict[str, Any]] = {
    "two": {},
    "micro_batches": MICRO_BATCHES,
    "empty": {},
    "norms": {"MODEL.RESNETS.NORM": "BN", "SOLVER.EMA.ENABLED": True},
    "nonfinite": LONGER,
    "signal": LONGER,
}


@pytest.fixture(scope="module")
def same_size(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Four training images of one size, so that a batch needs no padding; the last is empty."""
    folder = tmp_path_factory.mktemp("same_size")
    return TinyData(
        train=write_pair(folder, "train", num_images=4, seed=5, sizes=((64, 96),)),
        val=write_pair(folder, "val", num_images=3, seed=6),
    )


@pytest.fixture(scope="module")
def folder(same_size: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the records of trainings by one process and by two."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(torch.cuda, "is_available", lambda: False)
        # The processes need not import PyTorch anew.
        patch.setattr(mp, "spawn", functools.partial(mp.start_processes, start_method=START_METHOD))
        first = command_line(same_size, folder / "start", keys={**SAME_STEPS, "SOLVER.MAX_ITER": 1})
        train_net.main(parse(first))
        keys = {**SAME_STEPS, "MODEL.WEIGHTS": folder / "start" / "model_final.pth"}
        alone = parse(command_line(same_size, folder / "one", keys=keys))
        torch.save(workers.train(alone), folder / "one0.pth")
        runs = {
            name: parse(command_line(same_size, folder / name, keys={**keys, **more}))
            for name, more in RUNS.items()
        }
        launch(workers.run_all, 2, dist_url=free_url(), on_cuda=False, args=(folder, runs))
    return folder


def seen(folder: Path, name: str, rank: int) -> Any:
    return torch.load(folder / f"{name}{rank}.pth")


def check_same(weights: dict[str, Tensor], expected: dict[str, Tensor], atol: float) -> None:
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=atol, msg=name)


def test_two_processes_divide_by_the_mean_of_their_counts(folder: Path):
    """3 and 4 samples are 3.5, weights 0 and 0.5 are 0.25; of 2 micro-batches with 14 it is 0.5."""
    seen_by = [seen(folder, "normalized", rank) for rank in range(2)]
    assert [losses["whole"] for losses in seen_by] == [{"a": 2.0, "b": 4.0}, {"a": 4.0, "b": -8.0}]
    assert [losses["part"] for losses in seen_by] == [{"a": 0.5, "b": 2.0}, {"a": 1.0, "b": -4.0}]


@pytest.mark.parametrize("member", MEMBERS)
def test_losses_of_two_processes_average_to_those_of_one(member: str, folder: Path):
    """Although rank 1 has no object: both use the same normalizer."""
    first, second = (seen(folder, "family", rank)[member] for rank in range(2))
    whole = losses_of(member, slice(0, 2))
    assert set(first) == set(second) == set(whole)
    assert second["loss_box_reg"] == 0 < first["loss_box_reg"]
    for name, loss in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, loss)


def test_two_processes_train_as_one(folder: Path):
    """2 + 2 images equal 4, the empty one among them.

    This holds only if the losses are normalized by the mean over processes.
    """
    one, (first, second) = seen(folder, "one", 0), (seen(folder, "two", rank) for rank in range(2))
    assert [run["place"] for run in (one, first, second)] == [
        (0, 1, 0, 1),
        (0, 2, 0, 2),
        (1, 2, 1, 2),
    ]
    start = torch.load(folder / "start" / "model_final.pth")["model"]
    moved = [key for key, weight in one["weights"].items() if not weight.equal(start[key])]
    assert len(moved) > 50
    check_same(second["weights"], first["weights"], atol=0)
    check_same(first["weights"], one["weights"], atol=1e-5)
    distances = [(one["weights"][key] - start[key]).abs().max() for key in moved]
    assert max(distances) > 1e-3, "the steps are much larger than the tolerance"


def test_data_loaders_start_their_workers_alike(folder: Path):
    """Forked on Linux, not as the process itself."""
    runs = [seen(folder, name, rank) for name, rank in (("one", 0), ("two", 0), ("two", 1))]
    assert len({run["start_method"] for run in runs}) == 1


def test_the_processes_share_the_images_of_a_step(folder: Path):
    one, first, second = seen(folder, "one", 0), *(seen(folder, "two", rank) for rank in range(2))
    assert len(one["seen"]) == 12 and len(first["seen"]) == len(second["seen"]) == 6
    for step in range(3):
        whole = one["seen"][4 * step :][:4]
        assert whole[::2] == first["seen"][2 * step :][:2]
        assert whole[1::2] == second["seen"][2 * step :][:2]


@pytest.mark.parametrize(("name", "count"), [("two", 2), ("micro_batches", 3), ("empty", 2)])
def test_a_step_reduces_the_counts_of_each_pass_and_the_losses(name: str, count: int, folder: Path):
    """One tensor each, besides the gradients, whatever the data."""
    for rank in range(2):
        assert seen(folder, name, rank)["exchanges"] == [["all_reduce"] * count] * 3


@pytest.mark.parametrize("name", ["micro_batches", "empty"])
def test_the_processes_neither_hang_nor_diverge(name: str, folder: Path):
    """With micro-batches, one of them without objects, and where a process has no object at all."""
    first, second = (seen(folder, name, rank) for rank in range(2))
    assert first["end"] == second["end"] == "" and first["iteration"] == second["iteration"] == 3
    check_same(second["weights"], first["weights"], atol=0)
    assert all(w.isfinite().all() for w in first["weights"].values())
    other = seen(folder, "two", 0)["weights"]
    assert any(not weight.equal(other[key]) for key, weight in first["weights"].items())


def test_evaluation_uses_the_statistics_of_rank_0(folder: Path):
    """As a checkpoint does, for the average too; they differ between ranks until then."""
    weights = [seen(folder, "norms", rank)["weights"] for rank in range(2)]
    check_same(weights[1], weights[0], atol=0)
    averages = [seen(folder, "norms", rank)["average"] for rank in range(2)]
    check_same(averages[1], averages[0], atol=0)
    statistics = next(name for name in averages[0] if name.endswith("running_mean"))
    assert not averages[0][statistics].equal(weights[0][statistics])


def test_a_nonfinite_loss_in_one_process_stops_both(folder: Path):
    first, second = (seen(folder, "nonfinite", rank) for rank in range(2))
    file = folder / "nonfinite" / "nonfinite_0000001_rank1.pth"
    assert first["end"] == second["end"] and first["iteration"] == second["iteration"] == 1
    assert first["end"].startswith("the loss is not finite in iteration 1 (loss_cls nan")
    assert f"{file} holds batch and weights" in first["end"]
    names = torch.load(file)["file_names"]
    assert len(names) == 2 and f"on the images {', '.join(names)};" in first["end"]
    check_same(second["weights"], first["weights"], atol=0)
    assert all(w.isfinite().all() for w in first["weights"].values())
    check_same(torch.load(file)["model"], first["weights"], atol=0)


def test_a_signal_to_one_process_stops_both_after_the_same_step(folder: Path):
    """It arrives in step 1, before the reduction."""
    first, second = (seen(folder, "signal", rank) for rank in range(2))
    assert first["end"] == second["end"] == str(128 + signal.SIGTERM)
    assert first["iteration"] == second["iteration"] == 1
    check_same(second["weights"], first["weights"], atol=0)
    last = find_last(folder / "signal")
    assert last is not None and last.path.name == "model_0000001.pth"


def test_evaluation_is_split_over_processes(same_size: TinyData, folder: Path, tmp_path: Path):
    """Rank 0 writes the detections of all."""
    keys = {**SAME_STEPS, "MODEL.WEIGHTS": folder / "two" / "model_final.pth"}
    train_net.main(parse(command_line(same_size, tmp_path, "--eval-only", keys=keys)))
    found = detections(folder / "two")
    assert {detection["image_id"] for detection in found} == {10, 17, 24}
    assert found == detections(tmp_path)


def detections(output: Path) -> list[dict[str, Any]]:
    """Read the detections of a run, sorted by image."""
    found = json.loads((output / "inference" / "val" / "coco_instances_results.json").read_text())
    return sorted(found, key=lambda detection: (detection["image_id"], -detection["score"]))
