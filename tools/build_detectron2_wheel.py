#!/usr/bin/env python3
"""Build a pure-Python wheel of Detectron2 v0.6 from its source archive on the package index.

The archive pb1-detectron2 0.6 holds the Python files of the v0.6 release but not the C++ ones,
so it cannot be installed as it is. This tool adds a stand-in for the compiled extension, patches
what current NumPy, Pillow and setuptools broke, and packs the result as detectron2 0.6+pure.
It needs the standard library only and compiles nothing.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import os
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ARCHIVE_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
ARCHIVE_PIN = f"pb1-detectron2==0.6 --hash=sha256:{ARCHIVE_SHA256}"  # a line of requirements
WHEEL_NAME = "detectron2-0.6+pure-py3-none-any.whl"

_DIST_INFO = "detectron2-0.6+pure.dist-info"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # zip's earliest date: the same archive gives the same bytes
_EPILOG = f"""\
Where the archive comes from (its setup.py imports torch, so install torch first):

  echo "{ARCHIVE_PIN}" > archive.txt
  pip download --no-deps --no-build-isolation --require-hashes -r archive.txt -d downloads
  python tools/build_detectron2_wheel.py downloads/pb1-detectron2-0.6.tar.gz --out-dir dist
  pip install --no-deps dist/{WHEEL_NAME}

`make setup` does all of this. The wheel has no compiled operators: training, evaluation,
Visualizer and model_zoo work; rotated boxes, Detectron2's own deformable convolution on a GPU
and the fast COCO evaluation raise an ImportError on use. Build Detectron2 from source for those.
"""


class WheelBuildError(Exception):
    """The wheel cannot be built; the message is one sentence for the user."""


class Patch(NamedTuple):
    """Replace `old` by `new` in the file `path`, where `old` must occur exactly `times` times."""

    path: str
    old: str
    new: str
    times: int


# The archive keeps three small projects beside the package; Detectron2 installs them inside it.
_PROJECT_PREFIXES = {
    "projects/PointRend/point_rend/": "detectron2/projects/point_rend/",
    "projects/DeepLab/deeplab/": "detectron2/projects/deeplab/",
    "projects/Panoptic-DeepLab/panoptic_deeplab/": "detectron2/projects/panoptic_deeplab/",
}

PATCHES = (
    # NumPy 1.24 removed the aliases of Python's own types.
    Patch("detectron2/data/build.py", "dtype=np.int)", "dtype=int)", 1),
    Patch("detectron2/data/build.py", "dtype=np.int\n", "dtype=int\n", 1),
    Patch("detectron2/data/datasets/pascal_voc.py", "dtype=np.str)", "dtype=str)", 1),
    Patch("detectron2/evaluation/pascal_voc_evaluation.py", "(np.bool)", "(bool)", 2),
    Patch("detectron2/evaluation/sem_seg_evaluation.py", "dtype=np.int)", "dtype=int)", 2),
    Patch("detectron2/evaluation/sem_seg_evaluation.py", "dtype=np.float)", "dtype=float)", 2),
    Patch("detectron2/evaluation/sem_seg_evaluation.py", "(np.float)", "(float)", 3),
    Patch("detectron2/structures/masks.py", "(np.bool)", "(bool)", 2),
    Patch("detectron2/structures/masks.py", "dtype=np.bool)", "dtype=bool)", 1),
    Patch("detectron2/utils/video_visualizer.py", "dtype=np.bool)", "dtype=bool)", 1),
    Patch("detectron2/utils/visualizer.py", "(np.bool)", "(bool)", 3),
    # NumPy 2 raises where copy=False cannot be kept.
    Patch("detectron2/layers/mask_ops.py", "np.array(mask, copy=False)", "np.asarray(mask)", 1),
    # Pillow 10 removed LINEAR, an old name of BILINEAR.
    Patch("detectron2/data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR", 1),
    # GroupNorm has 32 groups, so a trial norm of one channel is invalid.
    Patch(
        "detectron2/modeling/meta_arch/retinanet.py", "get_norm(norm, 1)", "get_norm(norm, 32)", 1
    ),
    # setuptools 82 removed pkg_resources.
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        "import os\nfrom typing import Optional\nimport pkg_resources\n",
        "import os\nfrom importlib import resources\nfrom typing import Optional\n",
        1,
    ),
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        "pkg_resources.resource_filename(\n"
        '        "detectron2.model_zoo", os.path.join("configs", config_path)\n'
        "    )",
        'str(resources.files("detectron2.model_zoo") / "configs" / config_path)',
        1,
    ),
    # PyTorch 2.4 removed caffe2; without it the rest of detectron2.export must still import.
    Patch(
        "detectron2/export/__init__.py",
        "from .api import *\n",
        "try:\n    from .api import *\nexcept ImportError:  # no caffe2\n    pass\n",
        1,
    ),
    # PyTorch warns at every start that the indexing argument will be required.
    Patch(
        "detectron2/modeling/anchor_generator.py",
        "torch.meshgrid(shifts_y, shifts_x)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        1,
    ),
    # The fast evaluation is compiled code, which this wheel does not have.
    Patch(
        "detectron2/evaluation/coco_evaluation.py", "use_fast_impl=True", "use_fast_impl=False", 2
    ),
    # Rotated NMS is compiled too: fail with the sentence of _C, not inside torch.ops.
    Patch(
        "detectron2/layers/nms.py",
        "    return torch.ops.detectron2.nms_rotated(",
        "    from detectron2 import _C\n\n    return _C.nms_rotated(",
        1,
    ),
)

_C_MODULE = '''\
"""Stand-in for Detectron2's compiled extension, which this pure-Python wheel does not have."""


