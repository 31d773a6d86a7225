"""The network and its losses; importing this package registers them with Detectron2."""

from .backbones import build_clq_resnet_fpn_backbone, build_torchvision_fpn_backbone
from .box_coding import DeltaBoxTransform, DistributionBoxTransform
from .clq import CLQ
from .fast_inference import fast_inference_model
from .head import CLQHead
from .joint_score import joint_scores
from .matcher import ATSSMatcher
from .timm_backbone import build_timm_fpn_backbone

__all__ = [
    "ATSSMatcher",
    "CLQ",
    "CLQHead",
    "DeltaBoxTransform",
    "DistributionBoxTransform",
    "build_clq_resnet_fpn_backbone",
    "build_timm_fpn_backbone",
    "build_torchvision_fpn_backbone",
    "fast_inference_model",
    "joint_scores",
]
