"""OpenCV draws and reads videos; all else runs without it."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from reference.tiny import process_environment

SOURCE = """
import sys
sys.modules["cv2"] = None  # an import of it raises
from pathlib import Path
import clq.engine, clq.evaluation
from clq.runtime.inputs import probe, read_frames
path = Path(sys.argv[1])
(frame,) = read_frames(probe(path, path.parent))
print(frame.shape)
"""


def test_training_and_images_need_no_opencv(tmp_path: Path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (7, 5)).save(picture)
    done = subprocess.run(
        [sys.executable, "-c", SOURCE, str(picture)],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "(5, 7, 3)\n", done.stderr