def get_compiler_version():
    return "none (pure Python)"


def get_cuda_version():
    return "none (pure Python)"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__") and name.endswith("__"):  # the import system looks for these
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise ImportError(
        f"detectron2._C.{name} is a compiled operator, and this detectron2 (0.6+pure) has none: "
        "build Detectron2 from source to use it."
    )
'''

_METADATA = """\
Metadata-Version: 2.1
Name: detectron2
Version: 0.6+pure
Summary: Detectron2 v0.6 in pure Python: everything but its compiled operators
Home-page: https://github.com/facebookresearch/detectron2
Author: FAIR
License: Apache-2.0
Requires-Python: >=3.9
Requires-Dist: torch>=1.8
Requires-Dist: torchvision
Requires-Dist: numpy
Requires-Dist: opencv-python-headless
Requires-Dist: Pillow>=7.1
Requires-Dist: PyYAML
Requires-Dist: matplotlib
Requires-Dist: pycocotools>=2.0.2
Requires-Dist: termcolor>=1.1
Requires-Dist: tabulate
Requires-Dist: cloudpickle
Requires-Dist: tqdm>4.29.0
Requires-Dist: tensorboard
Requires-Dist: fvcore>=0.1.5,<0.1.6
Requires-Dist: iopath>=0.1.7
Requires-Dist: omegaconf>=2.1
Requires-Dist: hydra-core>=1.1
License-File: LICENSE
"""

_WHEEL = """\
Wheel-Version: 1.0
Generator: build_detectron2_wheel
Root-Is-Purelib: true
Tag: py3-none-any
"""


def check_hash(archive: Path) -> None:
    """Raise WheelBuildError unless the file exists and has the SHA-256 of the known archive."""
    try:
        actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as error:
        raise WheelBuildError(
            f"Cannot read {archive} ({error.strerror}): give the path of the downloaded "
            "pb1-detectron2-0.6.tar.gz (see --help)."
        ) from error
    if actual != ARCHIVE_SHA256:
        raise WheelBuildError(
            f"{archive} has SHA-256 {actual} instead of {ARCHIVE_SHA256}: it is not the file "
            "this tool was written for, so delete it and download it again (see --help)."
        )


def read_archive(archive: Path) -> dict[str, bytes]:
    """Read the regular files of the archive, without its top folder: {path: content}."""
    files = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                files["/".join(PurePosixPath(member.name).parts[1:])] = stream.read()
    return files


def select_package_files(files: dict[str, bytes]) -> dict[str, bytes]:
    """Keep the Python files and the model-zoo configs, at the paths they are installed under."""
    package = {}
    for path, content in files.items():
        for prefix, installed_prefix in _PROJECT_PREFIXES.items():
            if path.startswith(prefix):
                path = installed_prefix + path[len(prefix) :]
        if path.startswith("detectron2/") and path.endswith((".py", ".yaml")):
            package[path] = content
    return package


def apply_patches(files: dict[str, bytes], patches: tuple[Patch, ...] = PATCHES) -> None:
    """Apply every patch to `files` in place, or raise WheelBuildError at the first that differs."""
    for patch in patches:
        old, new = patch.old.encode(), patch.new.encode()
        found = files.get(patch.path, b"").count(old)
        if found != patch.times:
            raise WheelBuildError(
                f"The patch of {patch.path} expects {patch.old!r} {patch.times} time(s) and found "
                f"it {found} time(s): the archive's contents changed, so correct PATCHES in "
                f"{Path(__file__).name}."
            )
        files[patch.path] = files[patch.path].replace(old, new)


def record_of(files: dict[str, bytes]) -> bytes:
    """Return the wheel's RECORD: path, hash and size of every file, itself without either."""
    lines = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{_DIST_INFO}/RECORD,,\n"]).encode()


def write_wheel(files: dict[str, bytes], wheel: Path) -> None:
    """Write `files` as a zip under a temporary name, then rename it: never a half-made wheel."""
    wheel.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=wheel.parent, prefix=wheel.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for path, content in files.items():
                info = zipfile.ZipInfo(path, _ZIP_TIME)
                info.create_system = 3  # Unix, on every system
                info.external_attr = 0o100644 << 16
                archive.writestr(info, content)  # stored: no byte depends on zlib's version
        os.chmod(part, 0o644)
        os.replace(part, wheel)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def build_wheel(archive: Path, out_dir: Path) -> Path:
    """Turn the source archive into a wheel.

    Args:
        archive: the downloaded pb1-detectron2-0.6.tar.gz.
        out_dir: folder of the wheel, made if missing.

    Returns:
        The path of the wheel.

    Raises:
        WheelBuildError: the archive is missing or not the expected one, or a patch does not match.
    """
    check_hash(archive)
    source = read_archive(archive)
    files = select_package_files(source)
    apply_patches(files)
    files["detectron2/_C.py"] = _C_MODULE.encode()
    files = dict(sorted(files.items()))
    files[f"{_DIST_INFO}/LICENSE"] = source["LICENSE"]
    files[f"{_DIST_INFO}/METADATA"] = _METADATA.encode()
    files[f"{_DIST_INFO}/WHEEL"] = _WHEEL.encode()
    files[f"{_DIST_INFO}/RECORD"] = record_of(files)
    wheel = out_dir / WHEEL_NAME
    write_wheel(files, wheel)
    return wheel


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="the downloaded pb1-detectron2-0.6.tar.gz")
    parser.add_argument(
        "--out-dir",
        type=Path,
        default=Path("dist"),
        metavar="DIR",
        help="folder to write the wheel to (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    try:
        print(build_wheel(args.archive, args.out_dir))
    except (WheelBuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
