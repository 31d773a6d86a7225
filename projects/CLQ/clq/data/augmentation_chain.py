"""The augmentations of ``INPUT.AUGMENTATIONS`` in turn, with images that they draw beside."""

import functools
from collections.abc import Callable, Sequence

import torch
from detectron2.config import CfgNode

from ..modeling.crowd import CROWD_CLASS
from ..runtime.images import READ_ERRORS
from .augmentations import AUGMENTATIONS, Context, LabelledImage
from .records import Record
from .user_augmentation import UserAugmentation, is_user_function

Read = Callable[[Record], LabelledImage]
Augmentation = Callable[[LabelledImage, Context], LabelledImage]
_MAX_DRAWS = 20


class UnreadablePartner(Exception):
    """An image that an augmentation drew can't be read.

    Attributes:
        record: of that image.
    """

    def __init__(self, record: Record) -> None:
        super().__init__(record["file_name"])
        self.record = record


class AugmentationChain:
    """Augmentations in turn.

    An image that one of them draws has gone through those before it.

    Attributes:
        records: of the training images, to draw from, each with the same probability.
    """

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        *,
        fill: tuple[int, ...],
        skip_unreadable: bool = False,
        records: Sequence[Record] = (),
    ) -> None:
        """
        Args:
            augmentations: in order.
            fill: RGB color of padding.
            skip_unreadable: draw another image in place of an unreadable one; that one is named
                when its own turn comes.
            records: see above.
        """
        self._augmentations = augmentations
        self.records = records
        self._fill = fill
        self._max_draws = _MAX_DRAWS if skip_unreadable else 1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "AugmentationChain | None":
        """Build the chain of ``INPUT.AUGMENTATIONS``, without records; None if that is empty.

        Padding has the color ``MODEL.PIXEL_MEAN``, as that of a batch.

        Args:
            cfg: of a training run.

        Raises:
            KeyError: a name is not registered.
            ValueError: a user's function has not been imported.
        """
        mean = [round(value) for value in cfg.MODEL.PIXEL_MEAN]
        user = functools.partial(
            UserAugmentation,
            lowest_class=CROWD_CLASS if cfg.MODEL.CLQ.IGNORE_CROWD else 0,
            num_classes=cfg.MODEL.CLQ.NUM_CLASSES,
        )
        augmentations = [
            user(name) if is_user_function(name) else AUGMENTATIONS.get(name)
            for name in cfg.INPUT.AUGMENTATIONS
        ]
        if not augmentations:
            return None
        fill = tuple(mean[::-1] if cfg.INPUT.FORMAT == "BGR" else mean)
        return cls(augmentations, fill=fill, skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE)

    def __call__(self, record: Record, read: Read) -> LabelledImage:
        """Read an image and augment it.

        Args:
            record: of the image.
            read: of an image that is drawn, too.

        Raises:
            AugmentationError: a user's function failed, or returned what can't be used.
            READ_ERRORS: the image can't be read.
            UnreadablePartner: an image that was drawn can't be read.
        """
        return self._run(record, read, len(self._augmentations))

    def _run(self, record: Record, read: Read, length: int) -> LabelledImage:
        """Apply the first ``length`` augmentations."""
        sample = read(record)
        for i, augmentation in enumerate(self._augmentations[:length]):
            draw = functools.partial(self._draw, read, i)
            sample = augmentation(sample, Context(draw, self._fill, str(record["file_name"])))
        return sample

    def _draw(self, read: Read, length: int) -> LabelledImage:
        for _ in range(self._max_draws):
            record = self.records[int(torch.randint(len(self.records), ()))]
            try:
                return self._run(record, read, length)
            except READ_ERRORS as error:
                unreadable, reason = record, error
        raise UnreadablePartner(unreadable) from reason
