"""Losses of single images against the evaluation of the others."""

import numpy as np
import pytest

from clq.evaluation import evaluate_boxes
from clq.evaluation.report.image_losses import approximate_losses, exact_losses, largest_losses
from clq.evaluation.report.matches import match_detections
from reference.made_up_run import made_up_run


def test_the_loss_is_what_the_evaluation_of_the_others_gains():
    content, found = made_up_run()
    ids = [image["id"] for image in content["images"]]
    ap = evaluate_boxes(content, found)["AP"]
    expected = [
        evaluate_boxes(content, found, img_ids=[id_ for id_ in ids if id_ != left_out])["AP"] - ap
        for left_out in ids
    ]
    matches = match_detections(content, found)
    assert exact_losses(matches, np.arange(len(ids))) == pytest.approx(expected, abs=1e-9)
    worst = largest_losses(matches, 3)
    assert list(worst) == np.argsort(expected)[::-1][:3].tolist()
    assert list(worst.values()) == pytest.approx(sorted(expected)[::-1][:3])


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_of_many_losses_are_found(seed: int):
    matches = match_detections(*made_up_run(150, seed=seed))
    exact = exact_losses(matches, np.arange(150))
    assert list(largest_losses(matches, 12)) == np.argsort(-exact)[:12].tolist()
    assert np.corrcoef(exact, approximate_losses(matches))[0, 1] > 0.9


def test_the_approximate_loss_is_a_derivative():
    """AP as the area under the curve: one class, whose detections are +-+ of 4 objects.

    Each in an image of its own, AP(w) = (w1 P1 + w3 P3) / (w1 + w2 + w3 + w4) where
    P1 = w1 / w1 and P3 = (w1 + w3) / (w1 + w2 + w3), as long as P1 > P3.
    """
    box = [0, 0, 10, 10]
    truth = {
        "images": [{"id": i, "width": 50, "height": 50} for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": box} for i in (1, 2, 3, 4)
        ],
    }
    places = {1: box, 2: [30, 30, 10, 10], 3: box}
    found = [
        {"image_id": i, "category_id": 1, "bbox": place, "score": 1 - i / 10}
        for i, place in places.items()
    ]
    # AP = (1 + 2/3) / 4. By w1: (1 + P3') / 4 - AP / 4 with P3' = (3 - 2) / 9, and so on.
    ap, falling, rising = 5 / 12, -2 / 9, 1 / 9
    slopes = [(1 + rising) / 4, falling / 4, (2 / 3 + rising) / 4, 0]
    expected = [-100 * (slope - ap / 4) for slope in slopes]
    assert approximate_losses(match_detections(truth, found)) == pytest.approx(expected)


def test_without_objects_or_other_images_nothing_is_lost():
    content, found = made_up_run()
    assert largest_losses(match_detections({**content, "annotations": []}, found), 3) == {}
    assert largest_losses(match_detections(content, []), 3) == {}
    alone = {key: content[key][:1] for key in ("images", "annotations")}
    assert largest_losses(match_detections({**content, **alone}, []), 3) == {}
