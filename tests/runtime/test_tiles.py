"""Tiles of an image, and objects cut by their borders, against the untiled detections."""

import itertools

import numpy as np
import pytest

from clq.runtime.tiles import WHOLE, TiledDetections, merge_tiles, tile_boxes


def seen_in_tiles(
    boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, tiles: np.ndarray, least: float = 4
) -> TiledDetections:
    """Detect as a perfect detector would in each tile: the visible part of every object."""
    rows = []
    for t, (x0, y0, x1, y1) in enumerate(tiles.tolist()):
        for box, k, score in zip(boxes.tolist(), classes.tolist(), scores.tolist()):
            part = [max(box[0], x0), max(box[1], y0), min(box[2], x1), min(box[3], y1)]
            if min(part[2] - part[0], part[3] - part[1]) >= least:
                rows.append((part, score, k, t))
    parts, seen, labels, indices = zip(*rows)
    return TiledDetections(
        (tiles[-1, 3], tiles[-1, 2]),
        np.array(parts, np.float32),
        np.array(seen, np.float32),
        np.array(labels),
        np.array(indices),
    )


def as_set(boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> set:
    rows = zip(boxes.tolist(), classes.tolist(), scores.tolist())
    return {(*(round(side, 3) for side in box), k, round(score, 5)) for box, k, score in rows}


def scattered_objects(rng: np.random.Generator, tiles: np.ndarray, size: tuple[int, int]) -> tuple:
    """Draw boxes that leave a gap between one another, and end at no border of a tile."""
    height, width = size
    found = np.empty((0, 4))
    borders = np.concatenate((tiles[:, [0, 1]], tiles[:, [2, 3]]))  # x and y
    borders = np.where((borders > 0) & (borders < [width, height]), borders, -100)
    for sides in np.exp(rng.uniform(np.log(12), np.log(330), size=(800, 2))).round():
        if max(sides) > 3 * min(sides) or (sides > [width, height]).any():
            continue
        corner = rng.integers(0, np.array([width, height]) - sides + 1)
        box = np.concatenate((corner, corner + sides))
        is_near_border = abs(np.concatenate((borders, borders), axis=1) - box).min() < 6
        is_apart = (box[:2] > found[:, 2:] + 8) | (found[:, :2] > box[2:] + 8)
        if is_apart.any(axis=1).all() and not is_near_border:
            found = np.concatenate((found, box[None]))
    return found, rng.integers(3, size=len(found)), rng.uniform(0.1, 1, len(found)).astype("f")


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_objects_cut_by_borders_are_the_untiled_objects(seed: int, overlap: float):
    """Many are longer than the overlap, some longer than a tile."""
    size = (500, 640)
    tiles = tile_boxes(size, 150, overlap)
    boxes, classes, scores = scattered_objects(np.random.default_rng(seed), tiles, size)
    found = seen_in_tiles(boxes, classes, scores, tiles)
    assert len(found) > len(boxes) > 10
    merged = merge_tiles(found, tiles, iou_threshold=0.6)
    assert as_set(merged.boxes, merged.classes, merged.scores) == as_set(boxes, classes, scores)
    assert (np.diff(merged.scores) <= 0).all()


def reference_pairs(found: TiledDetections) -> np.ndarray:
    """All pairs of one class and different tiles, one by one."""
    return np.array(
        [
            (i, j)
            for i, j in itertools.combinations(range(len(found)), 2)
            if found.classes[i] == found.classes[j] and found.tile_of[i] != found.tile_of[j]
        ]
    )


def iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = np.prod(np.maximum(sides, 0))
    return common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_all_pairs_one_by_one(seed: int):
    """Boxes far from every border, which only NMS can remove; many overlap."""
    rng = np.random.default_rng(seed)
    count = 120
    corners = rng.uniform(20, 50, (count, 2))
    boxes = np.concatenate((corners, corners + rng.uniform(5, 40, (count, 2))), axis=1)
    found = TiledDetections(
        (1001, 1001),
        boxes.astype("f"),
        rng.uniform(size=count).astype("f"),
        rng.integers(2, size=count),
        rng.integers(-1, 2, size=count),
    )
    tiles = np.array([[0, 0, 1000, 1000], [1, 1, 1001, 1001]])  # no box is near a border
    pairs = {tuple(pair) for pair in reference_pairs(found).tolist()}
    kept: list[int] = []
    for i in np.argsort(-found.scores):
        pair_of = (tuple(sorted((int(i), j))) for j in kept)
        if not any(p in pairs and iou(*found.boxes[list(p)]) > 0.5 for p in pair_of):
            kept.append(int(i))
    merged = merge_tiles(found, tiles, iou_threshold=0.5)
    assert 30 < len(kept) < count - 20
    np.testing.assert_array_equal(merged.boxes, found.boxes[kept])
    np.testing.assert_array_equal(merged.scores, found.scores[kept])


def test_detections_of_one_tile_stay_to_the_last_bit():
    """Even where they overlap so much that NMS across tiles would remove one."""
    tiles = tile_boxes((100, 200), 100, 0.0)
    boxes = np.array([[10, 10, 50, 50], [11, 10, 50, 50], [110, 20, 133.3, 70]], "f")
    scores, tile_of = np.array([0.9, 0.8, 0.7], "f"), np.array([0, 0, 1])
    found = TiledDetections((100, 200), boxes, scores, np.zeros(3, int), tile_of)
    merged = merge_tiles(found, tiles, iou_threshold=0.6)
    np.testing.assert_array_equal(merged.boxes, boxes)


def merged_boxes(rows: list, tiles: np.ndarray, size: tuple[int, int]) -> list:
    boxes, scores, classes, tile_of = (np.array(column) for column in zip(*rows))
    found = TiledDetections(size, boxes.astype("f"), scores.astype("f"), classes, tile_of)
    return merge_tiles(found, tiles, iou_threshold=0.6).boxes.tolist()


def test_a_cut_box_of_higher_score_gives_way_to_the_whole_one():
    tiles = tile_boxes((100, 150), 100, 0.5)
    rows = [([70, 10, 100, 40], 0.9, 0, 0), ([70, 10, 110, 40], 0.6, 0, 1)]
    assert merged_boxes(rows, tiles, (100, 150)) == [[70, 10, 110, 40]]


def test_classes_are_merged_each_for_itself():
    tiles = tile_boxes((100, 200), 100, 0.0)
    rows = [([70, 10, 100, 40], 0.9, 0, 0), ([100, 10, 120, 40], 0.6, 1, 1)]
    assert len(merged_boxes(rows, tiles, (100, 200))) == 2
    rows[1] = (rows[1][0], 0.6, 0, 1)
    assert merged_boxes(rows, tiles, (100, 200)) == [[70, 10, 120, 40]]


def test_parts_meet_only_as_far_as_they_extend_along_the_border():
    tiles = tile_boxes((100, 200), 100, 0.0)
    rows = [([70, 10, 100, 40], 0.9, 0, 0), ([100, 35, 120, 70], 0.6, 0, 1)]
    assert len(merged_boxes(rows, tiles, (100, 200))) == 2


def test_the_whole_image_shows_what_no_tile_holds():
    tiles = tile_boxes((100, 260), 100, 0.2)
    rows = [
        ([10, 10, 250, 90], 0.7, 0, WHOLE),
        ([10, 10, 100, 90], 0.9, 0, 0),
        ([80, 10, 180, 90], 0.9, 0, 1),
        ([160, 10, 250, 90], 0.9, 0, 2),
    ]
    assert merged_boxes(rows, tiles, (100, 260)) == [[10, 10, 250, 90]]
    assert merged_boxes(rows[1:], tiles, (100, 260)) == [[10, 10, 250, 90]]


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (100, 100, 0.2, [0]),
        (60, 100, 0.2, [0]),
        (200, 100, 0.0, [0, 100]),
        (201, 100, 0.0, [0, 50, 101]),
        (180, 100, 0.2, [0, 80]),
        (340, 100, 0.2, [0, 80, 160, 240]),
    ],
)
def test_tiles_are_even(length: int, size: int, overlap: float, starts: list[int]):
    tiles = tile_boxes((50, length), size, overlap)
    assert tiles[:, 0].tolist() == starts
    assert tiles[:, 2].tolist() == [min(x + size, length) for x in starts]
    assert (tiles[:, [1, 3]] == [0, 50]).all()


