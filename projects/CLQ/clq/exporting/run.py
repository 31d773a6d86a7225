"""Export a detector to a file that other runtimes load, and prove that file."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

import clq

from ..checkpoint.detector import load_configured
from ..checkpoint.read_file import normalize_path
from ..config.serialize import dump_config
from ..modeling import CLQ
from ..runtime.metadata import Metadata
from ..runtime.sessions import file_sha256, open_session
from ..utils.atomic_write import explain_write_errors, open_atomically
from .batches import Paths, find_images, image_batches, random_batches
from .benchmark import Data
from .formats import FORMATS, OPSET, Format, Save, import_package
from .network import ExportableDetector
from .proof import Agreement, prove, prove_nms
from .quantize import CALIBRATION_IMAGES, Quantized, quantize
from .settings import settings_of
from .tracing import check_any_size

_WRITE_ERRORS = (errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS)


class Exported(NamedTuple):
    """Result of an export.

    Attributes:
        path: of the file.
        metadata: that it holds.
        agreement: with PyTorch, before the quantization if there is one.
        megabytes: of the file, and of the weights beside it.
        int8: what the quantization did.
    """

    path: Path
    metadata: Metadata
    agreement: Agreement
    megabytes: float
    int8: Quantized | None = None

    def describe(self) -> list[str]:
        """Tell what was compared and written, a sentence each."""
        size, settings = self.metadata.fixed_size, self.metadata.settings
        sizes = (
            f"whose sides are multiples of {settings.size_divisor}"
            if size is None
            else f"of {size[0]} x {size[1]} pixels"
        )
        found = self.agreement
        return [
            f"Compared {found.rows} boxes of {found.images} images with PyTorch's: they differ by "
            f"at most {found.box:.2g} pixels and {found.score:.2g} in score.",
            *(self.int8.describe() if self.int8 else ()),
            f"Wrote {self.path}, {self.megabytes:.1f} MB: {len(settings.class_names)} classes, "
            f"images {sizes}.",
        ]


def export(
    weights: str | Path,
    output: str | Path,
    *,
    format: str | None = None,
    opset: int | None = None,
    nms: bool = False,
    size: tuple[int, int] | None = None,
    images: Paths = (),
    calibrate: Paths = (),
    val: Data = (),
) -> Exported:
    """Export a detector as a file for ONNX Runtime, OpenVINO or PyTorch without CLQ.

    The file is written only if it gives what the detector gives in PyTorch, on random images and
    on those given: boxes within 0.05 pixels and scores within 0.0001, before NMS.

    Args:
        weights: checkpoint, as of :func:`clq.load`.
        output: ends in ``.onnx``, ``.xml`` for OpenVINO, with a ``.bin`` beside it, or ``.pt2`` for
            PyTorch; replaced where it is there.
        format: ``"onnx"``, ``"openvino"`` or ``"torch"``; None takes that of the ending.
        opset: of ONNX; 18 is the only one.
        nms: for ONNX: NMS in the graph, of which all classes of a kept anchor are candidates.
        size: the only height and width in pixels that the file takes, for a network that can't be
            exported for any.
        images: files or folders of images to compare on too.
        calibrate: for ONNX: files or folders of some 200 training images, by which the convolutions
            are quantized to int8, after the comparison. Without any, all stays in fp32.
        val: data to evaluate on before and after the quantization, as of :func:`clq.evaluate`.

    Raises:
        OSError: the file can't be written.
        ValueError: an argument is wrong, a package is not installed, the network can't be exported,
            or the file does not give what the detector gives. Nothing is written then.
    """
    output = Path(os.path.expanduser(output))
    kind = FORMATS[_format_name(format, output)]
    _check_options(kind, opset, nms=nms, int8=bool(calibrate), evaluates=bool(val))
    source = Path(PathManager.get_local_path(normalize_path(os.path.expanduser(weights))))
    _check_output(output, kind, source)
    paths, calibration = find_images(images), find_images(calibrate, most=CALIBRATION_IMAGES)
    for package in kind.packages:
        import_package(package)
    model, cfg, class_names = load_configured(weights, "cpu")
    assert isinstance(model, CLQ)
    metadata = _metadata_of(model, cfg, class_names, source, size)
    save = kind.convert(ExportableDetector(model, kind.form), metadata)
    with _draft_folder() as folder:
        draft, int8 = folder / output.name, None
        metadata, agreement = _prove(model, save, draft, metadata, paths, nms=nms)
        if calibration:
            metadata = replace(metadata, precision="int8", parity={})
            batches = image_batches(calibration, metadata)
            int8 = quantize(draft, batches, metadata, val)
        megabytes = sum(file.stat().st_size for file in draft.parent.iterdir()) / 1e6
        _move(draft, output)
    return Exported(output, metadata, agreement, megabytes, int8)


def _prove(
    model: CLQ, save: Save, draft: Path, metadata: Metadata, paths: Sequence[Path], *, nms: bool
) -> tuple[Metadata, Agreement]:
    """Write a draft, prove it, and write it anew with what the proof found."""

    def batches() -> Iterator[np.ndarray]:
        yield from random_batches(metadata)
        yield from image_batches(paths, metadata)

    save(draft, metadata)
    plain = open_session(draft)
    agreement = prove(model, plain, batches())
    parity = {"box_pixels": agreement.box, "score": agreement.score, "rows": agreement.rows}
    proved = replace(metadata, has_nms=nms, parity=parity)
    save(draft, proved)
    if nms:
        prove_nms(plain, open_session(draft), batches())
    return proved, agreement


def _move(draft: Path, output: Path) -> None:
    """Let a draft, and what lies beside it, take its name, once all of them are on the disk."""
    with explain_write_errors(output), contextlib.ExitStack() as stack:
        # The last takes its name first, so that what is opened by its name has what it needs.
        for file in sorted(draft.parent.iterdir(), key=lambda file: file != draft):
            copy = stack.enter_context(open_atomically(output.with_name(file.name)))
            with open(file, "rb") as content:
                shutil.copyfileobj(content, copy)
            copy.flush()
            os.fsync(copy.fileno())


@contextlib.contextmanager
def _draft_folder() -> Iterator[Path]:
    """Make a temporary folder.

    Raises:
        OSError: it can't be written, or its disk is full.
    """
    place = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix="clq-export-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in _WRITE_ERRORS or not str(error.filename or place).startswith(place):
            raise
        raise OSError(
            f"the folder {place} for temporary files can't be written ({error.strerror}); name "
            "another by the variable TMPDIR."
        ) from error


def _format_name(name: str | None, output: Path) -> str:
    suffix = output.suffix  # as it is, since OpenVINO takes no capitals
    by_suffix = {kind.suffix: known for known, kind in FORMATS.items()}
    endings = ", ".join(f"{suffix} for {known}" for suffix, known in by_suffix.items())
    if name is not None and name not in FORMATS:
        raise ValueError(f"--format is '{name}'; it must be one of {', '.join(FORMATS)}.")
    if by_suffix.get(suffix) != (name or by_suffix.get(suffix, "")):
        raise ValueError(f"{output} must end as its format does: {endings}, in lower case.")
    return by_suffix[suffix]


def _check_output(output: Path, kind: Format, source: Path) -> None:
    files = [output, output.with_suffix(".bin")] if kind.suffix == ".xml" else [output]
    for file in files:
        if source.exists() and file.exists() and source.samefile(file):
            raise ValueError(f"{file} is the checkpoint itself; give the export another name.")
        if file.is_dir():
            raise ValueError(f"{file} is a folder; give the export another name.")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    with explain_write_errors(output), tempfile.TemporaryFile(dir=folder):
        pass  # a conversion takes long, and ends in vain where nothing can be written


def _check_options(
    kind: Format, opset: int | None, *, nms: bool, int8: bool, evaluates: bool
) -> None:
    is_onnx = kind.suffix == ".onnx"
    flags = (("--opset", opset is not None), ("--nms", nms), ("--int8", int8))
    for flag, value in flags:
        if value and not is_onnx:
            raise ValueError(f"{flag} is for files that end in .onnx alone; leave it out.")
    if opset not in (None, OPSET):
        raise ValueError(
            f"--opset is {opset}, but {OPSET} is the only one that all runtimes take; leave it out."
        )

    if int8 and nms:
        raise ValueError("--int8 is for files without NMS; leave --nms out.")
    if evaluates and not int8:
        raise ValueError("--val is for --int8, to tell its cost; `clq eval` evaluates any file.")


def _metadata_of(
    model: CLQ,
    cfg: CfgNode,
    class_names: Sequence[str],
    source: Path,
    size: tuple[int, int] | None,
) -> Metadata:
    divisor = max(model.backbone.size_divisibility, 1)
    if size is None:
        check_any_size(model)
    if size is not None and (
        len(size) != 2 or min(size) < 1 or any(side % divisor for side in size)
    ):
        given = " ".join(map(str, size))
        raise ValueError(
            f"--size is {given}; height and width must be positive multiples of {divisor}."
        )
    return Metadata(
        settings=settings_of(
            cfg, class_names, size_divisor=divisor, strides=model.anchor_generator.strides
        ),
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
        alpha=float(model.criterion.quality.test_alpha),
        config=dump_config(cfg),
        clq_version=clq.__version__,
        weights_sha256=file_sha256(source),
        fixed_size=None if size is None else (size[0], size[1]),
    )
