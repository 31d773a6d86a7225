"""Exports in each format, of each part of the family, and what is refused."""

import errno
import functools
import hashlib
import os
import re
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from timm.models.swin_transformer import SwinTransformerBlock

import clq
from clq.checkpoint import load_detector
from clq.checkpoint.conversion import write_detector
from clq.checkpoint.detector import load_configured
from clq.cli import export as command
from clq.config.serialize import dump_config
from clq.exporting import formats, run
from clq.exporting.formats import FORMATS
from clq.exporting.onnx_nms import add_nms
from clq.exporting.proof import prove, prove_nms
from clq.exporting.quantize import _EXACT
from clq.exporting.settings import settings_of
from clq.exporting.tracing import check_any_size, trace
from clq.runtime import load
from clq.runtime.sessions import open_session
from reference.members import build, member_config

NAMES = ["bar", "block", "dot"]
# Box coding, quality branch, alignment, backbone and format: each in one of these.
DEFORMABLE = {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, True]}
TORCHVISION = {
    "MODEL.BACKBONE.NAME": "build_torchvision_fpn_backbone",
    "MODEL.TORCHVISION.NAME": "resnet18",
    "MODEL.TORCHVISION.OUT_NODES": ["layer2", "layer3", "layer4"],
}
ANY_SIZE = {
    "clq.onnx": ("clq", {}),
    "gfl.xml": ("gfl", {**DEFORMABLE, "MODEL.RESNETS.DEFORM_MODULATED": True}),
    "atss_clq.pt2": ("atss_clq", TORCHVISION),
}
# Whole numbers of strides of the coarsest level, and a single one; neither is that of the trace.
SHAPES = ((1, 3, 64, 288), (3, 3, 160, 96), (2, 3, 32, 32))


