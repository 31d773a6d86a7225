"""Images on which an export is compared."""

import numpy as np
import pytest
from PIL import Image

from clq.exporting.batches import find_images, image_batches, random_batches
from clq.exporting.settings import settings_of
from clq.runtime.metadata import Metadata
from reference.members import member_config


def metadata(fixed_size=None, channels="RGB"):
    keys = {"INPUT.FORMAT": channels, "INPUT.MIN_SIZE_TEST": 40, "INPUT.MAX_SIZE_TEST": 100}
    names = ("bar", "block", "dot")
    settings = settings_of(
        member_config("clq", **keys), names, size_divisor=32, strides=(8, 16, 32, 64, 128)
    )
    mean = (10.0, 20.0, 30.0)
    return Metadata(settings, mean, (1.0, 1.0, 1.0), 0.3, "", "0", "", fixed_size=fixed_size)


def plain_image(path, width, height):
    Image.new("RGB", (width, height), (200, 100, 50)).save(path)
    return path


def test_random_batches_are_of_two_sizes_and_counts():
    shapes = [batch.shape for batch in random_batches(metadata())]
    assert shapes == [(1, 3, 192, 256), (3, 3, 224, 128)]
    assert [b.shape for b in random_batches(metadata((64, 96)))] == [(1, 3, 64, 96), (3, 3, 64, 96)]
    for batch in random_batches(metadata()):
        assert batch.dtype == np.float32 and (batch.min(), batch.max()) == (0, 255)


@pytest.mark.parametrize("channels, values", (("RGB", (200, 100, 50)), ("BGR", (50, 100, 200))))
def test_an_image_is_resized_and_padded_with_the_mean(tmp_path, channels, values):
    path = plain_image(tmp_path / "a.png", 160, 80)
    (batch,) = image_batches([path], metadata(channels=channels))
    assert batch.shape == (1, 3, 64, 96) and batch.dtype == np.float32
    for plane, value, mean in zip(batch[0], values, (10, 20, 30)):
        assert (plane[:40, :80] == value).all()
        assert (plane[40:] == mean).all() and (plane[:, 80:] == mean).all()


@pytest.mark.parametrize("width, height, inside", ((160, 80, (40, 80)), (80, 160, (64, 32))))
def test_an_image_fits_into_a_fixed_size(tmp_path, width, height, inside):
    path = plain_image(tmp_path / "a.png", width, height)
    (batch,) = image_batches([path], metadata((64, 96)))
    assert batch.shape == (1, 3, 64, 96)
    is_image = batch[0, 0] == 200
    assert (is_image.any(axis=1).sum(), is_image.any(axis=0).sum()) == inside


def test_folders_are_searched_and_many_images_thinned_out(tmp_path):
    (tmp_path / "below").mkdir()
    for i in range(40):
        (tmp_path / "below" / f"{i:02}.JPG").touch()
    (tmp_path / "note.txt").touch()
    found = find_images([tmp_path])
    assert [path.name for path in found] == [f"{i * 40 // 16:02}.JPG" for i in range(16)]
    assert find_images([tmp_path / "below" / "03.JPG"]) == [tmp_path / "below" / "03.JPG"]
    assert find_images([]) == []


def test_a_folder_without_images_is_told(tmp_path):
    """Though another one has some: it may be the wrong one."""
    for name in ("images/a.png", "videos/a.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"the folder .*videos has no image \(.bmp, .gif"):
        find_images([tmp_path / "images", tmp_path / "videos"])


def test_an_image_that_can_not_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ValueError, match=r"a.png can't be read \(it is no image\)"):
        list(image_batches([tmp_path / "a.png"], metadata()))
