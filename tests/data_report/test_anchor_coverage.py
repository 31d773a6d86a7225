"""Objects at the detector's strides, against hand numbers and the detector itself."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from detectron2.structures import Boxes, Instances

from clq.config import get_clq_cfg
from clq.data.coco.findings import Finding
from clq.data.coco.table import CocoTable
from clq.data.coco.validate import check_content
from clq.data_report.anchor_coverage import (
    DetectorScale,
    check_matches,
    check_scale,
    scale_objects,
)
from reference.tiny import CONFIG, KEYS, TinyData, options

SCALE = DetectorScale(
    min_size=0,
    max_size=0,
    strides=(8, 16, 32, 64, 128),
    size_divisibility=32,
    reg_max=16,
    topk=9,
)


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(options(KEYS))
    return cfg


def table_of(boxes: list[list[float]], width: int = 2000, height: int = 1600) -> CocoTable:
    annotations = [
        {"id": id_, "image_id": 1, "category_id": 1, "bbox": box} for id_, box in enumerate(boxes)
    ]
    image = {"id": 1, "file_name": "a.png", "width": width, "height": height}
    categories = [{"id": 1, "name": "x"}]
    table = check_content({"images": [image], "annotations": annotations, "categories": categories})
    assert table.errors == []
    return table


def scale_findings(table: CocoTable, scale: DetectorScale) -> dict[str, Finding]:
    findings = check_scale(table, scale_objects(table, scale), scale)
    assert not any(finding.is_error for finding in findings)
    return {finding.kind: finding for finding in findings}


def ids_of(finding: Finding) -> list[int]:
    return [int(example.subject.split()[1]) for example in finding.examples]


# ----------------------------------------------------------------------------------- the detector


def test_the_scale_is_that_of_the_detector(cfg: CfgNode):
    cfg.merge_from_list(["INPUT.MIN_SIZE_TEST", 640, "INPUT.MAX_SIZE_TEST", 900])
    cfg.merge_from_list(["MODEL.CLQ.REG_MAX", 12, "MODEL.CLQ.ATSS_TOPK", 5])
    state = torch.get_rng_state()
    scale = DetectorScale.from_config(cfg)
    assert torch.equal(torch.get_rng_state(), state)
    assert scale == DetectorScale(640, 900, (8, 16, 32, 64, 128), 32, 12, 5)
    cfg.MODEL.CLQ.BOX_CODING = "deltas"
    assert DetectorScale.from_config(cfg).reg_max is None


class ReadsValues(Backbone):
    """As many backbones do, it reads a value of a tensor while it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"a": ShapeSpec(channels=4, stride=4), "b": ShapeSpec(channels=4, stride=12)}


def test_a_backbone_that_needs_values_is_built_with_them(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(
        BACKBONE_REGISTRY._obj_map, "reads_values", lambda cfg, input_shape: ReadsValues()
    )
    cfg.MODEL.BACKBONE.NAME = "reads_values"
    scale = DetectorScale.from_config(cfg)
    assert (scale.strides, scale.size_divisibility) == ((4, 12), 1)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (2000, 500), (1, 1), (1333, 800)])
def test_images_are_resized_as_detectron2_does(size: tuple[int, int]):
    scale = SCALE._replace(min_size=800, max_size=1333)
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    transform = ResizeShortestEdge(800, 1333).get_transform(image)
    resized = scale.resized(np.array([size, size]))
    assert resized.tolist() == [[transform.new_w, transform.new_h]] * 2
    assert SCALE.resized(np.array([size])).tolist() == [list(size)]


def test_no_side_is_resized_to_nothing():
    scale = SCALE._replace(min_size=800, max_size=1333)
    assert scale.resized(np.array([[2**31 - 1, 1]])).tolist() == [[1333, 1]]


# ----------------------------------------------------------------------------------------- shares


def test_boxes_are_resized_and_clipped_and_what_does_not_train_is_left_out():
    table = table_of([[10, 20, 30, 40], [5, 5, 0, 9], [90, -10, 20, 20]], width=100, height=200)
    objects = scale_objects(table, SCALE._replace(min_size=50, max_size=1000))
    assert objects.rows.tolist() == [0, 2]
    assert objects.sizes.tolist() == [[50, 100]]
    np.testing.assert_allclose(objects.corners, [[5, 10, 20, 30], [45, 0, 50, 5]])


