"""The sentences of the report, on facts whose reading is clear."""

import pytest

from clq.evaluation.report import readings


def metric(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (47.849, "47.8"), (0.0, "0.0"), (100.0, "100.0")]
)
def test_numbers(value, text):
    assert readings.number(value) == text


def test_shares_and_counts():
    assert [readings.percent(share) for share in (None, 0.126, 1.0)] == ["–", "13 %", "100 %"]
    assert readings.counted(1, "class", "classes") == "1 class"
    assert readings.counted(5000, "image") == "5,000 images"


def test_metrics_tell_the_interval():
    facts = {"metrics": {"AP": metric(40.0, 37.5, 41.0)}, "counts": {"images": 1}}
    text = readings.read_metrics(facts)
    assert "AP is 40.0" in text and "37.5 and 41.0" in text
    assert text.endswith("with 1 image, a difference of less than 2.5 may be chance.")


def test_metrics_without_objects():
    facts = {"metrics": {"AP": metric(None)}, "counts": {"images": 3}}
    assert "no object to find" in readings.read_metrics(facts)


@pytest.mark.parametrize(("value", "images", "text"), [(40.0, 1, "1 image"), (0.0, 9, "9 images")])
def test_metrics_without_a_spread_claim_no_interval(value, images, text):
    facts = {"metrics": {"AP": metric(value, value, value)}, "counts": {"images": images}}
    assert readings.read_metrics(facts) == f"AP is {value}. {text} can't tell how far it varies."


CURVE = {"score": [0.0, 0.25, 0.5, 0.75, 1.0], "f1": [0.5, 0.795, 0.8, 0.2, None]}
BEST = {"score": 0.31, "precision": 0.75, "recall": 0.5, "f1": 0.8}


def test_thresholds_tell_how_far_they_may_be_moved():
    text = readings.read_thresholds(CURVE, BEST)
    assert "at least 0.31, 75 % are right, and they find 50 %" in text
    assert "Between 0.25 and 0.50 it is nearly as good" in text


def test_thresholds_without_a_match():
    assert "No detection finds an object" in readings.read_thresholds(CURVE, None)


def class_row(name, ap, objects=10):
    return {"name": name, "AP": ap, "objects": objects}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "No class has an object here."),
        ([class_row("a", 5.0)], "There is one class with objects, a: AP 5.0."),
        (
            [class_row("a", 50.0), class_row("b", 5.0, 1), class_row("c", None, 0)],
            "b suffers most, with AP 5.0 on 1 object; a is best with 50.0. "
            "1 class has no object here.",
        ),
        (
            [class_row("a", 0.0), class_row("b", 0.0), class_row("c", None, 0)],
            "All classes with objects have AP 0.0. 1 class has no object here.",
        ),
    ],
)
def test_classes(rows, text):
    assert readings.read_classes({"ap_by_class": rows}) == text


def test_sizes():
    metrics = {"APs": metric(None), "APm": metric(12.0), "APl": metric(55.0)}
    text = readings.read_sizes(metrics)
    assert text.startswith("Medium objects suffer most, with AP 12.0; large ones have 55.0.")
    assert text.endswith("There are no small objects.")


def test_equal_sizes():
    metrics = {"APs": metric(0.0), "APm": metric(0.0), "APl": metric(None)}
    text = readings.read_sizes(metrics)
    assert text == "Objects of all sizes have AP 0.0. There are no large objects."


@pytest.mark.parametrize(
    ("strict", "verdict"), [(60.0, "that fit."), (40.0, "loosely"), (10.0, "rough")]
)
def test_ious(strict, verdict):
    points = [{"iou": iou, "AP": ap} for iou, ap in ((0.5, 80.0), (0.75, strict), (0.95, 1.0))]
    assert verdict in readings.read_ious(points)


def test_errors_are_ranked():
    costs = {"classification": 1.0, "localization": 0.0, "missed": 4.25, "both": None}
    text = readings.read_errors({"delta_ap": costs})
    assert "lost to objects that nothing overlaps: 4.2 points" in text
    assert text.endswith("then to objects given another class, 1.0.")
    assert readings.read_errors({"delta_ap": {"missed": 0.0}}) == (
        "No kind of error, mended alone, would raise AP50."
    )


def test_confusion_counts_missed_false_and_mixed():
    facts = {
        "class_names": ["a", "b"],
        "counts": {"objects": 30},
        "confusion": {"score": 0.4, "matrix": [[7, 3, 2], [1, 9, 4], [5, 6, 0]]},
    }
    text = readings.read_confusion(facts)
    assert "misses 6 of 30 objects; 11 detections are false." in text
    assert text.endswith("a is taken for b most often: 3 times.")
    one = {"score": 0.4, "matrix": [[7, 2], [5, 0]]}
    text = readings.read_confusion({**facts, "class_names": ["a"], "confusion": one})
    assert text.endswith("; 5 detections are false.")


def reliability(score, value, error):
    bins = [{"count": 4, "score": score, "iou": value, "correct": value}]
    return {"bins": bins, "error_iou": error, "error_correct": error}


@pytest.mark.parametrize(
    ("score", "value", "error", "verdict"),
    [
        (0.9, 0.5, 0.4, "mostly too high"),
        (0.5, 0.9, 0.4, "mostly too low"),
        (0.52, 0.5, 0.02, "close to what it says"),
        (0.5, 0.5, None, "no detection"),
    ],
)
def test_reliability(score, value, error, verdict):
    assert verdict in readings.read_reliability(reliability(score, value, error), "iou")


def test_ranking():
    headroom = {"AP": 40.0, "AP_by_iou": 50.0, "realised": 0.8}
    text = readings.read_ranking({"headroom": headroom, "rank_correlation": 0.5})
    assert "would be 50.0 instead of 40.0: the score realises 80 %" in text
    assert text.endswith("The rank correlation of score and IoU is 0.50.")
    nothing = {"AP": None, "AP_by_iou": None, "realised": None}
    assert "nothing to rank" in readings.read_ranking(
        {"headroom": nothing, "rank_correlation": None}
    )


def test_suspects_are_counted_by_kind():
    kinds = ("class", 0.9), ("box", 0.7), ("class", 0.5), ("missing", 0.4)
    suspects = [{"kind": kind, "score": score} for kind, score in kinds]
    text = readings.read_suspects(suspects)
    assert text.startswith(
        "3 suspects reach a suspicion of 0.5: 2 perhaps of another class, 1 perhaps with a wrong"
    )
    assert readings.read_suspects(suspects[3:]).startswith("No suspect reaches a suspicion of 0.5")
    assert readings.read_suspects([]) == "No label looks wrong."
