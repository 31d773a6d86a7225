"""Deterministic train and test data loaders.

The seed and a sample's position in the endless training stream alone determine its image and
augmentations. A resumed run, with any number of workers or GPUs, continues with the samples of an
uninterrupted run on one device.
"""

import itertools
import logging
import signal
from collections.abc import Callable, Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, samplers
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm
from torch.utils.data import DataLoader, Sampler

from .augmentation_chain import AugmentationChain
from .mapped_dataset import MISTAKE, UNREADABLE, MappedDataset, SampleIndex, SeededDataset
from .mapper import CLQMapper
from .records import Record, load_records
from .transforms import build_train_augmentations

logger = logging.getLogger(__name__)

_WORKER_GRACE_SECONDS = 60


class TrainLoader:
    """Endless loader of this process's training batches; iterate once.

    Each process takes every ``world_size``-th sample of a global batch.

    Attributes:
        seed: of sample order and augmentations.
        start: index of the first batch.
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
            group_by_shape: never mix wide images with others in a batch.
            num_workers: processes that read images.
            skip_unreadable: substitute another image for an unreadable one.
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
    def from_config(cls, cfg: CfgNode) -> "TrainLoader":
        """Build the loader of ``DATASETS.TRAIN``; a negative ``SEED`` means a random shared one.

        Raises:
            ValueError: a user's function of ``INPUT.AUGMENTATIONS`` has not been imported.
        """
        records = load_records(
            cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        chain = AugmentationChain.from_config(cfg)
        loader = cls(
            records,
            CLQMapper(
                cfg, is_train=True, augmentations=build_train_augmentations(cfg), chain=chain
            ),
            sampler=_choose_sampler(cfg, records),
            seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            group_by_shape=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        if chain is not None:
            chain.records = loader._records  # the one copy in memory, which workers share
        return loader

    def __iter__(self) -> Iterator[list[Record]]:
        """
        Raises:
            ValueError: naming an unreadable image, or a user's function that failed.
        """
        dataset = SeededDataset(self._records, self._mapper, self.seed, self._skip_unreadable)
        batches = itertools.islice(self._batches(), self.start, None)
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # instead of the global one
        )
        for batch in loader:
            yield [self._report_problems(sample) for sample in batch]

    def _batches(self) -> Iterator[list[SampleIndex]]:
        """Yield this process's share of every batch, from the first."""
        groups: tuple[list[SampleIndex], list[SampleIndex]] = ([], [])
        indices = self._sampler(self.seed)._infinite_indices()  # type: ignore[attr-defined]
        for sample in itertools.starmap(SampleIndex, enumerate(indices)):
            group = groups[self._group_by_shape and self._is_wide[sample.image]]
            group.append(sample)
            if len(group) == self._batch_size:
                yield group[self._rank :: self._world_size]
                group.clear()

    def _report_problems(self, sample: Record) -> Record:
        """Raise or log what the sample says of mistakes, and return it without that."""
        if MISTAKE in sample:
            raise ValueError(sample[MISTAKE])
        problems = sample.pop(UNREADABLE, [])
        if "image" not in sample:
            _raise_unreadable(problems)
        for problem in problems:
            if problem not in self._skipped:
                self._skipped.add(problem)
                logger.warning(
                    "Another image takes the place of %s; %d so far.", problem, len(self._skipped)
                )
        return sample


class TestLoader:
    """Loader of this process's share of a data set, one image a batch.

    With ``skip_unreadable``, unreadable images are left out, with one warning for all.
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
        dataset = MappedDataset(DatasetFromList(list(records), copy=False), mapper)
        self._skip_unreadable = skip_unreadable
        self._loader = DataLoader(
            dataset,
            batch_size=1,
            sampler=samplers.InferenceSampler(len(dataset)),
            num_workers=num_workers,
            collate_fn=trivial_batch_collator,
            worker_init_fn=_ignore_signals,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str, *, resize: bool = True) -> "TestLoader":
        """Build the loader of a registered data set; without ``resize``, of images as they are."""
        mapper = CLQMapper(cfg, is_train=False, **({} if resize else {"augmentations": ()}))
        return cls(
            load_records(dataset_name),
            mapper,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Record]]:
        """
        Raises:
            ValueError: naming an unreadable image.
        """
        skipped: list[str] = []
        for (sample,) in self._loader:
            problems = sample.pop(UNREADABLE, [])
            skipped += problems
            if not problems:
                yield [sample]
            elif not self._skip_unreadable:
                _raise_unreadable(problems)
        if skipped:
            logger.warning("Left out %d images; the first is %s.", len(skipped), skipped[0])


def _raise_unreadable(problems: Sequence[str]) -> None:
    raise ValueError(
        f"an image is missing or damaged: {problems[0]}; mend it, take it out of the data, or set "
        "DATALOADER.SKIP_UNREADABLE True."
    )


def _choose_sampler(cfg: CfgNode, records: Sequence[Record]) -> Callable[[int], Sampler]:
    """Return the constructor of ``DATALOADER.SAMPLER_TRAIN``, which takes the seed."""
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "RepeatFactorTrainingSampler":
        repeat_factors = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
        # v0.6 has neither the key nor the argument, and always takes the root.
        root = {"sqrt": cfg.DATALOADER.REPEAT_SQRT} if "REPEAT_SQRT" in cfg.DATALOADER else {}
        factors = repeat_factors(records, cfg.DATALOADER.REPEAT_THRESHOLD, **root)
        return lambda seed: samplers.RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.get("RANDOM_SUBSET_RATIO", 1.0)  # v0.6 has no such key
        return lambda seed: samplers.RandomSubsetTrainingSampler(
            len(records), ratio, seed_shuffle=seed, seed_subset=seed
        )
    return lambda seed: samplers.TrainingSampler(len(records), seed=seed)


def _ignore_signals(worker_id: int) -> None:
    """Ignore SIGINT and SIGTERM in workers while the main process finishes its step.

    The main process ends its workers; one that outlives it exits after a while.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_WORKER_GRACE_SECONDS))
