"""Choices of a prediction that replace those of the checkpoint."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..config import check_config


@dataclass(frozen=True)
class ViewOptions:
    """What the detector looks at; None leaves a choice to the checkpoint's configuration.

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

    def apply(self, cfg: CfgNode) -> CfgNode:
        """Return a configuration with these choices, or the same where there are none.

        Raises:
            ValueError: a value that CLQ can't use, or a choice for tiles that there are not.
        """
        if self == ViewOptions():
            return cfg
        cfg = cfg.clone()
        cfg.defrost()
        for name, flag in (("augment", self.augment), ("whole", self.whole)):
            if flag is not None and not isinstance(flag, bool):
                raise ValueError(f"{name} is {flag!r}; it must be True or False.")
        if self.augment is not None:
            cfg.TEST.AUG.ENABLED = self.augment
        if self.tile is not None:
            cfg.TEST.TILE = _plain(self.tile)
        for name, value in (("overlap", self.overlap), ("whole", self.whole)):
            if value is None:
                continue
            if value is not False and not cfg.TEST.TILE:
                raise ValueError(
                    f"{name} is {value}, but there are no tiles; give their side in pixels by "
                    "--tile, or tile=."
                )
            cfg.TEST[f"TILE_{name.upper()}"] = _plain(value)
        check_config(cfg)
        return cfg


def _plain(value: Any) -> Any:
    """Convert a number of NumPy, which a configuration does not take, to a plain one."""
    return value.item() if isinstance(value, np.generic) else value
