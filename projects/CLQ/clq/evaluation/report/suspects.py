"""Labels that the detector contradicts, as suspects of being wrong.

A suspicion in [0, 1] is heuristic. It compares what contradicts a label with the detections of the
same class that agree with theirs, so that it needs no calibrated score:

- "missing": a detection where the data has no object. trust ** 2
- "class": an object that is detected as another class. sqrt(trust) * (1 - trust in its own class)
- "box": an object whose box fits badly. sqrt(trust) * (1 - IoU / usual IoU of its class)
- "spurious": an object that nothing confirms. recall of its class * (1 - trust) / 2

The trust in a detection is the share of agreeing detections of its class that score no higher. It
is squared where nothing but the detection tells of an object, and its root is taken where detection
and data agree that there is one.

Letters: M objects and D detections of an image.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from hotcoco import mask

from .matches import MatchedRun
from .tables import DetectionTable, rows_by_image

_SAME_PLACE = 0.5  # IoU from which boxes are of one object
_NEAR = 0.1  # IoU from which a detection can be of an object with a wrong box
_LEAST_SUSPICION = 0.01


class Suspect(NamedTuple):
    """A label that may be wrong.

    Attributes:
        suspicion: in [0, 1].
        kind: "missing", "class", "box" or "spurious".
        object: row in the run's objects; None where it is missing.
        detection: row in the run's detections that contradicts; None where there is none.
    """

    suspicion: float
    kind: str
    object: int | None
    detection: int | None


class _Agreement:
    """Detections that agree with the data, by class: how they score and fit, how many there are."""

    def __init__(self, run: MatchedRun) -> None:
        matches = run.matches
        agrees = matches.is_match[:, 0]
        num_objects = matches.num_objects.sum(axis=0)
        classes = range(len(num_objects))
        rows = [np.flatnonzero(agrees & (matches.label == k)) for k in classes]
        self._scores = [matches.score[each][::-1] for each in rows]  # rising
        self._usual_iou = [np.median(matches.iou[each]) if len(each) else 1.0 for each in rows]
        self.recall = [len(each) / max(num_objects[k], 1) for k, each in zip(classes, rows)]

    def trust(self, label: int, score: float) -> float:
        """Share of the agreeing detections of a class that score no higher."""
        scores = self._scores[label]
        return float(np.searchsorted(scores, score, side="right") / max(len(scores), 1))

    def fit(self, label: int, iou: float) -> float:
        """IoU in proportion to what is usual for the class, at most 1."""
        return float(min(iou / self._usual_iou[label], 1))


def find_suspects(run: MatchedRun) -> list[Suspect]:
    """Find labels that may be wrong, the most suspicious first; crowds are never suspected."""
    agreement = _Agreement(run)
    num_images = len(run.matches.num_objects)
    found: list[Suspect] = []
    for rows, members in zip(
        rows_by_image(run.detections, num_images), rows_by_image(run.objects, num_images)
    ):
        if len(rows) or len(members):
            found += _suspects_of_image(run, agreement, rows, members)
    found = [suspect for suspect in found if suspect.suspicion >= _LEAST_SUSPICION]
    return sorted(found, key=lambda suspect: -suspect.suspicion)


def _suspects_of_image(
    run: MatchedRun, agreement: _Agreement, rows: np.ndarray, members: np.ndarray
) -> Iterator[Suspect]:
    """Suspect the objects ``members`` and the detections ``rows`` of an image."""
    found = run.detections[rows]
    is_crowd = run.objects.is_crowd[members]
    overlap = np.zeros((len(rows), len(members)))
    if overlap.size:
        overlap = mask.iou(found.box, run.objects.box[members], is_crowd)  # (D, M)
    is_explained = overlap.max(axis=1, initial=0) >= _SAME_PLACE  # (D,)
    for m in np.flatnonzero(~is_crowd).tolist():
        label = int(run.objects.label[members[m]])
        suspicion, kind, d = _suspect_object(agreement, found, overlap, m, label)
        if d is not None:
            is_explained[d] = True
        yield Suspect(suspicion, kind, int(members[m]), None if d is None else int(rows[d]))
    if not is_explained.all():
        among = mask.iou(found.box, found.box, np.zeros(len(rows), dtype=bool))
        for i in np.flatnonzero(~is_explained).tolist():
            if among[i, :i].max(initial=0) < _SAME_PLACE:  # no better one is there
                trust = agreement.trust(found.label[i], found.score[i])
                yield Suspect(trust**2, "missing", None, int(rows[i]))


def _suspect_object(
    agreement: _Agreement, found: DetectionTable, overlap: np.ndarray, m: int, label: int
) -> tuple[float, str, int | None]:
    """Suspicion and kind of what may be wrong with object m, and the detection that says so.

    Args:
        agreement: of the run.
        found: detections of the image, highest score first.
        overlap: IoU of detections and objects, (D, M).
        m: index of the object.
        label: its class.
    """
    is_own, is_there = found.label == label, overlap[:, m] >= _SAME_PLACE
    own = float(found.score[is_own & is_there].max(initial=0))
    others = np.flatnonzero(~is_own & is_there)
    if len(others) and found.score[others[0]] > own:
        d = int(others[0])
        trust = agreement.trust(found.label[d], found.score[d])
        return math.sqrt(trust) * (1 - agreement.trust(label, own)), "class", d
    is_nearest = is_own & (overlap[:, m] >= _NEAR) & (overlap[:, m] == overlap.max(axis=1))
    if is_nearest.any():
        d = int((is_nearest * found.score * overlap[:, m]).argmax())
        misfit = 1 - agreement.fit(label, overlap[d, m])
        return math.sqrt(agreement.trust(label, found.score[d])) * misfit, "box", d
    return agreement.recall[label] * (1 - agreement.trust(label, own)) / 2, "spurious", None
