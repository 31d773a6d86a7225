"""Run exported files: ONNX Runtime, OpenVINO or PyTorch, as the ending of the file's name says.

Each is imported when a file of its kind is opened. Letters: N images, R anchors that the graph
keeps, K classes, M detections.
"""

import hashlib
import importlib
import inspect
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .metadata import Metadata

INPUT = "images"
OUTPUTS = ("boxes", "scores")
NMS_OUTPUTS = ("boxes", "scores", "classes", "batch_indices")
# Of an OpenVINO file, where its metadata lies, and the name there of the checksum of its .bin.
RT_INFO, BIN_SHA256 = "clq", "bin_sha256"
EXTRA_FILE = "clq.json"  # of a PyTorch archive
MOST_THREADS = 1024


class Session(ABC):
    """An exported detector that is ready to run on CPU.

    Attributes:
        path: of the file.
        metadata: of the detector.
    """

    def __init__(
        self,
        path: Path,
        props: Mapping[str, str],
        inputs: Mapping[str, Sequence[object]],
        outputs: Mapping[str, Sequence[object]],
    ) -> None:
        """
        Args:
            path: of the file.
            props: of :meth:`Metadata.to_props`.
            inputs: shape by name; sides that are not fixed are no integers.
            outputs: likewise.

        Raises:
            ValueError: there is no metadata, or it was altered or is of another graph.
        """
        self.path = path
        try:
            self.metadata = Metadata.from_props(props)
        except ValueError as error:
            raise ValueError(f"{path} {error}.") from None
        expected = NMS_OUTPUTS if self.metadata.has_nms else OUTPUTS
        if list(inputs) != [INPUT] or list(outputs) != list(expected):
            raise ValueError(
                f"{path} takes {', '.join(inputs)} and gives {', '.join(outputs)}, but an exported "
                f"detector takes {INPUT} and gives {', '.join(expected)}; export it again."
            )
        if not self.metadata.has_nms:
            self._check_classes(outputs["scores"][-1])
        self._check_input(inputs[INPUT])

    def run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run a batch.

        Args:
            images: (N, 3, H, W), pixels from 0 to 255, channels as ``metadata`` says. H and W are
                multiples of its ``size_divisor``.

        Returns:
            Boxes xyxy in pixels of the batch, fp32 (N, R, 4), not clipped, and joint scores, fp32
            (N, R, K). Of a file with NMS: boxes (M, 4), clipped to the batch, scores (M,), class
            indices (M,) and the index in the batch of each one's image (M,), the images in order
            and the best boxes of each first.

        Raises:
            ValueError: the graph does not take images of that shape.
        """
        self._check_shape(images.shape)
        batch = np.ascontiguousarray(images, dtype=np.float32)
        outputs = _told(f"{self.path} can't run a batch {batch.shape}", lambda: self._run(batch))
        if not self.metadata.has_nms:
            self._check_classes(outputs[1].shape[-1])
        return outputs

    @abstractmethod
    def _run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run a batch whose shape is checked."""

    def _check_input(self, shape: Sequence[object]) -> None:
        """Compare what the graph takes with what its metadata says."""
        fixed = self.metadata.fixed_size or (None, None)
        expected = (None, 3, *fixed)
        is_same = len(shape) == 4 and all(
            side == wanted if isinstance(side, int) else wanted is None or at == 1
            for at, (side, wanted) in enumerate(zip(shape, expected))
        )
        if not is_same:
            raise ValueError(
                f"{self.path} takes images of the shape {tuple(shape)}, which is not what its "
                "metadata says; export it again."
            )

    def _check_classes(self, found: object) -> None:
        names = self.metadata.settings.class_names
        if isinstance(found, int) and found != len(names):
            raise ValueError(
                f"{self.path} gives scores of {found} classes, but its metadata names "
                f"{len(names)}; export it again."
            )

    def _check_shape(self, shape: Sequence[int]) -> None:
        divisor, fixed = self.metadata.settings.size_divisor, self.metadata.fixed_size
        if len(shape) != 4 or shape[1] != 3 or 0 in shape:
            raise ValueError(
                f"{self.path} takes a batch (images, 3, height, width), not {tuple(shape)}."
            )
        size = tuple(shape[2:])
        if fixed is not None and size != fixed:
            raise ValueError(
                f"{self.path} takes images of {_size(fixed)} pixels alone, not {_size(size)}; pad "
                "them to that, or export the checkpoint with another --size."
            )
        if any(side % divisor for side in size):
            raise ValueError(
                f"{self.path} takes heights and widths that are multiples of {divisor}, not "
                f"{_size(size)}; pad the images with the pixel mean."
            )


class OnnxSession(Session):
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int | None) -> None:
        onnxruntime = _import("onnxruntime", path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session: Any = _open(
            path,
            "ONNX Runtime",
            lambda: onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            ),
        )
        super().__init__(
            path,
            self._session.get_modelmeta().custom_metadata_map,
            {value.name: value.shape for value in self._session.get_inputs()},
            {value.name: value.shape for value in self._session.get_outputs()},
        )

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(self._session.run(None, {INPUT: images}))