def test_small_objects():
    table = table_of([[0, 0, 7.9, 50], [0, 0, 8, 8], [0, 0, 50, 7], [0, 0, 0, 5]])
    finding = scale_findings(table, SCALE)["small_objects"]
    assert ids_of(finding) == [0, 2] and (finding.count, finding.total) == (2, 3)
    assert "finest stride, 8 pixels" in finding.sentence
    twice = SCALE._replace(min_size=3200, max_size=9999)
    assert "small_objects" not in scale_findings(table, twice)


def test_objects_beyond_reg_max():
    # The square root of its area is 64, the side of an anchor of stride 8: 16 strides are 128
    # pixels, half of the longer side.
    boxes = [[0, 0, 256, 16], [0, 0, 258, 15.875], [0, 0, 15, 280], [0, 0, 500, 500]]
    finding = scale_findings(table_of(boxes), SCALE)["beyond_reg_max"]
    assert ids_of(finding) == [1, 2] and (finding.count, finding.total) == (2, 4)
    assert scale_findings(table_of(boxes), SCALE._replace(reg_max=None)) == {}
    # On one level of stride 8 the square is too large as well.
    one_level = SCALE._replace(strides=(8,))
    assert ids_of(scale_findings(table_of(boxes), one_level)["beyond_reg_max"]) == [1, 2, 3]


def test_no_object_at_all():
    table = table_of([])
    assert scale_findings(table, SCALE) == {}
    objects = scale_objects(table, SCALE)
    assert check_matches(table, objects, SCALE, np.arange(1), limit=5) == ([], 0)


# ----------------------------------------------------------------------------------------- anchors


def unmatched_by(model: Any, boxes: Boxes, size: tuple[int, int]) -> int:
    """Number of objects that no anchor of the detector is labelled with."""
    height, width = (-(-side // 32) * 32 for side in size)
    features = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]
    instances = Instances(size, gt_boxes=boxes, gt_classes=torch.zeros(len(boxes)).long())
    anchors = model.anchor_generator(features)
    labels, matched = model.label_anchors(anchors, [instances], [size])
    found = matched[0][labels[0] == 0].unique(dim=0)
    return len(boxes) - len(found)


def test_the_objects_without_anchor_are_those_of_the_detector(cfg: CfgNode):
    scale = DetectorScale.from_config(cfg)._replace(min_size=0)
    rng = np.random.default_rng(0)
    corner = rng.random((60, 2)) * [180, 120]
    sides = np.exp(rng.uniform(np.log(1), np.log(90), (60, 2)))
    table = table_of(np.concatenate((corner, sides), axis=1).tolist(), width=201, height=150)
    objects = scale_objects(table, scale)
    boxes = Boxes(torch.as_tensor(objects.corners, dtype=torch.float32))
    expected = unmatched_by(build_model(cfg), boxes, (150, 201))
    (finding,), num_images = check_matches(table, objects, scale, np.arange(1), limit=5)
    assert (finding.count, finding.total, num_images) == (expected, len(boxes), 1)
    assert 5 < expected < 55


def test_each_image_is_matched_alone_and_only_those_asked_for(tiny_data: TinyData):
    table = check_content(tiny_data.train.content)
    objects = scale_objects(table, SCALE)
    assert check_matches(table, objects, SCALE, np.arange(4), limit=9)[1] == 3  # the last is empty
    assert check_matches(table, objects, SCALE, np.array([0, 3]), limit=9)[1] == 1
    assert check_matches(table, objects, SCALE, np.arange(4), limit=2)[1] == 2
    assert check_matches(table, objects, SCALE, np.arange(0), limit=2)[1] == 0


def test_an_object_that_is_no_anchor_is_named():
    table = table_of([[40, 40, 64, 64], [41, 41, 2, 2]], width=200, height=160)
    (finding,), _ = check_matches(table, scale_objects(table, SCALE), SCALE, np.arange(1), limit=1)
    assert ids_of(finding) == [1] and (finding.count, finding.total) == (1, 2)
    assert finding.sentence.startswith("objects that ATSS gives no anchor, in 1 images: 1 of 2")
