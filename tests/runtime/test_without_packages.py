"""`python -m clq.runtime` on a real file where NumPy, Pillow and onnxruntime are all there is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clq.runtime import load
from reference.prediction import pixels, write_video
from reference.tiny import process_environment
from reference.tiny_graph import PLAIN, write_detector

SOURCE = """
import sys
for name in ("cv2", "detectron2", "fvcore", "iopath", "torch", "torchvision", "tqdm", "yacs"):
    sys.modules[name] = None  # an import of it raises
from clq.runtime.__main__ import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    write_detector(path, PLAIN)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SOURCE, *map(str, arguments)],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("options", [(), ("--batch-size", 3), ("--tile", 40), ("--augment",)])
def test_boxes_are_those_of_any_machine(options: tuple[object, ...], model: Path, tmp_path: Path):
    Image.fromarray(pixels(64, 96)).save(tmp_path / "a.png")
    Image.fromarray(pixels(80, 50)).convert("L").save(tmp_path / "b.jpg")
    done = run(model, tmp_path / "a.png", tmp_path / "b.jpg", "--output", tmp_path, *options)
    assert done.returncode == 0 and not done.stderr, done.stderr
    written = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    views = {"tile": 40} if "--tile" in options else {"augment": "--augment" in options}
    images = [tmp_path / "a.png", tmp_path / "b.jpg"]
    results = load(model).predict([str(image) for image in images], threshold=0, **views)
    scores = [score for result in results for score in result.scores.tolist()]
    np.testing.assert_allclose([entry["score"] for entry in written], scores, rtol=1e-6)
    assert len(scores) > 20


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text.txt", "it is no image, and videos need opencv-python-headless"),
        ("clip.avi", "it is no image, and videos need opencv-python-headless"),
        ("cut.png", "can't be read"),
    ],
)
def test_what_is_no_image_is_told_in_one_sentence(
    name: str, said: str, model: Path, tmp_path: Path
):
    (tmp_path / "text.txt").write_text("text")
    write_video(tmp_path / "clip.avi")
    Image.fromarray(pixels()).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    done = run(model, tmp_path / name, "--output", tmp_path / "out")
    assert done.returncode == 1 and not done.stdout
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {tmp_path}/{name} can't be read") and said in first
    assert second == "predictions.json was not written"
    assert not list(tmp_path.glob("out/*"))
