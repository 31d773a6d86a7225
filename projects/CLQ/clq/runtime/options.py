"""Choices of a prediction that replace those of the checkpoint."""

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .metadata import Settings
from .tiles import check_overlap, check_tile


@dataclass(frozen=True)
class ViewOptions:
    """Choice of what the detector looks at; None leaves a choice to the checkpoint's configuration.

    Attributes:
        augment: test-time augmentation, ``TEST.AUG.ENABLED``.
        tile: side of a tile in pixels, ``TEST.TILE``; 0 for none.
        overlap: of tiles, as a share of their side, ``TEST.TILE_OVERLAP``.
        whole: detect in the whole image too, ``TEST.TILE_WHOLE``.
    """

    augment: bool | None = None
    tile: int | None = None
    overlap: float | None = None
    whole: bool | None = None

    @classmethod
    def from_arguments(cls, options: argparse.Namespace) -> "ViewOptions":
        """Take the flags of :func:`add_view_options`."""
        return cls(options.augment, options.tile, options.overlap, options.whole)

    def apply(self, settings: Settings) -> Settings:
        """Return settings with these choices, or the same where there are none.

        Raises:
            ValueError: a value that CLQ can't use, or a choice for tiles that there are not.
        """
        for name, flag in (("augment", self.augment), ("whole", self.whole)):
            if flag is not None and not isinstance(flag, bool):
                raise ValueError(f"{name} is {flag!r}; it must be True or False.")
        chosen = {
            "augment": self.augment,
            "tile": _plain(self.tile),
            "tile_overlap": _plain(self.overlap),
            "tile_whole": self.whole,
        }
        chosen = {name: value for name, value in chosen.items() if value is not None}
        if not chosen:
            return settings
        changed = replace(settings, **chosen)
        check_tile(changed.tile)
        for name, value in (("overlap", self.overlap), ("whole", self.whole)):
            if value not in (None, False) and not changed.tile:
                raise ValueError(
                    f"{name} is {value}, but there are no tiles; give their side in pixels by "
                    "--tile, or tile=."
                )
        check_overlap(changed.tile_overlap)
        return changed


def _plain(value: Any) -> Any:
    """Convert a number of NumPy to a plain one."""
    return value.item() if isinstance(value, np.generic) else value


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :class:`ViewOptions`."""
    parser.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="look at each image in several sizes and mirrored, as TEST.AUG of the checkpoint says",
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="cut large images into overlapping tiles of N x N pixels; 0 does not",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="F",
        help="share of its side that a tile has in common with the next (default: 0.2)",
    )
    parser.add_argument(
        "--whole",
        action=argparse.BooleanOptionalAction,
        help="with --tile: look at the whole image too, for objects larger than a tile",
    )
