"""Static quantization of an exported graph to int8, for ONNX Runtime on CPU."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..runtime.metadata import Metadata
from ..runtime.sessions import INPUT, Session, open_session
from .batches import random_batches
from .benchmark import Contender, Data, measure_ap
from .tracing import quiet

CALIBRATION_IMAGES = 200
# Convolutions that stay in fp32, by the names of their weights: detections vanish where offsets,
# distributions or logits are rounded to 8 bits.
_EXACT = ("alignment.offset.", "bbox_pred.", "cls_score.", "quality.predictor.")


class Quantized(NamedTuple):
    """Result of a quantization.

    Attributes:
        convolutions: that are in int8.
        of: so many.
        ap: in percent, before and after, if it was measured.
    """

    convolutions: int
    of: int
    ap: tuple[float, float] | None = None

    def describe(self) -> list[str]:
        """Tell it, a sentence each."""
        cost = "Its AP was not measured: give --val, or run clq eval, before you use it."
        if self.ap:
            cost = f"AP {self.ap[0]:.2f} in fp32, {self.ap[1]:.2f} in int8."
        return [f"Then quantized {self.convolutions} of {self.of} convolutions to int8.", cost]


def quantize(
    path: Path, batches: Iterable[np.ndarray], metadata: Metadata, val: Data = ()
) -> Quantized:
    """Quantize the convolutions of a graph to int8, with a scale for each channel.

    Sampling, decoding and scores stay in fp32, as do the convolutions that give offsets, boxes,
    classes and qualities.

    Args:
        path: ``.onnx``, in fp32; replaced.
        batches: inputs of the graph, (N, 3, H, W) fp32, over which activations are measured.
        metadata: of the file to write.
        val: data to evaluate on, before and after; nothing for no evaluation.

    Raises:
        ValueError: the file does not fit the data to evaluate on, or gives what is not finite.
    """
    import onnx

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        target = Path(folder, path.name)
        number, total = _quantize(path, target, batches)
        model = onnx.load(target)
        onnx.helper.set_model_props(model, metadata.to_props())
        onnx.save(model, target)
        _check(open_session(target))
        files = (path, target) if val else ()
        ap = tuple(measure_ap(Contender(str(file)), val) for file in files)
        target.replace(path)
    return Quantized(number, total, (ap[0], ap[1]) if ap else None)


def _check(session: Session) -> None:
    for images in random_batches(session.metadata):
        if not all(np.isfinite(array).all() for array in session.run(images)):
            raise ValueError(
                f"{session.path.name} was not written: in int8 it gives boxes or scores that are "
                "not finite; calibrate it with other images."
            )


def _quantize(source: Path, target: Path, batches: Iterable[np.ndarray]) -> tuple[int, int]:
    """Write the quantized graph; returns the convolutions in int8, and all."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_name("prepared.onnx")
    with quiet():  # of advice on preparing a graph, which was followed
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        convs = [node for node in graph.node if node.op_type == "Conv"]
        exact = [n.name for n in convs if any(part in n.input[1] for part in _EXACT)]
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Reader(iter(batches)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=exact,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return len(convs) - len(exact), len(convs)


class _Reader:
    """Calibration data in the form that onnxruntime asks for."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