class OpenVinoSession(Session):
    """An OpenVINO file, ``.xml``, with the weights beside it, ``.bin``."""

    def __init__(self, path: Path, threads: int | None) -> None:
        openvino = _import("openvino", path)
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise ValueError(f"{weights} is missing, which holds the weights of {path.name}.")
        core = openvino.Core()
        model = _open(path, "OpenVINO", lambda: core.read_model(path))
        props = _rt_info(model)
        if props and file_sha256(weights) != props.get(BIN_SHA256):
            raise ValueError(
                f"{weights} does not belong to {path.name}; copy the two files that were exported "
                "together."
            )
        # Processors with bf16 would take it unasked.
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        self._model: Any = _open(path, "OpenVINO", lambda: core.compile_model(model, "CPU", config))
        super().__init__(
            path,
            props,
            {value.any_name: _sides(value.partial_shape) for value in model.inputs},
            {value.any_name: _sides(value.partial_shape) for value in model.outputs},
        )

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        # The request of the model itself is one, which threads would share.
        found = self._model.create_infer_request().infer([images])
        return tuple(np.array(found[i]) for i in range(len(OUTPUTS)))


class TorchSession(Session):
    """A program of ``torch.export``, on CPU. PyTorch's threads are those of the process.

    PyTorch may run code that such an archive holds: open only those whose origin you trust.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        self._torch: Any = _import("torch", path)
        _import("torchvision", path)  # some programs call its operators
        if threads is not None:
            self._torch.set_num_threads(threads)
        props = _open(path, "PyTorch", lambda: _extra_file(path))
        program = _open(path, "PyTorch", lambda: self._torch.export.load(str(path)))
        # Newer versions guard against maps of one cell, which the operators take all the same.
        has_guards = "check_guards" in inspect.signature(program.module).parameters
        self._module: Any = program.module(**({"check_guards": False} if has_guards else {}))
        shapes = {
            node.name: tuple(node.meta["val"].shape)
            for node in program.graph.nodes
            if isinstance(node.meta.get("val"), self._torch.Tensor)
        }
        signature = program.graph_signature
        inputs = {name: shapes[name] for name in signature.user_inputs if name in shapes}
        found = [shapes[name] for name in signature.user_outputs if name in shapes]
        names = OUTPUTS if len(found) == len(OUTPUTS) else map(str, range(len(found)))
        super().__init__(path, props, inputs, dict(zip(names, found)))

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._torch.no_grad():
            outputs = self._module(self._torch.from_numpy(images))
        return tuple(output.numpy() for output in outputs)


SESSIONS: dict[str, Callable[[Path, int | None], Session]] = {
    ".onnx": OnnxSession,
    ".xml": OpenVinoSession,
    ".pt2": TorchSession,
}
_PACKAGES = {"torch": "torch torchvision", "torchvision": "torch torchvision"}


def open_session(path: str | Path, *, threads: int | None = None) -> Session:
    """Open an exported file.

    Args:
        path: ends in ``.onnx``, ``.xml`` or ``.pt2``.
        threads: of the processor, at most 1024; None leaves it to the library.

    Raises:
        ValueError: the file is missing, is no detector that CLQ exported, was altered, or a package
            that runs it is not installed; or ``threads`` is out of range.
    """
    path = Path(path)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"--threads is {threads}; it must lie in [1, {MOST_THREADS}].")
    suffix = path.suffix.lower()
    if suffix not in SESSIONS:
        raise ValueError(f"{path} must end in {', '.join(SESSIONS)}, as exported files do.")
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is no file.")
    return SESSIONS[suffix](path, threads)


def file_sha256(path: Path) -> str:
    """Hash the content of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _import(name: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        packages = _PACKAGES.get(name, name)
        raise ValueError(
            f"{path} needs {name}, which is not installed: run `pip install {packages}`."
        ) from None


def _open(path: Path, library: str, load: Callable[[], Any]) -> Any:
    """Open a file by a library."""
    return _told(
        f"{path} is no model that {library} can run",
        load,
        "it may be damaged: copy or export it again",
    )


def _told(what: str, call: Callable[[], Any], remedy: str = "") -> Any:
    """Call a library, each of which has errors of its own, and tell those in a sentence."""
    try:
        return call()
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(" .") or type(error).__name__
        raise ValueError(f"{what} ({reason}){'; ' * bool(remedy)}{remedy}.") from error


def _extra_file(path: Path) -> dict[str, str]:
    """Read the metadata of a PyTorch archive, which has no code; empty if there is none."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/{EXTRA_FILE}")]
        props = json.loads(archive.read(names[0])) if names else {}
        return props if isinstance(props, dict) else {}


def _rt_info(model: Any) -> dict[str, str]:
    if not model.has_rt_info([RT_INFO]):
        return {}
    found = model.get_rt_info([RT_INFO]).value
    return {name: str(getattr(value, "value", value)) for name, value in found.items()}


def _sides(shape: Any) -> list[object]:
    return [side.get_length() if side.is_static else str(side) for side in shape]


def _size(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
