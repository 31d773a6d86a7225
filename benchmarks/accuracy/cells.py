"""What is compared: each cell of the study is one data set, one member and one seed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clq.config import get_clq_cfg
from clq.data import CocoFiles

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Path(__file__).parent
SEEDS = (0, 1, 2)
TREES, BLOOD_CELLS = "trees", "blood_cells"
BASELINE = "atss"

# The config, under configs/, whose MODEL.CLQ section says what a member is.
FAMILY = {
    "atss": "COCO-Detection/atss_R_50_FPN_1x.yaml",
    "atss_clq": "COCO-Detection/atss_clq_R_50_FPN_1x.yaml",
    "gfl": "COCO-Detection/gfl_R_50_FPN_1x.yaml",
    "clq": "COCO-Detection/clq_R_50_FPN_1x.yaml",
}
ABLATIONS = {
    "clq_alignment_off": "ablations/clq_alignment_off.yaml",
    "clq_offsets_detached": "ablations/clq_offsets_detached.yaml",
    "clq_alpha_0.0": "ablations/clq_alpha_0.0.yaml",
    "clq_alpha_0.5": "ablations/clq_alpha_0.5.yaml",
    "clq_alpha_1.0": "ablations/clq_alpha_1.0.yaml",
    "atss_clq_align": "COCO-Detection/atss_clq_align_R_50_FPN_1x.yaml",
}
MEMBERS = {**FAMILY, **ABLATIONS}


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


class DataSet(NamedTuple):
    """A data set of the study.

    Attributes:
        name: in the results.
        settings: the config that all members share on it: backbone, schedule, augmentation.
        train: files to train on; None where the settings name a registered data set.
        val: files to evaluate on, likewise.
    """

    name: str
    settings: Path
    train: CocoFiles | None = None
    val: CocoFiles | None = None

    def arguments(self) -> list[str]:
        """The data set as arguments of ``clq_argument_parser()``."""
        pairs = {"--train": self.train, "--val": self.val}
        files = [part for flag, pair in pairs.items() if pair for part in (flag, *map(str, pair))]
        return ["--config-file", str(self.settings), *files]


def study_cells(
    data: Iterable[str], members: Iterable[str] = MEMBERS, seeds: Sequence[int] = SEEDS
) -> list[Cell]:
    """The cells of the study in the order in which they run.

    The first seed of the whole family comes first, on every data set, so that a study that is
    stopped early compares like with like. The ablations come last, and not on the trees.
    """
    data, members = list(data), list(members)
    family = [
        Cell(name, member, seed)
        for seed in seeds
        for name in data
        for member in members
        if member in FAMILY
    ]
    ablations = [
        Cell(name, member, seed)
        for seed in seeds
        for name in data
        for member in members
        if member in ABLATIONS and name != TREES
    ]
    return family + ablations


def member_keys(member: str) -> list[Any]:
    """Keys and values, in turn, by which a member's config differs from CLQ in ``MODEL.CLQ``."""
    cfg, defaults = get_clq_cfg(), get_clq_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / MEMBERS[member]))
    options = {f"MODEL.CLQ.{key}": value for key, value in cfg.MODEL.CLQ.items()}
    return [
        part
        for key, value in options.items()
        if value != defaults.MODEL.CLQ[key.rpartition(".")[-1]]
        for part in (key, value)
    ]
