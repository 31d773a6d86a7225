"""Splits: near-identical images on one side, classes in equal shares and on both sides."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from clq.data.split import group_near_identical, split_groups


def photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Smooth random colours, as different from another seed's as two photographs."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def test_copies_are_found_however_they_are_stored(tmp_path: Path):
    image = photograph(1)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.jpg", quality=40)
    image.resize((97, 61)).save(tmp_path / "c.png")
    image.point(lambda value: value * 0.6 + 20).save(tmp_path / "d.png")
    image.filter(ImageFilter.GaussianBlur(2)).save(tmp_path / "e.png")
    for seed in (2, 3):
        photograph(seed).save(tmp_path / f"other{seed}.png")
    (tmp_path / "broken.png").write_text("x")
    for name, color in (("flat1.png", "grey"), ("flat2.png", "grey"), ("flat3.png", "white")):
        Image.new("RGB", (40, 40), color).save(tmp_path / name)
    names = ["a.png", "other2.png", "b.jpg", "c.png", "d.png", "other3.png", "e.png", "broken.png"]
    names += ["none.png", "flat1.png", "flat2.png", "flat3.png"]
    found = group_near_identical([str(tmp_path / name) for name in names])
    assert found.groups.tolist() == [0, 1, 0, 0, 0, 2, 0, 3, 4, 5, 5, 6]
    assert found.num_unread == 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_copy_that_is_turned_by_its_exif_is_found(suffix: str, tmp_path: Path):
    image = photograph(1)
    image.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / f"b.{suffix}", exif=exif)
    turned.save(tmp_path / "c.png")
    paths = [str(tmp_path / name) for name in ("a.png", f"b.{suffix}", "c.png")]
    assert group_near_identical(paths).groups.tolist() == [0, 0, 1]


def test_frames_are_chained(tmp_path: Path):
    """The first and the last differ, but each frame is near the next."""
    scene = photograph(4, (400, 120))
    for shift in range(0, 200, 4):
        scene.crop((shift, 0, shift + 160, 120)).save(tmp_path / f"{shift:03}.png")
    paths = sorted(map(str, tmp_path.iterdir()))
    assert len(set(group_near_identical(paths).groups.tolist())) == 1
    assert len(set(group_near_identical([paths[0], paths[-1]]).groups.tolist())) == 2


def random_data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects of 300 images and 12 classes from frequent to rare, and the groups of the images."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(np.geomspace(3, 0.02, 12), (300, 12))
    counts[::30] = 0
    return counts, np.unique(rng.integers(0, 220, 300), return_inverse=True)[1]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_shares_groups_and_both_sides(share: float, seed: int):
    counts, groups = random_data(seed)
    chosen = split_groups(counts, groups, share, seed=seed)
    for group in range(groups.max() + 1):
        assert len(set(chosen[groups == group])) == 1
    for column in counts.T:
        if len(set(groups[column > 0])) > 1:
            assert column[chosen].sum() > 0 and column[~chosen].sum() > 0
        if column.sum() >= 100:
            assert abs(column[chosen].sum() / column.sum() - share) < 0.015
    assert abs(chosen.mean() - share) < 0.02
    empty = counts.sum(axis=1) == 0
    assert empty.sum() > 3 and 0 < chosen[empty].sum() < empty.sum()


def test_it_is_nearer_to_the_shares_than_chance():
    counts, groups = random_data(0)
    totals = counts.sum(axis=0)

    def error(chosen: np.ndarray) -> float:
        return float(np.abs(counts[chosen].sum(axis=0) / totals - 0.2).mean())

    rng = np.random.default_rng(0)
    by_chance = [error(rng.random(groups.max() + 1)[groups] < 0.2) for _ in range(50)]
    assert error(split_groups(counts, groups, 0.2)) < min(by_chance) / 2


def test_the_seed_decides():
    counts, groups = random_data(1)
    first, again, other = (split_groups(counts, groups, 0.2, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_two_groups_of_a_class_are_parted():
    counts = np.array([[1, 5], [1, 5], [0, 5], [0, 5], [0, 5]])
    chosen = split_groups(counts, np.arange(5), 0.2)
    assert chosen[:2].sum() == 1 and chosen.sum() == 1


def test_a_class_of_one_group_stays_whole():
    counts = np.array([[4, 1], [4, 1], [0, 1], [0, 1], [0, 1]])
    chosen = split_groups(counts, np.array([0, 0, 1, 2, 3]), 0.25)
    assert chosen[0] == chosen[1] and 0 < chosen[2:].sum() < 3 or chosen[:2].all()


def test_images_without_a_class_are_split():
    chosen = split_groups(np.zeros((10, 0), dtype=np.int64), np.arange(10), 0.3)
    assert chosen.sum() == 3


@pytest.mark.parametrize("count", [0, 3])
def test_one_group_can_not_be_split(count: int):
    with pytest.raises(ValueError, match="all images are near-identical"):
        split_groups(np.ones((count, 2), dtype=np.int64), np.zeros(count, dtype=np.int64), 0.2)