def checkpoint(path, member, **keys):
    """Write a checkpoint of :func:`build`, whose predictions differ from cell to cell."""
    model = build(member, **keys)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        spread = 0.05 if "pred" in name or "cls_score" in name else 0.0
        spread = 0.01 if "conv2_offset" in name else spread
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    write_detector(path, model.state_dict(), dump_config(member_config(member, **keys)), NAMES)
    return path


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Function from a name in ``ANY_SIZE``, for the first call of which it exports.

    It gives the checkpoint, the export and the detector of that file: PyTorch takes seconds to open
    one of its own.
    """
    folder = tmp_path_factory.mktemp("export")

    @functools.cache
    def get(name):
        member, keys = ANY_SIZE[name]
        weights = checkpoint(folder / f"{name}.safetensors", member, **keys)
        exported = clq.export(weights, folder / name)
        return weights, exported, load(exported.path, threads=1)

    return get


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("weights") / "atss.safetensors", "atss", **DEFORMABLE)


def noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape).astype(np.float32)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_a_file_takes_batches_of_any_size(name, exports):
    checkpoint, _, detector = exports(name)
    model, _ = load_detector(checkpoint)
    agreement = prove(model, detector.predictor.session, [noise(*shape) for shape in SHAPES])
    assert agreement.images == 6 and agreement.rows > 100


@pytest.mark.parametrize("name", ANY_SIZE)
def test_a_file_tells_all_about_its_detector(name, exports):
    checkpoint, exported, detector = exports(name)
    _, cfg, names = load_configured(checkpoint, "cpu")
    metadata = detector.predictor.session.metadata
    assert metadata == exported.metadata
    assert metadata.settings == settings_of(
        cfg, names, size_divisor=32, strides=[8, 16, 32, 64, 128]
    )
    assert metadata.pixel_std == (58.395, 57.12, 57.375)
    assert metadata.alpha == {"gfl": 0}.get(name[:3], 0.3)
    assert metadata.config == dump_config(cfg)
    assert metadata.clq_version == clq.__version__
    assert metadata.weights_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (metadata.fixed_size, metadata.has_nms, metadata.precision) == (None, False, "fp32")
    assert metadata.parity["rows"] == exported.agreement.rows > 0
    assert metadata.parity["box_pixels"] == exported.agreement.box < 0.01


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("batch_size", (1, 3))
def test_a_file_finds_what_its_checkpoint_finds(name, batch_size, exports, monkeypatch):
    """From files of several sizes, through resizing and NMS, to pixels of the image."""
    checkpoint, _, detector = exports(name)
    detectors = clq.load(checkpoint, "cpu"), detector
    for predictor in (detector.predictor for detector in detectors):
        settings = replace(predictor.settings, min_size=96, max_size=160)
        monkeypatch.setattr(predictor, "settings", settings)
    shapes = [(60, 90), (90, 61), (96, 128), (300, 200), (64, 96)]
    images = [noise(*shape, 3).astype(np.uint8) for shape in shapes]
    found = [detector.predict(images, threshold=0, batch_size=batch_size) for detector in detectors]
    for expected, actual in zip(*(map(in_tolerances, results) for results in found)):
        assert len(expected) == len(actual) > 0
        apart = torch.cdist(expected, actual, p=torch.inf)  # whatever their order
        assert apart.amin(dim=0).max() <= 1 and apart.amin(dim=1).max() <= 1


def in_tolerances(result):
    """Boxes in 0.05 pixels, scores in 1e-4, and classes so that different ones are far apart."""
    columns = (result.boxes / 0.05, result.scores[:, None] / 1e-4, 10.0 * result.labels[:, None])
    return torch.from_numpy(np.concatenate(columns, axis=1).astype(np.float64))


@pytest.mark.parametrize("name", ANY_SIZE)
def test_a_file_does_not_tell_where_clq_lies(name, exports):
    path = exports(name)[1].path
    contents = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            contents = [archive.read(member) for member in archive.namelist()]
    folder = str(Path(clq.__file__).parent).encode()
    assert not any(folder in content for content in contents)


def test_an_onnx_file_is_of_opset_18(exports):
    model = onnx.load(exports("clq.onnx")[1].path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import if not o.domain] == [("", 18)]
    exact = {part for part in _EXACT for node in model.graph.node if part in "".join(node.input)}
    assert exact == set(_EXACT)
    assert not any(node.metadata_props for node in model.graph.node)
    operators = {node.op_type for node in model.graph.node}
    assert "GridSample" in operators and "DeformConv" not in operators


def test_the_command_exports_for_one_size(weights, tmp_path, capsys):
    """Of deformable stages, deltas and centerness, in ONNX."""
    picture = tmp_path / "picture.png"
    Image.fromarray(noise(40, 30, 3).astype(np.uint8)).save(picture)
    output = tmp_path / "new" / "atss.onnx"
    arguments = [str(weights), str(output), "--size", "64", "96", "--images", str(picture)]
    command.main(arguments)
    compared, wrote = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"Compared \d+ boxes of 5 images with PyTorch's: they differ by at most \S+ pixels and \S+ "
        "in score.",
        compared,
    )
    assert wrote.startswith(f"Wrote {output}, ")
    assert wrote.endswith(" MB: 3 classes, images of 64 x 96 pixels.")
    assert os.listdir(output.parent) == ["atss.onnx"]
    session = open_session(output)
    assert session.metadata.fixed_size == (64, 96)
    assert prove(load_detector(weights)[0], session, [noise(2, 3, 64, 96)]).rows > 50
    with pytest.raises(ValueError, match="takes images of 64 x 96 pixels alone, not 64 x 128"):
        session.run(noise(1, 3, 64, 128))


@pytest.fixture(scope="module")
def with_nms(exports, tmp_path_factory):
    """Function that adds NMS to the ONNX file, with settings of its own, and opens both."""
    folder = tmp_path_factory.mktemp("nms")

    def open_both(**settings):
        model = onnx.load(exports("clq.onnx")[1].path)
        metadata = exports("clq.onnx")[1].metadata
        metadata = replace(metadata, settings=replace(metadata.settings, **settings))
        sessions = []
        for name, has_nms in (("plain.onnx", False), ("nms.onnx", True)):
            if has_nms:
                add_nms(model, metadata.settings)
            props = replace(metadata, has_nms=has_nms).to_props()
            onnx.helper.set_model_props(model, props)
            onnx.checker.check_model(model, full_check=True)
            onnx.save(model, folder / name)
            sessions.append(open_session(folder / name))
        return sessions

    return open_both


@pytest.mark.parametrize("most", (100, 7))
@pytest.mark.parametrize("threshold", (0.0, 0.011))
def test_nms_in_the_graph_is_pytorch_s(with_nms, most, threshold):
    plain, session = with_nms(score_threshold=threshold, max_detections=most, nms_threshold=0.3)
    batches = [noise(*shape) for shape in SHAPES]
    prove_nms(plain, session, batches)
    boxes, scores, classes, indices = session.run(batches[1])
    assert boxes.shape == (len(scores), 4) and boxes.dtype == scores.dtype == np.float32
    assert len(set(classes)) > 1 and scores.min() > threshold
    assert list(indices) == sorted(indices)
    assert (boxes >= 0).all() and (boxes <= [96, 160, 96, 160]).all()
    for image in range(3):
        of_image = scores[indices == image]
        assert 0 < len(of_image) <= most and list(of_image) == sorted(of_image, reverse=True)


def test_nms_may_leave_nothing(with_nms):
    plain, session = with_nms(score_threshold=0.999)
    prove_nms(plain, session, [noise(2, 3, 64, 96)])
    assert [len(array) for array in session.run(noise(2, 3, 64, 96))] == [0, 0, 0, 0]


def test_another_nms_is_told(with_nms):
    _, session = with_nms(nms_threshold=0.9)
    plain, _ = with_nms(nms_threshold=0.3)
    with pytest.raises(ValueError, match="its NMS gives .* that are not the .* of PyTorch's"):
        prove_nms(plain, session, [noise(2, 3, 64, 96)])


@pytest.fixture
def quick(monkeypatch, exports):
    """Let an ONNX export take the graph that is there."""
    proto = onnx.load(exports("clq.onnx")[1].path)
    save = formats._onnx_writer(proto)
    kind = FORMATS["onnx"]._replace(convert=lambda network, metadata: save)
    monkeypatch.setitem(FORMATS, "onnx", kind)
    return exports("clq.onnx")[0]


def test_nms_is_exported(quick, tmp_path):
    exported = clq.export(quick, tmp_path / "a.onnx", nms=True, format="onnx", opset=18)
    session = open_session(tmp_path / "a.onnx")
    assert session.metadata == exported.metadata and session.metadata.has_nms
    assert exported.agreement.images == 4
    assert len(session.run(noise(1, 3, 64, 64))) == 4


def test_a_file_is_replaced_only_by_one_that_is_proved(quick, tmp_path, monkeypatch):
    output = tmp_path / "a.onnx"
    output.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr("clq.exporting.proof.BOX_TOLERANCE", 0.0)
        with pytest.raises(ValueError, match=r"a.onnx was not written: it differs from PyTorch by"):
            clq.export(quick, output)
    assert output.read_text() == "before" and os.listdir(tmp_path) == ["a.onnx"]
    clq.export(quick, output)
    assert open_session(output) and os.listdir(tmp_path) == ["a.onnx"]


def test_an_output_that_can_not_be_written_is_named_at_once(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "load_configured", lambda *_: pytest.fail("it goes on"))
    (tmp_path / "file").touch()
    for output in ("file/a.onnx", "file/below/a.onnx"):
        with pytest.raises(OSError, match=f"{output} can't be written"):
            clq.export(weights, tmp_path / output)


def test_a_folder_of_drafts_that_is_full_is_named(quick, tmp_path, monkeypatch):
    def write(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write)
    place = re.escape(tempfile.gettempdir())
    told = (
        rf"^the folder {place} for temporary files can't be written \(No space left on device\); "
    )
    with pytest.raises(OSError, match=told):
        clq.export(quick, tmp_path / "a.onnx")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("step", ("shutil.copyfileobj", "os.fsync"))
def test_of_two_files_neither_is_there_without_the_other(tmp_path, monkeypatch, step):
    """The disk has no space for the second, so that the first keeps what it had."""
    draft = tmp_path / "draft" / "a.xml"
    draft.parent.mkdir()
    for file in (draft, draft.with_suffix(".bin")):
        file.write_text("new")
        (tmp_path / file.name).write_text("old")
    with monkeypatch.context() as patch:
        calls = []

        def write(*_):
            calls.append(step)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(f"clq.exporting.run.{step}", write)
        told = rf"^{tmp_path}/a.xml can't be written \(No space left on device\)\.$"
        with pytest.raises(OSError, match=told):
            run._move(draft, tmp_path / "a.xml")
    assert len(calls) == 2 and (tmp_path / "a.xml").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "a.xml", "draft"]
    assert (tmp_path / "a.bin").read_text() == "old"
    run._move(draft, tmp_path / "a.xml")
    assert [(tmp_path / name).read_text() for name in ("a.bin", "a.xml")] == ["new", "new"]


@pytest.mark.parametrize(
    "output, options, told",
    (
        ("a.tflite", {}, "a.tflite must end as its format does: .onnx for onnx, .xml for openvino"),
        ("a.XML", {}, "a.XML must end as its format does"),
        ("a.onnx", {"format": "torch"}, "a.onnx must end as its format does"),
        ("a.onnx", {"format": "coreml"}, "--format is 'coreml'; it must be one of onnx, openvino"),
        ("a.onnx", {"opset": 20}, "--opset is 20, but 18 is the only one"),
        ("a.pt2", {"opset": 18}, "--opset is for files that end in .onnx alone"),
        ("a.xml", {"nms": True}, "--nms is for files that end in .onnx alone"),
        (
            "a.onnx",
            {"size": (64, 90)},
            "--size is 64 90; height and width must be positive multiples of 32",
        ),
        ("a.onnx", {"size": (0, 64)}, "--size is 0 64"),
        (
            "a.onnx",
            {"size": (64,)},
            "--size is 64; height and width must be positive multiples of 32",
        ),
        ("a.onnx", {"images": "nowhere"}, "nowhere does not exist"),
        ("a.xml", {"calibrate": "nowhere"}, "--int8 is for files that end in .onnx alone"),
        ("a.onnx", {"calibrate": ".", "nms": True}, "--int8 is for files without NMS"),
        ("a.onnx", {"val": "a.json"}, "--val is for --int8, to tell its cost"),
    ),
)
def test_what_can_not_be_exported_is_told(weights, tmp_path, output, options, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        clq.export(weights, tmp_path / output, **options)
    assert not os.listdir(tmp_path)


def test_the_checkpoint_is_not_replaced(weights, tmp_path):
    content = weights.read_bytes()
    (tmp_path / "a.onnx").symlink_to(weights)
    (tmp_path / "b.bin").symlink_to(weights)  # which the export of b.xml would write beside it
    for output, owner in (("a.onnx", "a.onnx"), ("b.xml", "b.bin")):
        with pytest.raises(ValueError, match=f"{owner} is the checkpoint itself; give the export"):
            clq.export(weights, tmp_path / output)
    assert weights.read_bytes() == content


def test_a_folder_is_not_replaced(weights, tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(ValueError, match="a.bin is a folder; give the export another name"):
        clq.export(weights, tmp_path / "a.xml")


@pytest.mark.parametrize(
    "output, package",
    (
        ("a.onnx", "onnx"),
        ("a.onnx", "onnxscript"),
        ("a.onnx", "onnxruntime"),
        ("a.xml", "openvino"),
    ),
)
def test_a_missing_package_is_told(weights, tmp_path, monkeypatch, output, package):
    monkeypatch.setitem(sys.modules, package, None)
    told = f'{package} is not installed, which the export needs: run `pip install "clq[export]"`.'
    with pytest.raises(ValueError, match=re.escape(told)):
        clq.export(weights, tmp_path / output)


def test_the_command_says_it_in_one_sentence(weights, tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        command.main([str(weights), str(tmp_path / "a.onnx"), "--opset", "17"])
    assert leaving.value.code.startswith("error: --opset is 17") and not capsys.readouterr().out


def test_networks_for_one_size_are_told():
    swin = torch.nn.Sequential(SwinTransformerBlock(8, (7, 7), num_heads=1, window_size=7))
    with pytest.raises(ValueError, match="exports for one size .* give it by --size H W"):
        check_any_size(swin)


def test_what_pytorch_can_not_export_is_told():
    class Network(torch.nn.Module):
        def forward(self, x):
            return x.sum().item() > 0 and x

    with pytest.raises(ValueError, match=r"PyTorch can't export this network \(.*; --size H W"):
        trace(Network(), 32, None)
