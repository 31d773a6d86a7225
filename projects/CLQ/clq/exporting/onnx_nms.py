"""Non-maximum suppression inside an ONNX graph."""

from typing import Any

from ..runtime.metadata import Settings
from ..runtime.sessions import INPUT, NMS_OUTPUTS, OUTPUTS

# N images, R rows, K classes, M detections. ONNX's TopK gives equal values in their order, so that
# the second sort, by image, leaves the order of the scores.
_GRAPH = """
nms (float[N, 3, H, W] images, float[N, R, 4] all_boxes, float[N, R, K] all_scores)
=> (float[M, 4] boxes, float[M] scores, int64[M] classes, int64[M] batch_indices)
<int64[4] nms_sides = {3, 2, 3, 2}, int64[2] nms_box = {0, 2}, int64[3] nms_score = {0, 2, 1},
 int64 nms_zero = {0}, int64 nms_one = {1}, int64[1] nms_first = {0}, int64[1] nms_second = {1},
 float nms_low = {0}>
{
  nms_shape = Shape (images)
  nms_side = Gather (nms_shape, nms_sides)
  nms_limit = Cast <to = 1> (nms_side)
  nms_at_least_0 = Max (all_boxes, nms_low)
  nms_clipped = Min (nms_at_least_0, nms_limit)
  nms_by_class = Transpose <perm = [0, 2, 1]> (all_scores)
  nms_found = NonMaxSuppression (nms_clipped, nms_by_class, nms_most, nms_iou, nms_threshold)

  nms_score_at = Gather <axis = 1> (nms_found, nms_score)
  nms_found_scores = GatherND (all_scores, nms_score_at)
  nms_found_images = Gather <axis = 1> (nms_found, nms_zero)
  nms_number = Shape (nms_found_scores)
  nms_sorted_scores, nms_by_score = TopK (nms_found_scores, nms_number)
  nms_images_by_score = Gather (nms_found_images, nms_by_score)
  nms_sorted_images, nms_by_image = TopK <largest = 0> (nms_images_by_score, nms_number)
  nms_order = Gather (nms_by_score, nms_by_image)

  nms_images = Gather (nms_shape, nms_zero)
  nms_image = Range (nms_zero, nms_images, nms_one)
  nms_column = Unsqueeze (nms_sorted_images, nms_second)
  nms_is_of = Equal (nms_column, nms_image)
  nms_ones = Cast <to = 7> (nms_is_of)
  nms_counts = ReduceSum <keepdims = 0> (nms_ones, nms_first)
  nms_starts = CumSum <exclusive = 1> (nms_counts, nms_zero)
  nms_start = Gather (nms_starts, nms_sorted_images)
  nms_total = Squeeze (nms_number)
  nms_place = Range (nms_zero, nms_total, nms_one)
  nms_rank = Sub (nms_place, nms_start)
  nms_stays = Less (nms_rank, nms_most)
  nms_kept = Compress <axis = 0> (nms_order, nms_stays)

  nms_rows = Gather (nms_found, nms_kept)
  nms_box_at = Gather <axis = 1> (nms_rows, nms_box)
  boxes = GatherND (nms_clipped, nms_box_at)
  scores = Gather (nms_found_scores, nms_kept)
  classes = Gather <axis = 1> (nms_rows, nms_one)
  batch_indices = Gather <axis = 1> (nms_rows, nms_zero)
}
"""


def add_nms(model: Any, settings: Settings) -> None:
    """Let an ONNX model give the detections of each image instead of boxes and scores of all rows.

    All classes of a kept anchor are candidates, as by the rule ``"anchors"``.

    Args:
        model: proto with input ``INPUT`` and outputs ``OUTPUTS``; changed in place.
        settings: thresholds, and how many detections of an image are kept.
    """
    import onnx
    from onnx import TensorProto, helper

    nms = onnx.parser.parse_graph(_GRAPH)
    assert [value.name for value in nms.output] == list(NMS_OUTPUTS)
    new = {name: f"all_{name}" for name in OUTPUTS}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    assert nms.input[0].name == INPUT
    model.graph.node.extend(nms.node)
    model.graph.initializer.extend(nms.initializer)
    for name, kind, value in (
        ("nms_most", TensorProto.INT64, settings.max_detections),
        ("nms_iou", TensorProto.FLOAT, settings.nms_threshold),
        ("nms_threshold", TensorProto.FLOAT, settings.score_threshold),
    ):
        model.graph.initializer.append(helper.make_tensor(name, kind, [], [value]))
    del model.graph.output[:]
    model.graph.output.extend(nms.output)
