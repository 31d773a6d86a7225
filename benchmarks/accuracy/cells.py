"""Cells of the study: one data set, one member and one seed each."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.common import ROOT
from clq.config import flatten, get_clq_cfg

SEEDS = (0, 1, 2, 3, 4)
ABLATION_SEEDS = SEEDS[:3]
TREES, BLOOD_CELLS = "trees", "blood_cells"
BASELINE = "atss"

# The config, under configs/, whose MODEL.CLQ section and INPUT.AUGMENTATIONS say what a member is.
FAMILY = {
    "atss": "COCO-Detection/atss_R_50_FPN_1x.yaml",
    "atss_clq": "COCO-Detection/atss_clq_R_50_FPN_1x.yaml",
    "atss_clq_align": "COCO-Detection/atss_clq_align_R_50_FPN_1x.yaml",
    # The best way of ATSS + CLQ on the hold-out.
    "atss_clq_alpha_0.5": "COCO-Detection/atss_clq_alpha_0.5_R_50_FPN_1x.yaml",
    "gfl": "COCO-Detection/gfl_R_50_FPN_1x.yaml",
    "clq": "COCO-Detection/clq_R_50_FPN_1x.yaml",
}
# Of CLQ, with one key changed each.
ABLATIONS = {
    "clq_alignment_off": "ablations/clq_alignment_off.yaml",
    "clq_offsets_detached": "ablations/clq_offsets_detached.yaml",
    "clq_quality_off": "ablations/clq_quality_off.yaml",
    "clq_alpha_0.0": "ablations/clq_alpha_0.0.yaml",
    "clq_alpha_0.5": "ablations/clq_alpha_0.5.yaml",
    "clq_alpha_1.0": "ablations/clq_alpha_1.0.yaml",
    "clq_hard_target": "ablations/clq_hard_target.yaml",
}
# CLQ, with one of the augmentations that are off by default.
AUGMENTED = {
    "clq_scale_jitter": "augmentations/clq_scale_jitter.yaml",
    "clq_photometric": "augmentations/clq_photometric.yaml",
    "clq_mosaic": "augmentations/clq_mosaic.yaml",
}
MEMBERS = {**FAMILY, **ABLATIONS, **AUGMENTED}


class Cell(NamedTuple):
    """One training run and its evaluation.

    Attributes:
        data: name of a data set.
        member: key of ``MEMBERS``.
        seed: of the initial weights, of the order of the images and of their augmentation.
    """

    data: str
    member: str
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.data}_{self.member}_seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.data} {self.member} seed {self.seed}"


def study_cells(
    data: Iterable[str],
    members: Iterable[str] = MEMBERS,
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """The cells of the study in the order in which they run.

    The family comes first, data set by data set and seed by seed, so that a study that is stopped
    early compares like with like. The ablations and augmentations come last, not on the trees, and
    with fewer seeds.

    Args:
        data: names of data sets.
        members: keys of ``MEMBERS``.
        seeds: by default those of the study.
    """
    data, members = list(data), list(members)
    return [
        Cell(name, member, seed)
        for group, default in (
            (FAMILY, SEEDS),
            (ABLATIONS, ABLATION_SEEDS),
            (AUGMENTED, ABLATION_SEEDS),
        )
        for name in data
        for seed in (default if seeds is None else seeds)
        for member in members
        if member in group and (group is FAMILY or name != TREES)
    ]


def member_keys(member: str) -> list[Any]:
    """Keys and values, in turn, by which a member's config differs from CLQ."""
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / MEMBERS[member]))
    defaults = dict(flatten(get_clq_cfg()))
    return [
        part
        for key, value in flatten(cfg)
        if key.startswith("MODEL.CLQ.") or key == "INPUT.AUGMENTATIONS"
        if value != defaults[key]
        for part in (key, value)
    ]
