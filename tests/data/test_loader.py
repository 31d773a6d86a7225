"""Data loaders: the same batches for any number of workers and processes, and after a resume."""

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from PIL import Image

from clq.config import get_clq_cfg
from clq.data.loader import TestLoader, TrainLoader, _choose_sampler

NUM_IMAGES = 7


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Four wide images and three tall ones."""
    folder = tmp_path_factory.mktemp("images")
    records = []
    for i in range(NUM_IMAGES):
        width, height = (9, 6) if i < 4 else (6, 9)
        Image.new("RGB", (width, height)).save(folder / f"{i}.png")
        file = str(folder / f"{i}.png")
        records.append({"file_name": file, "image_id": i, "width": width, "height": height})
    return records


def mapper(record: dict[str, Any]) -> dict[str, Any]:
    Image.open(record["file_name"]).load()
    return {**record, "image": torch.zeros(1), "random": np.random.rand()}


def batches(records: list[dict[str, Any]], start: int = 0, **options: Any) -> TrainLoader:
    loader = TrainLoader(
        records,
        mapper,
        sampler=lambda seed: TrainingSampler(len(records), seed=seed),
        **{"seed": 5, "batch_size": 2, **options},
    )
    loader.start = start
    return loader


def take(loader: TrainLoader, count: int = 12) -> list[list[tuple[int, float]]]:
    """Image ids and random numbers of the first batches."""
    iterator = iter(loader)
    taken = [[(s["image_id"], s["random"]) for s in b] for b in itertools.islice(iterator, count)]
    iterator.close()
    return taken


def test_workers_and_start_do_not_change_the_batches(records: Any):
    expected = take(batches(records))
    assert take(batches(records, num_workers=2)) == expected
    assert take(batches(records, start=5), 7) == expected[5:]
    assert take(batches(records, start=5, num_workers=2), 7) == expected[5:]
    assert take(batches(records, seed=6)) != expected
    drawn = [random for batch in expected for _, random in batch]
    assert len(set(drawn)) == len(drawn), "an image is augmented anew each time"


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one(records: Any, world_size: int):
    expected = take(batches(records, batch_size=4), 6)
    shares = [
        take(batches(records, batch_size=4, rank=rank, world_size=world_size), 6)
        for rank in range(world_size)
    ]
    for number, batch in enumerate(expected):
        parts = [share[number] for share in shares]
        assert sorted(itertools.chain.from_iterable(parts)) == sorted(batch)
        assert {len(part) for part in parts} == {4 // world_size}


def test_batches_are_grouped_by_shape_by_default(records: Any):
    grouped = take(batches(records), 30)
    assert all(len({image < 4 for image, _ in batch}) == 1 for batch in grouped)
    mixed = take(batches(records, group_by_shape=False), 30)
    assert any(len({image < 4 for image, _ in batch}) == 2 for batch in mixed)
    images = [image for batch in mixed for image, _ in batch][: 8 * NUM_IMAGES]
    for start in range(0, 8 * NUM_IMAGES, NUM_IMAGES):  # each epoch has every image once
        assert sorted(images[start : start + NUM_IMAGES]) == list(range(NUM_IMAGES))


def test_the_global_random_state_is_unchanged(records: Any):
    state = torch.get_rng_state()
    take(batches(records, num_workers=1), 3)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_missing_image_is_an_error_or_skipped(
    num_workers: int, records: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    missing = {**records[1], "file_name": str(tmp_path / "gone.png"), "image_id": 99}
    broken = [records[0], missing, *records[2:]]
    options = {"num_workers": num_workers}
    with pytest.raises(ValueError, match="gone.png .it does not exist.*SKIP_UNREADABLE True") as e:
        take(batches(broken, **options), 30)
    assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match="gone.png .it does not exist"):
        list(TestLoader(broken, mapper, **options))

    taken = take(batches(broken, skip_unreadable=True, **options), 30)
    assert all(len(batch) == 2 for batch in taken)
    assert 99 not in {image for batch in taken for image, _ in batch}
    with caplog.at_level(logging.WARNING):
        evaluated = TestLoader(broken, mapper, skip_unreadable=True, **options)
        assert [sample["image_id"] for (sample,) in evaluated] == [0, 2, 3, 4, 5, 6]
    told = [r.message for r in caplog.records if "gone.png" in r.message]
    assert len(told) == 2 and told[0].startswith("Another image takes the place of")
    assert told[1].startswith("Left out 1 images; the first is")


def test_detectron2_samplers_can_be_chosen():
    cfg = get_clq_cfg()
    records = [{"annotations": [{"category_id": k // 3}]} for k in range(4)]
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 1.0
    sampler = _choose_sampler(cfg, records)(3)
    assert isinstance(sampler, RepeatFactorTrainingSampler) and sampler._seed == 3
    assert (sampler._int_part + sampler._frac_part)[3] == 2  # the root of 1 / 0.25
    if "REPEAT_SQRT" in cfg.DATALOADER:  # of Detectron2's main
        cfg.DATALOADER.REPEAT_SQRT = False
        sampler = _choose_sampler(cfg, records)(3)
        assert (sampler._int_part + sampler._frac_part)[3] == 4
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    indices = _choose_sampler(cfg, records)(3)._infinite_indices()
    assert set(itertools.islice(indices, 4)) == {0, 1, 2, 3}
