"""Formats of an exported file: how a network becomes one, and how that is written."""

import copy
import errno
import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision.ops import deform_conv2d

from ..modeling.deform_conv import DeformForm, deform_conv2d_by_grid_sample
from ..runtime.metadata import Metadata
from ..runtime.sessions import (
    BIN_SHA256,
    EXTRA_FILE,
    INPUT,
    OUTPUTS,
    RT_INFO,
    file_sha256,
)
from .onnx_nms import add_nms
from .tracing import quiet, trace

OPSET = 18
# Writes the file, and what belongs to it, at a path.
Save = Callable[[Path, Metadata], None]


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: of its name.
        form: operator of the deformable convolutions that its exporter and runtime know.
        packages: that it needs beside PyTorch.
        convert: a network, by the metadata's sizes.
    """

    suffix: str
    form: DeformForm
    packages: tuple[str, ...]
    convert: Callable[[nn.Module, Metadata], Save]


def import_package(name: str) -> ModuleType:
    """
    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f'{name} is not installed, which the export needs: run `pip install "clq[export]"`.'
        ) from None


def _convert_to_onnx(network: nn.Module, metadata: Metadata) -> Save:
    program = trace(network, metadata.settings.size_divisor, metadata.fixed_size)
    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:  # lines of this program, with its path on this machine
        node.ClearField("metadata_props")
    return _onnx_writer(model)


def _onnx_writer(plain: Any) -> Save:
    """Write a model without NMS, or with it where the metadata says so."""
    onnx: Any = import_package("onnx")

    def save(path: Path, metadata: Metadata) -> None:
        model = copy.deepcopy(plain)
        if metadata.has_nms:
            add_nms(model, metadata.settings)
        onnx.helper.set_model_props(model, metadata.to_props())
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())

    return save


def _convert_to_openvino(network: nn.Module, metadata: Metadata) -> Save:
    openvino: Any = import_package("openvino")
    program = trace(network, metadata.settings.size_divisor, metadata.fixed_size)
    frontend: Any = importlib.import_module("openvino.frontend.pytorch")
    operators: Any = importlib.import_module("openvino.opset14")
    minimum = frontend.ConversionExtension(
        str(torch.sym_min),  # the name that OpenVINO has for it, without a rule
        lambda node: operators.minimum(node.get_input(0), node.get_input(1)).outputs(),
    )
    with quiet():
        model = openvino.convert_model(program, extension=minimum)
    for value, name in zip((*model.inputs, *model.outputs), (INPUT, *OUTPUTS), strict=True):
        value.get_tensor().set_names({name})

    def write(path: Path) -> None:
        try:
            openvino.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:
            if "ios" not in str(error):  # as a stream of C++ says, of a full disk
                raise
            raise OSError(errno.EIO, str(error), str(path)) from error

    def save(path: Path, metadata: Metadata) -> None:
        # The checksum is known once the weights are written, which hold no metadata.
        for name, text in metadata.to_props().items():
            model.set_rt_info(text, [RT_INFO, name])
        write(path)
        model.set_rt_info(file_sha256(path.with_suffix(".bin")), [RT_INFO, BIN_SHA256])
        write(path)

    return save


def _convert_to_torch(network: nn.Module, metadata: Metadata) -> Save:
    program = trace(network, metadata.settings.size_divisor, metadata.fixed_size)

    def save(path: Path, metadata: Metadata) -> None:
        content = io.BytesIO()  # on a full disk PyTorch would end the process
        with quiet():
            props = json.dumps(metadata.to_props())
            torch.export.save(program, content, extra_files={EXTRA_FILE: props})
        path.write_bytes(content.getbuffer())

    return save


FORMATS = {
    "onnx": Format(
        ".onnx",
        deform_conv2d_by_grid_sample,
        ("onnx", "onnxscript", "onnxruntime"),
        _convert_to_onnx,
    ),
    "openvino": Format(".xml", deform_conv2d, ("openvino",), _convert_to_openvino),
    "torch": Format(".pt2", deform_conv2d_by_grid_sample, (), _convert_to_torch),
}
