"""The Detectron2 that `make setup` installed does what its users do.

With another Detectron2 (a user's own build) there is nothing of ours to test here.
"""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import detectron2
import pytest

from build_detectron2_wheel import PATCHES

VERSION = importlib.metadata.version("detectron2")
ROOT = Path(detectron2.__file__).parent
SMOKE = Path(__file__).with_name("detectron2_smoke.py")

pytestmark = pytest.mark.skipif(
    VERSION != "0.6+pure", reason=f"detectron2 {VERSION} was not built by this project"
)

# Imported where a function or an optional file needs them, each with its own ImportError.
OPTIONAL = {
    "black",
    "caffe2",
    "cityscapesscripts",
    "lvis",
    "mmcv",
    "mmdet",
    "onnx",
    "panopticapi",
    "pygments",
    "shapely",
}
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml"}
DISTRIBUTIONS["hydra"] = "hydra-core"


def python_files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imported_packages() -> set[str]:
    """Top-level packages that the installed files import, the standard library excepted."""
    found = set()
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"detectron2"}


def test_every_patch_is_in_place():
    for patch in PATCHES:
        text = (ROOT.parent / patch.path).read_text()
        assert text.count(patch.new) >= patch.times, patch
        assert patch.old not in text.replace(patch.new, ""), patch


@pytest.mark.parametrize(
    "gone", (r"\bnp\.(bool|int|float|object|str)\b", r"\bImage\.LINEAR\b", "pkg_resources")
)
def test_nothing_removed_from_a_library_is_left(gone):
    found = [path.name for path in python_files() if re.search(gone, path.read_text())]
    assert found == []


def test_metadata_declares_every_import():
    declared = {
        re.split(r"[^\w.-]", line)[0].lower()
        for line in importlib.metadata.requires("detectron2") or []
    }
    imported = {DISTRIBUTIONS.get(name, name) for name in imported_packages() - OPTIONAL}
    # tensorboard is imported by torch on behalf of Detectron2's TensorboardXWriter.
    assert declared == imported | {"tensorboard"}


def test_model_zoo_configs_load(tmp_path):
    program = (
        "import json, pathlib\n"
        "from detectron2 import model_zoo\n"
        "root = pathlib.Path(model_zoo.__file__).parent / 'configs'\n"
        "files = [p for p in root.rglob('*') if p.suffix in ('.yaml', '.py')]\n"
        "leaves = [p for p in files if 'common' not in p.parts]\n"
        "for path in leaves: model_zoo.get_config(str(path.relative_to(root)))\n"
        "suffixes = [p.suffix for p in files]\n"
        "print(json.dumps([suffixes.count('.yaml'), suffixes.count('.py'), len(leaves)]))\n"
        "try: model_zoo.get_config_file('absent.yaml')\n"
        "except RuntimeError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "[92, 36, 115]",
        "absent.yaml not available in Model Zoo!",
    ]


def test_training_evaluation_and_pictures_work_with_the_newest_setuptools(tmp_path):
    assert int(importlib.metadata.version("setuptools").split(".")[0]) >= 82
    result = subprocess.run(
        [sys.executable, str(SMOKE)], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["metrics"] == ["AP", "AP50", "AP75", "APl", "APm", "APs"]
    assert report["next_iteration"] == 1
    assert report["detections"] > 0
    assert report["shapes"] == [[64, 64, 3]] * 4
    assert report["pkg_resources"] is False
    assert "none (pure Python)" in report["log"]
    assert "official COCO API" in report["log"]
    assert "unofficial COCO API" not in report["log"]


def test_rotated_nms_names_the_missing_operator():
    import torch
    from detectron2.layers import nms_rotated

    with pytest.raises(ImportError, match=r"detectron2\._C\.nms_rotated is a compiled operator"):
        nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5)


def test_export_package_imports_without_caffe2():
    from detectron2.export import TracingAdapter, scripting_with_instances
    from detectron2.utils.analysis import FlopCountAnalysis, find_unused_parameters

    for name in (TracingAdapter, scripting_with_instances, FlopCountAnalysis):
        assert callable(name)
    assert callable(find_unused_parameters)
