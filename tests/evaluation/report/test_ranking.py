"""The best ranking that the boxes of a run allow."""

import numpy as np

from clq.evaluation import evaluate_boxes
from clq.evaluation.report.matches import match_run
from clq.evaluation.report.measure import ranked_by_iou
from reference.made_up_detections import detections, truth


def test_ranking_by_the_true_iou_is_the_best_ranking():
    """Two boxes of some objects, one better than the other, in any order."""
    rng = np.random.default_rng(0)
    found = [*detections(30), *detections(5, seed=1), *detections(15, seed=2)]
    own = [{**d, "score": float(rng.random())} for d in found]
    best = ranked_by_iou(own, match_run(truth(), own))
    assert [d["bbox"] for d in best] == [d["bbox"] for d in own]
    aps = [evaluate_boxes(truth(), each)["AP"] for each in (own, best)]
    assert aps[0] + 5 < aps[1] < 100


def test_what_the_limit_leaves_out_is_left_out():
    own = [*detections(30), *detections(5, seed=1)]
    assert len(ranked_by_iou(own, match_run(truth(), own, max_detections=1))) == len(own) / 2
