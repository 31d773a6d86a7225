"""Matches of a run, written to a file and read again."""

from pathlib import Path

import numpy as np

from benchmarks.accuracy.matches_file import load_matches, save_matches
from clq.evaluation.report.matches import match_detections
from reference.made_up_detections import detections, truth


def test_a_file_keeps_everything(tmp_path: Path):
    content = truth()
    content["annotations"][4]["iscrowd"] = 1
    matches = match_detections(content, detections(14))
    save_matches(tmp_path / "a.npz", matches)
    loaded = load_matches(tmp_path / "a.npz")
    for name, value in vars(matches).items():
        tolerance = 5e-4 if name in ("score", "iou") else 0
        np.testing.assert_allclose(getattr(loaded, name), value, rtol=tolerance, err_msg=name)
    assert matches.is_match.any() and matches.is_ignored.any()
    assert (np.diff(loaded.score) <= 0).all()
