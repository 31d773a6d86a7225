"""Mapped records: per-sample seeds and unreadable images."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clq.data.mapped_dataset import UNREADABLE, MappedDataset, SampleIndex, SeededDataset
from clq.runtime.images import read_image


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    """A good image, one cut short, one that is missing, one of another size, and no image."""
    names = ["good.png", "cut.png", "missing.png", "other.png", "text.png"]
    for name, width in zip(names, (30, 30, 0, 31, 0)):
        if width:
            noise = np.random.default_rng(0).integers(0, 255, (20, width, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    (tmp_path / "text.png").write_text("no image")
    return [{"file_name": str(tmp_path / name), "width": 30, "height": 20} for name in names]


def mapper(record: dict[str, Any]) -> dict[str, Any]:
    image = read_image(record["file_name"])
    if image.shape[1] != record["width"]:
        raise ValueError("of another size")
    numbers = (random.random(), np.random.rand(), float(torch.rand(())))
    return {"image": image, "file_name": record["file_name"], "numbers": numbers}


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (1, "truncated"),
        (2, "it does not exist"),
        (3, "it has 31 x 20 pixels, but the annotations say 30 x 20"),
        (4, "it is no image"),
    ],
)
def test_an_unreadable_image_is_named(records: Any, index: int, reason: str):
    dataset = MappedDataset(records, mapper)
    assert "image" in dataset[0] and UNREADABLE not in dataset[0]
    (problem,) = dataset[index][UNREADABLE]
    assert problem.startswith(f"{records[index]['file_name']} (") and reason in problem
    seeded = SeededDataset(records, mapper, 0, skip_unreadable=False)
    assert seeded[SampleIndex(5, index)] == {UNREADABLE: [problem]}


def test_other_errors_of_the_mapper_are_raised(records: Any):
    def broken(record: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("a mistake in an augmentation")

    with pytest.raises(ValueError, match="a mistake"):
        MappedDataset(records, broken)[0]


def test_a_substitute_replaces_an_unreadable_image(records: Any):
    dataset = SeededDataset(records, mapper, 3, skip_unreadable=True)
    sample = dataset[SampleIndex(8, 2)]
    assert sample["file_name"] == records[0]["file_name"]
    assert records[2]["file_name"] in sample[UNREADABLE][0]
    assert (
        dataset[SampleIndex(8, 2)][UNREADABLE] == sample[UNREADABLE]
    ), "the sample index decides which"
    nothing = SeededDataset(records[1:], mapper, 3, skip_unreadable=True)[SampleIndex(8, 1)]
    assert "image" not in nothing and len(nothing[UNREADABLE]) == 21


def test_seed_and_sample_index_alone_determine_random_numbers(records: Any):
    dataset = SeededDataset(records, mapper, 3, skip_unreadable=False)
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = dataset[SampleIndex(8, 0)]["numbers"]
    assert random.getstate() == state[0] and np.random.get_state()[1].tolist() == state[1]
    assert torch.get_rng_state().equal(state[2])
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert dataset[SampleIndex(8, 0)]["numbers"] == first
    others = [
        dataset[SampleIndex(9, 0)],
        SeededDataset(records, mapper, 4, skip_unreadable=False)[SampleIndex(8, 0)],
    ]
    for other in others:
        assert all(a != b for a, b in zip(other["numbers"], first))
