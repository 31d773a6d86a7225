"""Mapped dataset with per-sample seeds and handling of unreadable images."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ..runtime.images import READ_ERRORS, read_image, reason_of
from .augmentation_chain import UnreadablePartner
from .records import Record
from .user_augmentation import AugmentationError

UNREADABLE = "unreadable"  # key of a sample: unreadable images, each with the reason
MISTAKE = "mistake"  # key of a sample: why an augmentation could not be applied
_MAX_SUBSTITUTES = 20


class SampleIndex(NamedTuple):
    """Index of a training sample."""

    position: int  # in the training stream, from 0
    image: int  # index of the record


class MappedDataset(Dataset):
    """Dataset of mapped records; a user's mistake is reported in its sample, not raised.

    Such are an unreadable image and an augmentation that fails. A worker process could pass on an
    error only as the text of its traceback.
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
        except AugmentationError as error:
            return {MISTAKE: str(error)}
        except (*READ_ERRORS, UnreadablePartner) as error:
            record = error.record if isinstance(error, UnreadablePartner) else record
            reason = read_error(record, getattr(self._mapper, "bit_depth", 8))
            if reason is None:
                raise error
            return {UNREADABLE: [f"{record['file_name']} ({reason})"]}


class SeededDataset(MappedDataset):
    """Dataset of mapped records, whose augmentations are seeded by the sample index."""

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

    def __getitem__(self, sample_index: SampleIndex) -> Record:  # type: ignore[override]
        problems: list[str] = []
        with _seeded(self._seed, sample_index.position):
            for index in self._candidates(sample_index):
                sample = super().__getitem__(index)
                problems += sample.get(UNREADABLE, [])
                if UNREADABLE not in sample:
                    break
        return {**sample, UNREADABLE: problems} if problems else sample

    def _candidates(self, sample_index: SampleIndex) -> Iterator[int]:
        """Yield the record to map, then its substitutes."""
        yield sample_index.image
        if self._skip_unreadable:
            rng = np.random.default_rng((self._seed, sample_index.position))
            yield from rng.integers(len(self), size=_MAX_SUBSTITUTES).tolist()


@contextlib.contextmanager
def _seeded(*seeds: int) -> Iterator[None]:
    """Seed all RNGs within the context and restore them afterwards."""
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


def read_error(record: Mapping[str, Any], bit_depth: int) -> str | None:
    """Return why an image is unreadable, or None.

    Args:
        record: its ``file_name``, and ``width`` and ``height`` by its annotations.
        bit_depth: of :func:`clq.runtime.images.read_image`.
    """
    try:
        height, width = read_image(record["file_name"], bit_depth=bit_depth).shape[:2]
    except READ_ERRORS as error:
        return reason_of(error)
    if (width, height) == (record["width"], record["height"]):
        return None
    return (
        f"it has {width} x {height} pixels, but the annotations say "
        f"{record['width']} x {record['height']}"
    )
