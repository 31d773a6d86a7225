"""The detector family: interchangeable parts by config key.

| member     | BOX_CODING   | QUALITY      | ALIGNMENT | CLASS_LOSS    |
|------------|--------------|--------------|-----------|---------------|
| ATSS       | deltas       | centerness   | False     | focal         |
| GFL        | distribution | none         | False     | quality_focal |
| ATSS + CLQ | deltas       | localization | either    | quality_focal |
| CLQ        | distribution | localization | True      | quality_focal |

A new member is a new class and its line in one of these tables.
"""

from collections.abc import Callable

from detectron2.config import CfgNode

from .box_coding import BoxCoding, DeltaBoxTransform, DistributionBoxTransform
from .losses import FocalLoss, QualityFocalLoss
from .quality import Centerness, LocalizationQuality, NoQuality

# Of MODEL.CLQ.BOX_CODING; built from the keys under MODEL.CLQ.
BOX_CODINGS: dict[str, Callable[[CfgNode], BoxCoding]] = {
    "distribution": lambda options: DistributionBoxTransform(options.REG_MAX),
    "deltas": lambda options: DeltaBoxTransform(),
}

# Of MODEL.CLQ.QUALITY; built from the channels of the towers and MODEL.CLQ.ALPHA.
QUALITY_BRANCHES: dict[str, Callable[[int, float], NoQuality]] = {
    "localization": LocalizationQuality,
    "centerness": Centerness,
    "none": NoQuality,
}

# Of MODEL.CLQ.CLASS_LOSS; built from the keys under MODEL.CLQ.
CLASS_LOSSES: dict[str, Callable[[CfgNode], QualityFocalLoss]] = {
    "quality_focal": lambda options: QualityFocalLoss(
        options.QFL_BETA, hard_target=options.CLASS_TARGET == "hard"
    ),
    "focal": lambda options: FocalLoss(options.FOCAL_GAMMA, alpha=options.FOCAL_ALPHA),
}
