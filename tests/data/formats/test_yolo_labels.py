"""Lines of YOLO label files: numbers that survive their form as text, and what is refused."""

import numpy as np
import pytest

from clq.data.formats.yolo_labels import parse_labels, text_error

SIZE = (96, 64)


def boxes(*lines: str, size: tuple[int, int] = SIZE) -> list[tuple[float, ...]]:
    found = parse_labels(lines, size, 3)
    assert found.problems == []
    return [entry.box for entry in found.objects]


def test_a_box_by_hand():
    (entry,) = parse_labels(["2 0.5 0.25 0.25 0.125"], SIZE, 3).objects
    assert entry == (2, (36, 12, 60, 20), False)


def test_a_polygon_becomes_its_bounding_box():
    assert boxes("0 0.25 0.5 0.75 0.25 0.5 1") == [(24, 16, 72, 64)]
    rotated = "1 0.5 0 1 0.5 0.5 1 0 0.5"  # four corners
    assert boxes(rotated) == [(0, 0, 96, 64)]


def test_keypoints_are_not_read():
    line = "0 0.5 0.5 0.5 0.5 0.1 0.1 2 7.5 0.3 1"
    assert parse_labels([line], SIZE, 3, has_keypoints=True).objects[0].box == (24, 16, 72, 48)


@pytest.mark.parametrize("form", ["{:.6f}", "{:.4f}", "{:.10f}", "{:.6g}", "{:.7g}", "{!r}"])
@pytest.mark.parametrize("size", [(96, 64), (641, 427), (1920, 1080), (4032, 3024)])
def test_whole_pixels_survive_every_form(form: str, size: tuple[int, int]):
    rng = np.random.default_rng(5)
    size = (96, 64) if form == "{:.4f}" else size  # too coarse for large images
    corners = np.sort(rng.integers(0, np.array(size) + 1, (200, 2, 2)), axis=1)  # start, end; x, y
    lines = []
    for start, end in corners.tolist():
        fractions = [(a + b) / 2 / s for a, b, s in zip(start, end, size)]
        fractions += [(b - a) / s for a, b, s in zip(start, end, size)]
        lines.append(" ".join(["0", *map(form.format, fractions)]))
    assert boxes(*lines, size=size) == [(*start, *end) for start, end in corners.tolist()]


def test_other_edges_keep_their_place():
    """Full precision gives the box to float32, and nothing draws it to a whole pixel."""
    rng = np.random.default_rng(6)
    xywh = rng.uniform(0.1, 30, (200, 4))
    lines = [
        f"0 {(x + w / 2) / 96!r} {(y + h / 2) / 64!r} {w / 96!r} {h / 64!r}"
        for x, y, w, h in xywh.tolist()
    ]
    expected = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)
    found = np.array(boxes(*lines))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.astype("f4"), expected.astype("f4"))


def test_short_numbers_are_exact():
    """0.3 of 97 pixels is 29.1: one decimal is no rounding to a tenth of the image."""
    ((x0, _, x1, _),) = boxes("0 0.5 0.5 0.4 0.4", size=(97, 64))
    assert (x0, x1) == pytest.approx((29.1, 67.9), abs=1e-9)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0.500000", "0.046875"], 0.5e-6),
        (["0.5000", "1.0000", "0.0312"], 0.5e-4),
        (["0.50469", "0.5", "0.046875"], 0.5e-6),
        (["0.0504688", "0.504688"], 0.5e-6),  # C's %g
        (["0.5", "0.25"], 0.5e-6),
        (["0.5", "1"], 0.5e-6),
        (["0.50468751", "0.5"], 2**-25),
        ([], 0),
    ],
)
def test_rounding_error_of_a_text(texts: list[str], expected: float):
    assert text_error(texts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("line", "predicate"),
    [
        ("0 0.5 0.5 0.5", "has 4 numbers instead of 5"),
        ("0", "has 1 numbers instead of 5"),
        ("0 0.5 0.5 0.5 0.5 0.9", "has 6 numbers instead of 5"),
        ("3 0.5 0.5 0.5 0.5", "has the class 3, but the 3 names are those of 0 to 2"),
        ("-1 0.5 0.5 0.5 0.5", "has the class -1"),
        ("0.5 0.5 0.5 0.5 0.5", "has the class 0.5"),
        ("cat 0.5 0.5 0.5 0.5", "has 'cat', which is no number"),
        ("0 nan 0.5 0.5 0.5", "has 'nan', which is no number"),
        ("0 0.5 inf 0.5 0.5", "has 'inf', which is no number"),
        ("0 0,5 0.5 0.5 0.5", "has '0,5', which is no number"),
        ("0 1_0 0.5 0.5 0.5", "has '1_0', which is no number"),
        ("0 1.01 0.5 0.5 0.5", "has 1.01, which is no fraction of the image from 0 to 1"),
        ("0 0.5 0.5 0.5 -0.1", "has -0.1, which is no fraction"),
        ("0 240 120 64 64", "has 240, which is no fraction"),
    ],
)
def test_a_wrong_line_is_told_and_the_others_are_read(line: str, predicate: str):
    found = parse_labels(["1 0.5 0.5 0.5 0.5", "", line, "2 0.5 0.5 0.5 0.5"], SIZE, 3)
    assert [entry.class_index for entry in found.objects] == [1, 2]
    ((number, text),) = found.problems
    assert number == 3 and text.startswith(predicate)


def test_numbers_in_other_notations():
    assert boxes("0.0 5e-1 .25 2.5E-1 1.25e-1") == boxes("0 0.5 0.25 0.25 0.125")
