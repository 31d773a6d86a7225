"""Images read and augmented, each as its draw says, and what happens where one can't be read."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data.detection_utils import read_image
from torch.utils.data import Dataset

from .images import READ_ERRORS, reason_of

Record = dict[str, Any]  # of one image, as Detectron2's catalog holds it
UNREADABLE = "unreadable"  # entry of a sample: the images that can't be read, with the reason
_MOST_SUBSTITUTES = 20


class Draw(NamedTuple):
    """One place of the training stream."""

    number: int  # from 0
    image: int  # index of its record


class MappedImages(Dataset):
    """Mapped records; one whose image can't be read says so instead of raising.

    A worker process could pass on an error only with its traceback as text.
    """

    def __init__(self, records: Dataset, mapper: Callable[[Record], Record]) -> None:
        self._records = records
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        try:
            return self._mapper(record)
        except READ_ERRORS as error:
            reason = _why_unreadable(record)
            if reason is None:
                raise error
            return {UNREADABLE: [f"{record['file_name']} ({reason})"]}


class DrawnImages(MappedImages):
    """Mapped records by the draw, which seeds their augmentation."""

    def __init__(
        self,
        records: Dataset,
        mapper: Callable[[Record], Record],
        seed: int,
        skip_unreadable: bool,
    ) -> None:
        super().__init__(records, mapper)
        self._seed = seed
        self._skip_unreadable = skip_unreadable

    def __getitem__(self, draw: Draw) -> Record:  # type: ignore[override]
        problems: list[str] = []
        with _seeded(self._seed, draw.number):
            for index in self._candidates(draw):
                sample = super().__getitem__(index)
                problems += sample.get(UNREADABLE, [])
                if "image" in sample:
                    break
        return {**sample, UNREADABLE: problems} if problems else sample

    def _candidates(self, draw: Draw) -> Iterator[int]:
        """The drawn image, and those that may take its place."""
        yield draw.image
        if self._skip_unreadable:
            rng = np.random.default_rng((self._seed, draw.number))
            yield from rng.integers(len(self), size=_MOST_SUBSTITUTES).tolist()


@contextlib.contextmanager
def _seeded(*seeds: int) -> Iterator[None]:
    """Let all random numbers inside follow from the seeds, and leave those outside as they were."""
    for_random, for_numpy, for_torch = np.random.SeedSequence(seeds).generate_state(3).tolist()
    random_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        random.seed(for_random)
        np.random.seed(for_numpy)
        torch.default_generator.manual_seed(for_torch)
        try:
            yield
        finally:
            random.setstate(random_state)
            np.random.set_state(numpy_state)


def _why_unreadable(record: Record) -> str | None:
    """Reason why a record's image can't be read; None if it can."""
    try:
        height, width = read_image(record["file_name"]).shape[:2]
    except READ_ERRORS as error:
        return reason_of(error)
    if (width, height) == (record["width"], record["height"]):
        return None
    return (
        f"it has {width} x {height} pixels, but the json says "
        f"{record['width']} x {record['height']}"
    )
