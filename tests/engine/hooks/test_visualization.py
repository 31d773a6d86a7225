"""Images of predictions during training."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from detectron2.utils.events import EventStorage
from detectron2.utils.visualizer import Visualizer

from clq.engine import build_config
from clq.engine.hooks.visualization import VisualizationHook
from clq.runtime.detections import ImageDetections
from clq.utils.detectron2_private import stored_images
from reference.members import build
from reference.spoiling import cut_short
from reference.tiny import CLASS_NAMES, TinyData, command_line, parse, write_pair


@pytest.fixture
def storage() -> Iterator[EventStorage]:
    with EventStorage() as storage:
        yield storage


def hook_for(data: TinyData, folder: Path, storage: EventStorage, period: int) -> VisualizationHook:
    keys = {"VIS_PERIOD": period, "MODEL.CLQ.SCORE_THRESH_TEST": 0.05}
    cfg = build_config(parse(command_line(data, folder, keys=keys)))
    hook = VisualizationHook(cfg, build("clq").train(), CLASS_NAMES)
    hook.trainer = SimpleNamespace(iter=0, storage=storage)
    return hook


def run(hook: VisualizationHook, steps: range) -> list[tuple[str, np.ndarray, int]]:
    for hook.trainer.iter in steps:
        hook.trainer.storage.iter = hook.trainer.iter
        hook.after_step()
    return stored_images(hook.trainer.storage)


def test_every_image_is_logged_each_period(
    tiny_data: TinyData, tmp_path: Path, storage: EventStorage
):
    hook = hook_for(tiny_data, tmp_path, storage, period=3)
    shown = run(hook, range(6))
    names = [f"predictions/{i}.png" for i in range(3)]
    assert [(name, at) for name, _, at in shown] == [(n, at) for at in (2, 5) for n in names]
    # 64 x 96 and 80 x 64, each enlarged to about 800, ground truth beside detections
    assert [p.shape for _, p, _ in shown[:2]] == [(3, 512, 2 * 768), (3, 800, 2 * 640)]
    assert all(figure.dtype == np.uint8 for _, figure, _ in shown)
    assert all(module.training for module in hook._predictor.model.modules())


def test_ground_truth_is_on_the_left_and_detections_on_the_right(
    tiny_data: TinyData, tmp_path: Path, storage: EventStorage, monkeypatch: pytest.MonkeyPatch
):
    """Except for the detection with a score below 0.3."""
    hook = hook_for(tiny_data, tmp_path, storage, period=1)
    hook._records[0]["annotations"][1]["iscrowd"] = 1
    boxes = np.array([[2, 3, 4, 5], [70, 40, 90, 60]], np.float32)
    found = ImageDetections((64, 96), boxes, np.array([0.29, 0.31]), np.array([0, 2]))
    monkeypatch.setattr(hook._predictor, "find", lambda images: [found])
    drawn: list[tuple[list, list[str]]] = []

    def overlay(visualizer: Visualizer, *, boxes: np.ndarray, labels: list[str], **_: Any) -> Any:
        drawn.append((boxes.tolist(), labels))
        visualizer.output.get_image = lambda: np.full((512, 768, 3), len(drawn), np.uint8)
        return visualizer.output

    monkeypatch.setattr(Visualizer, "overlay_instances", overlay)
    _, figure, _ = run(hook, range(1))[0]
    assert (figure[:, :, :768] == 1).all() and (figure[:, :, 768:] == 2).all()
    content = tiny_data.val.content
    expected = [
        [8 * x, 8 * y, 8 * (x + w), 8 * (y + h)]
        for x, y, w, h in (content["annotations"][i]["bbox"] for i in (0, 2))
    ]
    assert drawn[0] == (expected, ["dot", "block"])
    assert drawn[1] == ([[560.0, 320.0, 720.0, 480.0]], ["dot 0.31"])


def test_an_unreadable_image_is_left_out(tmp_path: Path, storage: EventStorage):
    data = TinyData(*[write_pair(tmp_path, "val", num_images=6, seed=2)] * 2)
    hook = hook_for(data, tmp_path / "output", storage, period=1)
    (data.val.images / "1.png").unlink()
    cut_short(data.val.images / "3.png")
    assert [name for name, *_ in run(hook, range(1))] == ["predictions/0.png", "predictions/2.png"]
