"""The CLQ detector: anchor labels, losses, detections.

Letters: N images, L levels, R anchors over all levels of an image, M ground-truth boxes, P matched
(positive) anchors of the batch, K classes, D channels of a coded box.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import batched_nms
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from .anchors import CachedAnchorGenerator
from .candidates import CANDIDATE_RULES
from .criterion import CLQCriterion
from .crowd import is_in_crowd, separate_crowds
from .detections import Detections, chosen_instances, postprocess
from .family import CLASS_LOSSES
from .head import CLQHead
from .loss_normalizer import Normalizer, normalize
from .matcher import ATSSMatcher
from .nearest_anchors import AnchorGrid
from .targets import GroundTruth, Targets

# Class logits, coded boxes and, with a quality branch, quality logits: one tensor per level each.
Predictions = tuple[list[Tensor], list[Tensor], list[Tensor] | None]


@META_ARCH_REGISTRY.register()
class CLQ(DenseDetector):
    """One-stage detector whose joint score of class and localization quality ranks its boxes.

    ATSS, GFL and ATSS + CLQ are the same detector with other parts, see :mod:`family`.

    Source: arXiv 2309.13269.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str] | None = None,
        anchor_generator: DefaultAnchorGenerator,
        anchor_matcher: ATSSMatcher,
        criterion: CLQCriterion,
        num_classes: int,
        ignore_crowd: bool = False,
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_candidate_rule: str = "pairs",
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        channels_last: bool = False,
    ) -> None:
        """
        Args:
            backbone: feature pyramid.
            head: gives logits as :class:`CLQHead` does.
            head_in_features: levels that the head reads, from fine to coarse; default all.
            anchor_generator: see :class:`CachedAnchorGenerator`.
            anchor_matcher: matches anchors to ground truth.
            criterion: the losses; its box coding and quality branch serve inference as well.
            num_classes: K.
            ignore_crowd: ground truth has boxes of ``CROWD_CLASS``, see :mod:`crowd`, to ignore.
            test_score_thresh: joint score above which a candidate is kept.
            test_topk_candidates: candidates kept on each level before NMS.
            test_candidate_rule: a name in ``CANDIDATE_RULES``.
            test_nms_thresh: IoU above which NMS suppresses a box of the same class.
            max_detections_per_image: detections kept after NMS.
            pixel_mean: per channel, in the channel order of the images.
            pixel_std: per channel.
            channels_last: keep convolution weights, and so feature maps, channels-last.
        """
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        assert test_candidate_rule in CANDIDATE_RULES, test_candidate_rule
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.criterion = criterion
        self.box2box_transform = criterion.box2box_transform
        self.num_classes = num_classes
        self.ignore_crowd = ignore_crowd
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_candidate_rule = test_candidate_rule
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        if channels_last:
            self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        head_in_features = sorted(shapes, key=lambda name: shapes[name].stride)
        strides = [shapes[name].stride for name in head_in_features]
        head = CLQHead(cfg, [shapes[name] for name in head_in_features])
        options = cfg.MODEL.CLQ
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": head_in_features,
            "anchor_generator": CachedAnchorGenerator(strides),
            "anchor_matcher": ATSSMatcher(options.ATSS_TOPK),
            "criterion": CLQCriterion(
                box2box_transform=head.box2box_transform,
                quality=head.quality,
                class_loss=CLASS_LOSSES[options.CLASS_LOSS](options),
                box_reg_weight=options.BOX_REG_LOSS_WEIGHT,
                dfl_weight=options.DFL_LOSS_WEIGHT,
                quality_weight=options.QUALITY_LOSS_WEIGHT,
                weigh_quality_by_score=options.WEIGH_QUALITY_BY_SCORE,
            ),
            "num_classes": options.NUM_CLASSES,
            "ignore_crowd": options.IGNORE_CROWD,
            "test_score_thresh": options.SCORE_THRESH_TEST,
            "test_topk_candidates": options.TOPK_CANDIDATES_TEST,
            "test_candidate_rule": options.CANDIDATE_RULE_TEST,
            "test_nms_thresh": options.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "channels_last": cfg.MODEL.CHANNELS_LAST and cfg.MODEL.DEVICE == "cpu",
        }

    def forward(
        self,
        batched_inputs: list[dict[str, Any]],
        targets: Targets | None = None,
        normalizer: Normalizer = normalize,
    ) -> Any:
        """As Detectron2's, but matches anchors before the network runs.

        Args:
            batched_inputs: images, and in training their objects, as in Detectron2.
            targets: of :meth:`prepare`, if it has been called.
            normalizer: of the losses.
        """
        if self.training and targets is None:
            batched_inputs, targets = self.prepare(batched_inputs)
        images, features, predictions = self._predict(batched_inputs)
        if targets is not None:
            return self.losses(self._transpose(predictions), targets, normalizer)
        detections = list(map(self.suppress, self._candidates(images, features, predictions)))
        return [
            {"instances": postprocess(found, sample.get("height", h), sample.get("width", w))}
            for found, sample, (h, w) in zip(detections, batched_inputs, images.image_sizes)
        ]

    def image_candidates(self, batched_inputs: list[dict[str, Any]]) -> list[Detections]:
        """Candidates for NMS of each image, as of :meth:`candidates`."""
        return list(self._candidates(*self._predict(batched_inputs)))

    def _predict(
        self, batched_inputs: list[dict[str, Any]]
    ) -> tuple[ImageList, list[Tensor], Predictions]:
        images = self.preprocess_image(batched_inputs)
        maps = self.backbone(images.tensor)
        features = [maps[name] for name in self.head_in_features]
        return images, features, self.head(features)

    @torch.no_grad()
    def prepare(self, batched_inputs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Targets]:
        """Move a training batch to the device and label its anchors, as arguments of ``forward``.

        Every host synchronization of a forward pass in training is here.
        """
        batch = [{**sample, "image": sample["image"].to(self.device)} for sample in batched_inputs]
        sizes = [tuple(sample["image"].shape[-2:]) for sample in batch]
        height, width = self._padded((max(h for h, _ in sizes), max(w for _, w in sizes)))
        strides = self.anchor_generator.strides
        maps = [self.pixel_mean.new_empty(0, -(-height // s), -(-width // s)) for s in strides]
        return batch, self._targets(maps, [sample["instances"] for sample in batch], sizes)

    def _targets(
        self,
        features: list[Tensor],
        gt_instances: list[Instances],
        image_sizes: Sequence[tuple[int, int]],
    ) -> Targets:
        """Label the anchors of feature maps (..., H, W), of which only the shapes are read."""
        anchors = self.anchor_generator(features)
        grid = AnchorGrid.of(self.anchor_generator.strides, features)
        labels, boxes = self.label_anchors(anchors, gt_instances, image_sizes, grid=grid)
        samples = self.criterion.samples(torch.stack(labels), self.num_classes)
        return Targets(anchors, labels, boxes, samples)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Predictions,
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        targets = self._targets(features, gt_instances, images.image_sizes)
        return self.losses(self._transpose(predictions), targets)

    @staticmethod
    def _transpose(predictions: Predictions) -> Predictions:
        """View maps (N, D, H, W) as rows (N, H*W, D) on every level."""
        logits, dists, quality = predictions

        def rows(maps: list[Tensor]) -> list[Tensor]:
            return [level.flatten(2).transpose(1, 2) for level in maps]

        return rows(logits), rows(dists), quality and rows(quality)

    @torch.no_grad()
    def label_anchors(
        self,
        anchors: list[Boxes],
        gt_instances: list[Instances],
        image_sizes: Sequence[tuple[int, int]],
        *,
        grid: AnchorGrid | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Match the anchors of every image to its ground truth.

        Args:
            anchors: the boxes of each level, R in all.
            gt_instances: of each image, with ``gt_boxes`` and ``gt_classes``.
            image_sizes: height and width of each image in pixels, before batching.
            grid: layout of the anchors, see the matcher.

        Returns:
            Labels of each image, (R,), with ``num_classes`` for background and -1 for batch padding
            and for background in crowds; and matched boxes of each image, (R, 4), in pixels, with
            zeros where nothing is matched.
        """
        ground_truth = GroundTruth.of(gt_instances, self.device)
        objects = crowds = Boxes(ground_truth.boxes)
        if self.ignore_crowd:
            objects, crowds = separate_crowds(objects, ground_truth.classes)
        matched_idxs, labels = self.anchor_matcher.match_batch(
            anchors,
            [Boxes(boxes) for boxes in objects.tensor.split(ground_truth.counts)],
            grid=grid,
            valid_hw=[self._padded(size) for size in image_sizes],
        )
        if self.ignore_crowd:
            cells, by_image = Boxes.cat(anchors), crowds.tensor.split(ground_truth.counts)
            in_crowd = [is_in_crowd(cells, Boxes(b), hw) for b, hw in zip(by_image, image_sizes)]
            labels = labels.masked_fill((labels == 0) & torch.stack(in_crowd), -1)
        classes, boxes = ground_truth.at(matched_idxs, background=self.num_classes)
        return list(classes.masked_fill_(labels == -1, -1)), list(boxes)

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width padded to the backbone's size divisibility."""
        divisor = max(self.backbone.size_divisibility, 1)
        height, width = (-(-side // divisor) * divisor for side in size)
        return height, width

    def losses(
        self, rows: Predictions, targets: Targets, normalizer: Normalizer = normalize
    ) -> dict[str, Tensor]:
        """Losses of :class:`CLQCriterion`, from rows (N, H*W, D) of predictions on each level."""
        pred_logits, pred_dists, pred_quality = rows
        return self.criterion(
            Boxes.cat(targets.anchors).tensor,
            torch.cat(pred_logits, dim=1),
            torch.cat(pred_dists, dim=1),
            None if pred_quality is None else torch.cat(pred_quality, dim=1),
            torch.stack(targets.gt_labels),
            torch.stack(targets.gt_boxes),
            targets.samples,
            normalizer,
        )

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Predictions
    ) -> list[Instances]:
        found = self._candidates(images, features, predictions)
        return [self.suppress(candidates).instances for candidates in found]

    def _candidates(
        self, images: ImageList, features: list[Tensor], predictions: Predictions
    ) -> Iterator[Detections]:
        """Yield the candidates of one image after the other."""
        anchors = self.anchor_generator(features)
        pred_logits, pred_dists, pred_quality = self._transpose(predictions)
        for i, image_size in enumerate(images.image_sizes):
            yield self.candidates(
                anchors,
                [logits[i] for logits in pred_logits],
                [dists[i] for dists in pred_dists],
                pred_quality and [quality[i] for quality in pred_quality],
                image_size,
            )

    def suppress(self, candidates: Detections) -> Detections:
        """Suppress candidates of an image by NMS in each class, and keep the best, best first."""
        found, are_sound = candidates
        keep = batched_nms(
            found.pred_boxes.tensor, found.scores, found.pred_classes, self.test_nms_thresh
        )
        return Detections(found[keep[: self.max_detections_per_image]], are_sound)

    def candidates(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        pred_dists: list[Tensor],
        pred_quality: list[Tensor] | None,
        image_size: tuple[int, int],
    ) -> Detections:
        """Candidates for NMS of an image, clipped to it, from rows (H*W, D) of each level.

        Args:
            anchors: the boxes of each level.
            pred_logits: class logits.
            pred_dists: coded boxes.
            pred_quality: quality logits, or None without quality branch.
            image_size: height and width in pixels, without padding.

        Returns:
            ``pred_boxes`` in pixels of the network's input, ``scores`` and ``pred_classes``.
        """
        found = CANDIDATE_RULES[self.test_candidate_rule](
            torch.cat(pred_logits),
            None if pred_quality is None else torch.cat(pred_quality),
            sizes=[len(level) for level in anchors],
            alpha=self.criterion.quality.test_alpha,
            score_thresh=self.test_score_thresh,
            topk=self.test_topk_candidates,
        )
        boxes = self.box2box_transform.apply_deltas(
            torch.cat(pred_dists)[found.rows], Boxes.cat(anchors).tensor[found.rows]
        )
        return chosen_instances(found, boxes, image_size)
