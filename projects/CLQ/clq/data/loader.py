"""Batches for training and evaluation, in an order that nothing but the seed decides.

Every draw of the endless training stream has a number. Which image it is, and how that image is
augmented, follows from that number and the seed alone. So a resumed training, another number of
worker processes or of GPUs goes on with the very draws that an unbroken run on one device takes.
"""

import itertools
import logging
import signal
from collections.abc import Callable, Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts, samplers
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm
from torch.utils.data import DataLoader, Sampler

from .mapped_dataset import UNREADABLE, Draw, DrawnImages, MappedImages, Record
from .mapper import CLQMapper

logger = logging.getLogger(__name__)

_GRACE = 60  # seconds


class TrainBatches:
    """Endless training batches of this process; iterate once.

    Of each batch of the whole run a process takes every ``world_size``-th image.

    Attributes:
        seed: of the order and of the augmentations.
        start: number of the first batch.
    """

    def __init__(
        self,
        records: Sequence[Record],
        mapper: Callable[[Record], Record],
        *,
        sampler: Callable[[int], Sampler],
        seed: int,
        batch_size: int,
        group_by_shape: bool = True,
        num_workers: int = 0,
        skip_unreadable: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """
        Args:
            records: of the training images.
            mapper: reads and augments one.
            sampler: makes one of Detectron2's training samplers from a seed.
            seed: see above.
            batch_size: of all processes together.
            group_by_shape: make each batch of wide images only, or of others only.
            num_workers: processes that read images.
            skip_unreadable: let another image take the place of one that can't be read.
            rank: of this process.
            world_size: number of processes.
        """
        self.seed = seed
        self.start = 0
        self._sampler = sampler
        self._group_by_shape = group_by_shape
        self._is_wide = [record["width"] > record["height"] for record in records]
        self._records = DatasetFromList(list(records), copy=False)
        self._mapper = mapper
        self._num_workers = num_workers
        self._skip_unreadable = skip_unreadable
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._skipped: set[str] = set()

    @classmethod
    def from_config(cls, cfg: CfgNode, mapper: Callable[[Record], Record]) -> "TrainBatches":
        """The batches of ``DATASETS.TRAIN``; a negative ``SEED`` draws one for all processes."""
        records = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        return cls(
            records,
            mapper,
            sampler=_choose_sampler(cfg, records),
            seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            group_by_shape=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )

    def __iter__(self) -> Iterator[list[Record]]:
        """
        Raises:
            ValueError: an image can't be read; it is named.
        """
        images = DrawnImages(self._records, self._mapper, self.seed, self._skip_unreadable)
        batches = itertools.islice(self._draws(), self.start, None)
        loader = DataLoader(
            images,
            batch_sampler=batches,
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            worker_init_fn=_leave_signals_to_the_main_process,
            generator=torch.Generator(),  # leaves the global one alone
        )
        for batch in loader:
            yield [self._checked(sample) for sample in batch]

    def _draws(self) -> Iterator[list[Draw]]:
        """This process's share of every batch, from the first."""
        groups: tuple[list[Draw], list[Draw]] = ([], [])
        indices = self._sampler(self.seed)._infinite_indices()  # type: ignore[attr-defined]
        for draw in itertools.starmap(Draw, enumerate(indices)):
            group = groups[self._group_by_shape and self._is_wide[draw.image]]
            group.append(draw)
            if len(group) == self._batch_size:
                yield group[self._rank :: self._world_size]
                group.clear()

    def _checked(self, sample: Record) -> Record:
        """A sample without its notes on unreadable images, which are counted."""
        problems = sample.pop(UNREADABLE, [])
        if "image" not in sample:
            _refuse(problems)
        for problem in problems:
            if problem not in self._skipped:
                self._skipped.add(problem)
                logger.warning(
                    "Another image takes the place of %s; %d so far.", problem, len(self._skipped)
                )
        return sample


class TestBatches:
    """The images of a data set one by one, each process its share.

    With ``skip_unreadable`` images that can't be read are left out, with one warning for all.
    """

    __test__ = False  # no test for pytest to collect

    def __init__(
        self,
        records: Sequence[Record],
        mapper: Callable[[Record], Record],
        *,
        num_workers: int = 0,
        skip_unreadable: bool = False,
    ) -> None:
        """
        Args:
            records: of the images.
            mapper: reads and resizes one.
            num_workers: processes that read images.
            skip_unreadable: see above.
        """
        images = MappedImages(DatasetFromList(list(records), copy=False), mapper)
        self._skip_unreadable = skip_unreadable
        self._loader = DataLoader(
            images,
            batch_size=1,
            sampler=samplers.InferenceSampler(len(images)),
            num_workers=num_workers,
            collate_fn=trivial_batch_collator,
            worker_init_fn=_leave_signals_to_the_main_process,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> "TestBatches":
        return cls(
            get_detection_dataset_dicts(dataset_name, filter_empty=False),
            CLQMapper(cfg, is_train=False),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Record]]:
        """
        Raises:
            ValueError: an image can't be read; it is named.
        """
        skipped: list[str] = []
        for (sample,) in self._loader:
            problems = sample.pop(UNREADABLE, [])
            skipped += problems
            if not problems:
                yield [sample]
            elif not self._skip_unreadable:
                _refuse(problems)
        if skipped:
            logger.warning("Left out %d images; the first is %s.", len(skipped), skipped[0])


def _refuse(problems: Sequence[str]) -> None:
    raise ValueError(
        f"an image is missing or damaged: {problems[0]}; mend it, take it out of the json, or set "
        "DATALOADER.SKIP_UNREADABLE True."
    )


def _choose_sampler(cfg: CfgNode, records: Sequence[Record]) -> Callable[[int], Sampler]:
    """The sampler of ``DATALOADER.SAMPLER_TRAIN``, waiting for its seed."""
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "RepeatFactorTrainingSampler":
        of_frequency = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
        factors = of_frequency(records, cfg.DATALOADER.REPEAT_THRESHOLD)
        return lambda seed: samplers.RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.get("RANDOM_SUBSET_RATIO", 1.0)  # v0.6 has no such key
        return lambda seed: samplers.RandomSubsetTrainingSampler(
            len(records), ratio, seed_shuffle=seed, seed_subset=seed
        )
    return lambda seed: samplers.TrainingSampler(len(records), seed=seed)


def _leave_signals_to_the_main_process(worker_id: int) -> None:
    """Serve on after Ctrl-C or a cluster's SIGTERM: the main process finishes its step first.

    It ends its workers itself; one that it does not end dies after a while.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE))
