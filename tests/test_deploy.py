"""What examples/deploy does without CLQ is what CLQ does, on a graph of a few operators."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from clq.runtime import Detector
from clq.runtime.detections import ImageDetections
from clq.runtime.exported import ExportedPredictor
from clq.runtime.metadata import Metadata
from examples.deploy.detect import detect
from reference.browser import WIDTHS, find_browser
from reference.served_page import show_page
from reference.tiny import ROOT
from reference.tiny_graph import PLAIN, Session, write_detector

FOLDER = ROOT / "examples" / "deploy"
SCRIPT = FOLDER / "detect.py"
DOCS = ROOT / "docs" / "deploy.md"


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random RGB pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def found_by_clq(session: Session, image: np.ndarray, threshold: float) -> ImageDetections:
    (found,) = ExportedPredictor(session).find([image[:, :, ::-1]])
    return found.select(found.scores > threshold)


@pytest.mark.parametrize(
    "changes, of_settings, size, threshold",
    [
        ({}, {}, (90, 120), 0.3),
        ({}, {"score_threshold": 0.6, "max_detections": 1000}, (90, 120), 0.3),
        ({}, {"channel_order": "BGR"}, (64, 64), 0.3),
        ({}, {"nms_threshold": 0.2, "max_detections": 7}, (90, 120), 0.3),
        ({}, {}, (40, 33), 0.1),  # boxes lie outside
        ({"fixed_size": (128, 160)}, {}, (90, 120), 0.3),
        ({}, {}, (90, 120), 0.99),
    ],
)
def test_script_detects_as_clq(
    tmp_path: Path, changes: dict, of_settings: dict, size: tuple[int, int], threshold: float
):
    metadata = replace(PLAIN, settings=replace(PLAIN.settings, **of_settings), **changes)
    session = write_detector(tmp_path / "model.onnx", metadata)
    image = noise(*size)
    boxes, scores, classes = detect(session.session, image, threshold)
    expected = found_by_clq(session, image, threshold)
    assert len(expected) == 0 if threshold == 0.99 else len(expected) > 5
    np.testing.assert_array_equal(classes, expected.classes)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(boxes, expected.boxes, atol=1e-4)


def test_script_on_boxes_by_hand(tmp_path: Path):
    """Two red cells have one box, 66.5, -10, 76.5, 51; that of the green one is below the image."""
    session = write_detector(tmp_path / "model.onnx", PLAIN)
    image = np.zeros((40, 70, 3), np.uint8)
    image[0, 0] = image[8, 8] = (255, 0, 0)
    image[16, 0] = (0, 255, 0)
    boxes, scores, classes = detect(session.session, image, 0.9)
    np.testing.assert_array_equal(boxes, [[66.5, 0, 70, 40]])
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-4.1))], atol=1e-6)
    assert classes.tolist() == [0]


def test_script_has_thirty_lines_besides_imports_and_docstrings():
    text = SCRIPT.read_text()
    lines = {n for n, line in enumerate(text.splitlines(), 1) if re.match(r"\s*[^\s#]", line)}
    for node in ast.walk(ast.parse(text)):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, (ast.Import, ast.ImportFrom)):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    assert 20 < len(lines) <= 30


def test_script_imports_no_more_than_it_says():
    body = ast.parse(SCRIPT.read_text()).body
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imports] == [
        "import json",
        "import sys",
        "import numpy as np",
        "import onnxruntime as ort",
    ]


@pytest.mark.parametrize("max_size", [533, 50])
def test_script_prints_boxes_in_pixels_of_the_upright_photo(tmp_path: Path, max_size: int):
    """It is halved, or made still smaller, and turned by its EXIF orientation."""
    settings = replace(PLAIN.settings, min_size=45, max_size=max_size)
    session = write_detector(tmp_path / "model.onnx", replace(PLAIN, settings=settings))
    photo = Image.fromarray(noise(9, 6, seed=3)).resize((90, 135), Image.Resampling.NEAREST)
    exif = photo.getexif()
    exif[0x0112] = 6  # a quarter turn
    photo.save(tmp_path / "photo.png", exif=exif)
    command = [sys.executable, SCRIPT, tmp_path / "model.onnx", tmp_path / "photo.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    expected = Detector(ExportedPredictor(session)).predict(tmp_path / "photo.png", threshold=0.3)
    assert [line[0] for line in lines] == expected.names
    assert len(lines) > 3
    numbers = np.array([line[1:] for line in lines], float)
    np.testing.assert_allclose(numbers[:, 0], expected.scores, atol=0.01)
    np.testing.assert_allclose(numbers[:, 1:], expected.boxes, atol=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page with what lies beside it, by the commands of docs/deploy.md."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm; apt-get install npm")
    if not find_browser():
        pytest.skip("there is no Chromium; apt-get install chromium")
    folder = tmp_path_factory.mktemp("site")
    write_detector(folder / "model.onnx", PLAIN)
    Image.fromarray(noise(90, 50)).save(folder / "photo.png")
    shutil.copy(FOLDER / "index.html", folder)
    commands = re.search(r"^npm install .*?> model\.json$", DOCS.read_text(), re.M | re.S)
    assert commands
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    script = f"set -e\n{python}{commands[0]}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    if re.search("ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT", done.stderr):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder / "node_modules")  # over 100 MB


@pytest.mark.parametrize("width, threshold", list(zip(WIDTHS, (0.3, 0.75))))
def test_page_detects_as_the_script(site: Path, width: int, threshold: float):
    seen = show_page(site, f"index.html?image=photo.png&threshold={threshold}", width)
    session = ort.InferenceSession(site / "model.onnx")
    boxes, scores, classes = detect(session, noise(90, 50), threshold)
    assert len(boxes) > 5
    assert [found["label"] for found in seen.result] == classes.tolist()
    names = [PLAIN.settings.class_names[i] for i in classes]
    assert [found["name"] for found in seen.result] == names
    np.testing.assert_allclose([found["score"] for found in seen.result], scores, atol=1e-3)
    np.testing.assert_allclose([found["box"] for found in seen.result], boxes, atol=0.5)
    assert (seen.width, seen.beyond) == (width, [])
    assert f"{len(boxes)} objects found." in seen.text and f"{names[0]}\t" in seen.text


def test_page_says_what_is_missing(site: Path, tmp_path: Path):
    said = {"error": "none.png can't be fetched; put it beside this page."}
    seen = show_page(site, "index.html?image=none.png", width=400)
    assert seen.result == said and said["error"] in seen.text and seen.beyond == []
    assert show_page(site, "index.html?image=model.json").result == {
        "error": "model.json can't be read as an image; choose another file."
    }
    shutil.copy(FOLDER / "index.html", tmp_path)
    assert "install it there with npm" in show_page(tmp_path, "index.html").result["error"]


@pytest.mark.parametrize(
    "metadata, said",
    [
        (replace(PLAIN, has_nms=True), "without --nms"),
        (replace(PLAIN, fixed_size=(64, 64)), "The photo is 90 x 50 pixels, more than the file's"),
        (None, "model.json has no class_names"),
    ],
)
def test_page_refuses_what_it_can_not_use(
    site: Path, tmp_path: Path, metadata: Metadata | None, said: str
):
    for name in ("index.html", "model.onnx", "photo.png"):
        shutil.copy(site / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(site / "node_modules")
    (tmp_path / "model.json").write_text(json.dumps(metadata.to_props() if metadata else {}))
    seen = show_page(tmp_path, "index.html?image=photo.png")
    assert said in seen.result["error"]
