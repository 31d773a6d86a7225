"""Static quantization of a graph of two convolutions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from clq.exporting.quantize import Quantized, quantize
from clq.runtime.sessions import open_session
from reference.tiny_graph import PLAIN, write_detector

BATCHES = [
    np.random.default_rng(seed).integers(0, 256, (2, 3, 64, 96)).astype(np.float32)
    for seed in range(4)
]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    write_detector(tmp_path / "model.onnx", PLAIN)
    return tmp_path / "model.onnx"


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_convolutions_are_in_8_bits_and_metadata_is_written(graph: Path, tmp_path: Path):
    exact = open_session(graph)
    metadata = replace(PLAIN, precision="int8")
    assert quantize(graph, BATCHES, metadata) == Quantized(2, 2)
    found = operators(graph)
    assert found.count("Conv") == 2 and found.count("QuantizeLinear") >= 2
    session = open_session(graph)
    assert session.metadata == metadata
    for outputs, expected, tolerance in zip(
        session.run(BATCHES[0]), exact.run(BATCHES[0]), (2.0, 0.02)
    ):
        difference = abs(outputs - expected).max()
        assert 0 < difference < tolerance
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    "name",
    [
        "alignment.offset.weight",
        "bbox_pred.weight",
        "cls_score.weight",
        "quality.predictor.weight",
    ],
)
def test_what_gives_boxes_and_scores_stays_exact(name: str, graph: Path):
    model = onnx.load(graph)
    for item in (*model.graph.initializer, *model.graph.node):
        names = item.input if isinstance(item, onnx.NodeProto) else None
        if names is None:
            item.name = f"head.{name}" if item.name == "boxesw" else item.name
        else:
            names[:] = [f"head.{name}" if value == "boxesw" else value for value in names]
    onnx.save(model, graph)
    exact = open_session(graph)
    assert quantize(graph, BATCHES, PLAIN) == Quantized(1, 2)
    session = open_session(graph)
    (boxes, scores), expected = session.run(BATCHES[0]), exact.run(BATCHES[0])
    np.testing.assert_allclose(boxes, expected[0], atol=1e-4)
    assert abs(scores - expected[1]).max() > 1e-4


def test_the_cost_is_told():
    assert Quantized(87, 100, (54.8, 54.254)).describe() == [
        "Then quantized 87 of 100 convolutions to int8.",
        "AP 54.80 in fp32, 54.25 in int8.",
    ]
    assert "was not measured" in Quantized(87, 100).describe()[1]