@pytest.mark.parametrize("seed", range(20))
def test_tiles_cover_the_image_and_overlap_enough(seed: int):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 900, size=2)
    size, overlap = int(rng.integers(32, 400)), rng.uniform(0, 0.9)
    tiles = tile_boxes((height, width), size, overlap)
    covered = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in tiles:
        covered[y0:y1, x0:x1] = True
    assert covered.all() and (tiles >= 0).all()
    assert (tiles[:, 2] <= width).all() and (tiles[:, 3] <= height).all()
    for axis in (0, 1):
        starts = np.unique(tiles[:, axis])
        assert (np.diff(starts) <= size - int(size * overlap) + 1).all()


def test_many_detections_take_chunks(monkeypatch: pytest.MonkeyPatch):
    size = (500, 640)
    tiles = tile_boxes(size, 150, 0.2)
    boxes, classes, scores = scattered_objects(np.random.default_rng(0), tiles, size)
    found = seen_in_tiles(boxes, classes, scores, tiles)
    expected = merge_tiles(found, tiles, 0.6)
    monkeypatch.setattr("clq.runtime.tiles._MAX_PAIRS", 7)
    np.testing.assert_array_equal(merge_tiles(found, tiles, 0.6).boxes, expected.boxes)


def test_no_detections():
    empty = TiledDetections(
        (300, 300), np.empty((0, 4), "f"), np.empty(0, "f"), np.empty(0, int), np.empty(0, int)
    )
    assert len(merge_tiles(empty, tile_boxes((300, 300), 100, 0.2), 0.6)) == 0


