"""What is told of images that are shrunk."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from insphere.data import ImageSpec, open_source
from insphere.data.image_notices import told_of_size
from insphere.data.image_sizes import lost_marks

TOLD = "Images of 800 × 600 pixels are shrunk to 64 × 48 by detectors other than photo: a mark below 12 pixels is lost."


def encoded(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(800, 600))
    return tmp_path


def shrunk(source):
    return [notice for notice in source.notices if notice.kind == "shrunk"]


def test_a_folder_a_zip_and_a_list_tell_that_small_marks_vanish(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", encoded(800, 600))
    pictures = [Image.open(photos / f"{number}.jpg") for number in range(3)]
    for source, count in ((photos, 3), (tmp_path / "photos.zip", 1), (pictures, 3), (str(photos / "*.jpg"), 3), ("plates:good", 100)):
        (notice,) = shrunk(open_source(source, split="train"))
        assert notice.text.startswith(TOLD) and notice.count == count
        assert "--image-size" in notice.text and "--detector photo" in notice.text
    assert shrunk(open_source(photos).take([0]))[0].count == 1


def test_a_size_that_was_asked_for_is_not_told_of(photos):
    for options in ({"image_size": 64}, {"spec": ImageSpec(48, 64, 3)}):
        assert not shrunk(open_source(photos, **options))
        assert not shrunk(open_source([Image.open(photos / "0.jpg")], **options))


def test_a_detector_that_wants_larger_images_loses_less(photos):
    source = open_source(photos)
    assert not shrunk(source.brought_to(ImageSpec(240, 320, 3)))
    (notice,) = shrunk(source.brought_to(ImageSpec(24, 32, 3)))
    assert "below 25 pixels" in notice.text


@pytest.mark.parametrize(
    ("natural", "size", "lost"),
    [
        ((600, 800), (48, 64), 12),
        ((600.0, 800.0), (600, 800), 1),
        ((20, 20), (64, 64), 1),
        ((100, 640), (50, 64), 10),
        ((399, 399), (100, 100), 3),
    ],
)
def test_lost_marks(natural, size, lost):
    assert lost_marks(natural, size) == lost
    told = told_of_size(1, natural, ImageSpec(*size, 1))
    assert bool(told) == (lost >= 4)
    assert not told or f"a mark below {lost} pixels is lost" in told[0].text


def test_pictures_that_are_large_already_do_not_need_another_detector():
    (notice,) = told_of_size(1, (3000.0, 4000.0), ImageSpec(224, 288, 3))
    assert "4000 × 3000 pixels are shrunk to 288 × 224: a mark below 13 pixels" in notice.text and "--detector" not in notice.text


def test_what_a_mark_leaves_of_itself():
    """The rule behind the words: a mark of the size told becomes about one pixel, one of half its side a quarter of that."""
    from insphere.data.images import bring_to

    contrasts = []
    for side in (12, 6):
        picture = np.zeros((600, 800), dtype=np.uint8)
        picture[300 : 300 + side, 400 : 400 + side] = 200
        contrasts.append(bring_to(Image.fromarray(picture), ImageSpec(48, 64, 1)).max() / 200)
    assert contrasts[0] > 0.5 and contrasts[1] < 0.3
