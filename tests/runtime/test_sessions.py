"""Sessions of exported files: what they give, and the one sentence where a file is wrong.

The files hold graphs of a few operators: boxes (1, 2, 3, 4) times the batch's sum, and scores.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import helper

from clq.runtime.metadata import Metadata
from clq.runtime.sessions import BIN_SHA256, EXTRA_FILE, RT_INFO, file_sha256, open_session
from reference.settings import SETTINGS as TINY_SETTINGS
from reference.tiny import ROOT

SETTINGS = replace(TINY_SETTINGS, class_names=("cat", 'dog "<&>"\n', "cow"))
METADATA = Metadata(SETTINGS, (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), 0.3, "A: 'é'\n", "0.1.0", "abc")
SUFFIXES = (".onnx", ".xml", ".pt2")


class Network(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(1.0, 5.0))
        self.classes = classes

    def forward(self, images):
        total = images.sum(dim=(1, 2, 3), keepdim=True).squeeze(3)  # (N, 1, 1)
        return total * self.weight.view(1, 1, 4), (total / 1e6).expand(-1, -1, self.classes).clone()


def program(classes):
    batch, height, width = (torch.export.Dim(name, min=1, max=64) for name in "nhw")
    shapes = ({0: batch, 2: 32 * height, 3: 32 * width},)
    return torch.export.export(
        Network(classes), (torch.zeros(2, 3, 64, 96),), dynamic_shapes=shapes
    )


def onnx_model(classes, output="scores"):
    factors = ", ".join(["1e-6"] * classes)
    graph = onnx.parser.parse_graph(f"""
        detector (float[N, 3, H, W] images)
        => (float[N, 1, 4] boxes, float[N, 1, {classes}] {output})
        <float[1, 1, 4] weight = {{1, 2, 3, 4}}, float[1, 1, {classes}] scale = {{{factors}}},
         int64[3] axes = {{1, 2, 3}}, int64[3] shape = {{0, 1, 1}}>
        {{
          sum = ReduceSum <keepdims = 1> (images, axes)
          total = Reshape (sum, shape)
          boxes = Mul (total, weight)
          {output} = Mul (total, scale)
        }}
        """)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def write(folder, suffix, props=None, classes=3):
    """Write a detector of one box, with the properties that its metadata becomes."""
    props = METADATA.to_props() if props is None else props
    path = folder / f"model{suffix}"
    if suffix == ".onnx":
        model = onnx_model(classes)
        helper.set_model_props(model, props)
        onnx.save(model, path)
    elif suffix == ".xml":
        model = openvino.convert_model(program(classes))
        for value, name in zip((*model.inputs, *model.outputs), ("images", "boxes", "scores")):
            value.get_tensor().set_names({name})
        for name, text in props.items():
            model.set_rt_info(text, [RT_INFO, name])
        openvino.save_model(model, path, compress_to_fp16=False)
        model.set_rt_info(file_sha256(path.with_suffix(".bin")), [RT_INFO, BIN_SHA256])
        openvino.save_model(model, path, compress_to_fp16=False)
    else:
        files = {EXTRA_FILE: json.dumps(props)} if props else None
        torch.export.save(program(classes), str(path), extra_files=files)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_batch_of_any_size_runs(tmp_path, suffix):
    session = open_session(write(tmp_path, suffix), threads=1)
    assert session.metadata == METADATA
    for shape in ((2, 3, 32, 64), (1, 3, 96, 32)):
        images = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        boxes, scores = session.run(images)
        total = images.sum(axis=(1, 2, 3), dtype=np.float64)[:, None, None]
        assert boxes.dtype == scores.dtype == np.float32
        np.testing.assert_allclose(boxes, total * [[[1, 2, 3, 4]]], rtol=1e-5)
        np.testing.assert_allclose(
            scores, np.broadcast_to(total / 1e6, (shape[0], 1, 3)), rtol=1e-5
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_threads_share_a_session(tmp_path, suffix):
    session = open_session(write(tmp_path, suffix))

    def run(value):
        images = np.full((2, 3, 128, 128), value)
        return [session.run(images)[0][0, 0, 0] for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for value, found in enumerate(pool.map(run, range(4))):
            np.testing.assert_allclose(found, [3 * 128 * 128 * value] * 50, rtol=1e-5)


@pytest.mark.parametrize("number", (0, -1, 1025))
def test_an_impossible_number_of_threads_is_told(tmp_path, number):
    with pytest.raises(ValueError, match=rf"--threads is {number}; it must lie in \[1, 1024\]"):
        open_session(write(tmp_path, ".onnx"), threads=number)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sizes_that_a_graph_does_not_take_are_told(tmp_path, suffix):
    session = open_session(write(tmp_path, suffix))
    with pytest.raises(
        ValueError, match="heights and widths that are multiples of 32, not 64 x 90"
    ):
        session.run(np.zeros((1, 3, 64, 90), dtype=np.float32))
    for shape in ((3, 64, 64), (1, 1, 64, 64), (0, 3, 64, 64)):
        with pytest.raises(ValueError, match=r"takes a batch \(images, 3, height, width\), not"):
            session.run(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_wrong_with_the_metadata_is_told(tmp_path, suffix):
    path = write(tmp_path, suffix, props={})
    with pytest.raises(ValueError, match=f"model{suffix} has no metadata of CLQ, .* exported.$"):
        open_session(path)
    props = METADATA.to_props()
    write(tmp_path, suffix, props={**props, "score_threshold": "0.5"})
    with pytest.raises(ValueError, match=f"model{suffix} has metadata that was altered"):
        open_session(path)
    write(tmp_path, suffix, classes=4)
    with pytest.raises(ValueError, match="gives scores of 4 classes, but its metadata names 3"):
        open_session(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", (b"", b"text", b"\x00" * 1000))
def test_a_file_that_is_no_model_is_told(tmp_path, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    path.with_suffix(".bin").touch()
    told = (
        rf"model{suffix} is no model that .* can run \(.+\); it may be damaged: copy or export it"
    )
    with pytest.raises(ValueError, match=told):
        open_session(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_told(tmp_path, suffix):
    with pytest.raises(ValueError, match=f"model{suffix} does not exist or is no file"):
        open_session(tmp_path / f"model{suffix}")


def test_another_ending_is_told(tmp_path):
    with pytest.raises(ValueError, match="model.pth must end in .onnx, .xml, .pt2"):
        open_session(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "suffix, package, install",
    (
        (".onnx", "onnxruntime", "onnxruntime"),
        (".xml", "openvino", "openvino"),
        (".pt2", "torch", "torch torchvision"),
    ),
)
def test_a_missing_package_is_told(tmp_path, monkeypatch, suffix, package, install):
    path = write(tmp_path, suffix)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"needs {package}, .*: run `pip install {install}`"):
        open_session(path)


def test_weights_that_are_missing_or_another_s_are_told(tmp_path):
    path = write(tmp_path, ".xml")
    weights = path.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[0] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="model.bin does not belong to model.xml"):
        open_session(path)
    weights.unlink()
    with pytest.raises(
        ValueError, match="model.bin is missing, which holds the weights of model.xml"
    ):
        open_session(path)


def test_another_graph_is_told(tmp_path):
    model = onnx_model(3, output="logits")
    helper.set_model_props(model, METADATA.to_props())
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        ValueError, match="gives boxes, logits, but an exported detector takes images"
    ):
        open_session(tmp_path / "model.onnx")


def test_a_program_of_something_else_is_told(tmp_path):
    """Even if it has the metadata of a detector."""

    class Other(torch.nn.Module):
        def forward(self, images):
            return images + 1, 3

    path = tmp_path / "model.pt2"
    for text, told in (
        (json.dumps(METADATA.to_props()), "takes images and gives 0, but an exported detector"),
        ("5", "has no metadata of CLQ"),
    ):
        program = torch.export.export(Other(), (torch.zeros(2),))
        torch.export.save(program, path, extra_files={EXTRA_FILE: text})
        with pytest.raises(ValueError, match=f"model.pt2 {told}"):
            open_session(path)


@pytest.mark.parametrize("suffix", (".onnx", ".xml"))
def test_pytorch_is_not_needed(tmp_path, suffix):
    path = write(tmp_path, suffix)
    program = (
        "import sys; sys.modules['torch'] = sys.modules['detectron2'] = None\n"
        "import numpy as np\n"
        "from clq.runtime.sessions import open_session\n"
        f"boxes, _ = open_session({str(path)!r}).run(np.ones((1, 3, 32, 32)))\n"
        "print(boxes.ravel().tolist())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert found.stdout.strip() == "[3072.0, 6144.0, 9216.0, 12288.0]", found.stderr