def test_a_doubtful_box_does_not_replace_a_sure_one():
    """Of the whole image, and of the next tile: it covers the parts, but fits nothing."""
    size = (800, 1440)
    tiles = tile_boxes(size, 800, 0.2)
    rows = [([500, 300, 800, 500], 0.95, 0, 0), ([640, 300, 900, 500], 0.95, 0, 1)]
    joined = [500, 300, 900, 500]
    assert merged_boxes(rows, tiles, size) == [joined]
    for junk in (([300, 100, 1300, 780], 0.06, 0, WHOLE), ([660, 250, 1300, 780], 0.06, 0, 1)):
        assert merged_boxes([*rows, junk], tiles, size) == [joined, junk[0]]


def test_a_joined_box_suppresses_what_its_own_tiles_still_show():
    size = (800, 1440)
    tiles = tile_boxes(size, 800, 0.2)
    rows = [([500, 300, 800, 500], 0.95, 0, 0), ([640, 300, 900, 500], 0.95, 0, 1)]
    rows.append(([510, 310, 800, 490], 0.3, 0, 0))
    assert merged_boxes(rows, tiles, size) == [[500, 300, 900, 500]]


@pytest.mark.parametrize("seed", range(5))
def test_parts_need_not_end_at_the_border_exactly(seed: int):
    """Sides are off by some pixels, as those of a detector are."""
    rng = np.random.default_rng(seed)
    size = (800, 1440)
    tiles = tile_boxes(size, 800, 0.2)
    for _ in range(40):
        parts = np.array([[500, 300, 800, 500], [640, 300, 900, 500]]) + rng.normal(0, 4, (2, 4))
        rows = [
            (part.clip(0, [(800, 800), (1440, 800)][t] * 2), 0.9, 0, t)
            for t, part in enumerate(parts)
        ]
        rows[1][0][0] = max(rows[1][0][0], 640)
        assert len(merged_boxes(rows, tiles, size)) == 1


def test_parts_in_diagonal_tiles_do_not_remove_each_other():
    """Either is cut where the other goes on, and the tile that holds all of it has missed it."""
    size = (150, 150)
    tiles = tile_boxes(size, 100, 0.5)
    assert tiles[1:3].tolist() == [[50, 0, 150, 100], [0, 50, 100, 150]]
    rows = [([55, 55, 112, 100], 0.9, 0, 1), ([55, 55, 100, 112], 0.8, 0, 2)]
    assert merged_boxes(rows, tiles, size) == [rows[0][0]]
