"""An exported detector of a few operators, written by hand."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from clq.runtime.metadata import Metadata
from reference.settings import SETTINGS

STRIDE = 8
PLAIN = Metadata(
    replace(SETTINGS, class_names=("red", "grün", "<b>"), min_size=0, strides=(STRIDE,)),
    pixel_mean=(250.0, 20.0, 30.0),  # so that padding is surely red
    pixel_std=(1.0, 1.0, 1.0),
    alpha=0.5,
    config="",
    clq_version="0",
    weights_sha256="",
)
# Of a cell's first pixel: x1, y1, x2 and y2 by row, and the logits of three classes.
BOX_WEIGHTS = np.array([[0.3, 0, 0], [0, 0.3, 0], [0.3, 0, 0.2], [0.2, 0.3, 0]])
BOX_BIASES = np.array([-10, -10, 0, 0])
LOGIT_WEIGHTS = np.array([[2, -1, 0], [0, 2, -1], [-1, 0, 2]]) / 100


class Session(NamedTuple):
    """An exported file as :class:`ExportedPredictor` takes it."""

    metadata: Metadata
    session: ort.InferenceSession

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return self.session.run(None, {"images": images})


def write_detector(path: Path, metadata: Metadata) -> Session:
    """Write a graph that takes boxes and scores from the first pixel of each cell of 8 x 8."""
    biases = {"boxes": BOX_BIASES, "scores": np.full(3, -1)}
    nodes, constants = [], [numpy_helper.from_array(np.array([0, 0, -1]), "rows")]
    for name, weights in (("boxes", BOX_WEIGHTS), ("scores", LOGIT_WEIGHTS)):
        for suffix, value in (("w", weights[:, :, None, None]), ("b", biases[name])):
            constants.append(numpy_helper.from_array(value.astype(np.float32), name + suffix))
        inputs, to_rows = ["images", name + "w", name + "b"], [f"{name}_map", "rows"]
        strides = {"strides": [STRIDE, STRIDE]}
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_map"], name, **strides))
        nodes.append(helper.make_node("Reshape", to_rows, [f"{name}_flat"]))
        last = name if name == "boxes" else "logits"
        nodes.append(helper.make_node("Transpose", [f"{name}_flat"], [last], perm=[0, 2, 1]))
    nodes.append(helper.make_node("Sigmoid", ["logits"], ["scores"]))
    sides = metadata.fixed_size or ("h", "w")
    shapes = {"images": ("n", 3, *sides), "boxes": ("n", "r", 4), "scores": ("n", "r", 3)}
    values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items()]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:], constants)
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return Session(metadata, ort.InferenceSession(path))
