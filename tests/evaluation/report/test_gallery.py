"""The pictures of the report: which boxes are drawn, and what stands below."""

from clq.evaluation.report.gallery import Gallery
from clq.evaluation.report.thumbnails import Marks

TRUTH = {
    "annotations": [
        {"image_id": 1, "bbox": [0, 0, 9, 9]},
        {"image_id": "x", "bbox": [5, 5, 20.4, 30]},
    ]
}
DETECTIONS = [
    {"image_id": "x", "bbox": [6, 5, 20, 30], "score": 0.5},
    {"image_id": "x", "bbox": [90, 9, 9, 9], "score": 0.49},
]
ROW = {"image_id": "x", "file_name": "x.jpg", "bbox": [5, 5, 20.4, 30], "label": 1}


class Maker:
    """Notes what it is asked to draw."""

    def __init__(self) -> None:
        self.drawn: list[tuple] = []

    def whole(self, file_name, marks):
        self.drawn.append(("whole", file_name, marks))

    def crop(self, file_name, marks):
        self.drawn.append(("crop", file_name, marks))


def gallery():
    maker = Maker()
    return Gallery(maker, TRUTH, DETECTIONS, ["cell", "tree"], threshold=0.5), maker.drawn


def test_worst_images_show_what_reaches_the_threshold():
    made, drawn = gallery()
    row = {**ROW, "loss": 0.126, "found": 1, "missed": 2, "false": 1}
    (picture,) = made.worst_images([row])
    marks = Marks(truth=[[5, 5, 20.4, 30]], found=[[6, 5, 20, 30]])
    assert drawn == [("whole", "x.jpg", marks)]
    assert picture.title == "costs 0.13 points of AP"
    assert picture.caption == "x.jpg: 1 found, 2 missed, 1 false detection"


def test_missed_objects_and_false_detections():
    made, drawn = gallery()
    (missed,) = made.missed_objects([ROW])
    (false,) = made.false_detections([{**ROW, "score": 0.876}])
    assert (missed.title, missed.caption) == ("tree", "x.jpg, 20 × 30 pixels")
    assert false.title == "tree, score 0.88"
    assert drawn == [
        ("crop", "x.jpg", Marks(found=[[6, 5, 20, 30]], subject=[ROW["bbox"]])),
        ("crop", "x.jpg", Marks(truth=[[5, 5, 20.4, 30]], subject=[ROW["bbox"]])),
    ]


def test_suspects_say_what_the_detector_would_have():
    made, drawn = gallery()
    better = {"bbox": [6, 5, 20, 30], "label": 0}
    rows = [
        {**ROW, "kind": kind, "suggested": suggested, "score": 0.9}
        for kind, suggested in (
            ("missing", None),
            ("class", better),
            ("box", better),
            ("spurious", None),
        )
    ]
    assert [picture.title for picture in made.suspects(rows)] == [
        "tree: perhaps not labelled",
        "tree: perhaps cell",
        "tree: perhaps with a wrong box",
        "tree: perhaps no object",
    ]
    assert [marks.found for _, _, marks in drawn] == [[], [], [[6, 5, 20, 30]], []]
    assert all(marks.truth == [[5, 5, 20.4, 30]] for _, _, marks in drawn)
    assert len(made.suspects(rows * 20)) == 24
