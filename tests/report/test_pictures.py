"""Which rows are shown, and how images get into the page."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from insphere.report.pictures import choose_galleries, data_uri, to_pixels
from report.test_charts import judged


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


def test_galleries_of_labelled_rows_hold_the_mistakes() -> None:
    rows = judged([0.1, 0.9, 0.2, 0.8, 0.6, 0.4], [0, 0, 1, 1, 0, 1])
    found = {gallery.name: gallery for gallery in choose_galleries(rows, 0.5, 2)}
    assert {name: gallery.rows.tolist() for name, gallery in found.items()} == {
        "anomalous": [1, 3],
        "alarms": [1, 4],
        "missed": [2, 5],
        "near": [5, 4],
        "normal": [0, 2],
    }
    assert found["alarms"].n_all == 2 and found["anomalous"].n_all == 6


def test_galleries_without_labels_or_mistakes() -> None:
    assert [gallery.name for gallery in choose_galleries(judged([0.1, 0.9]), 0.5, 5)] == ["anomalous", "near", "normal"]
    assert [gallery.name for gallery in choose_galleries(judged([0.1, 0.9], [0, 1]), 0.5, 5)] == ["anomalous", "near", "normal"]


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))))
def test_small_pictures_keep_their_pixels(pixels: np.ndarray) -> None:
    image = opened(data_uri(pixels, 64))
    if image.format == "PNG":
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    else:
        assert image.size == pixels.shape[1::-1]


@pytest.mark.parametrize(
    ("shape", "size"), [((300, 200, 3), (43, 64)), ((1, 500, 1), (64, 1)), ((64, 64, 3), (64, 64)), ((2, 3, 1), (3, 2))]
)
def test_large_pictures_are_scaled_to_fit(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    assert opened(data_uri(np.zeros(shape, np.uint8), 64)).size == size


def test_a_picture_is_bounded_whatever_it_shows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    assert len(data_uri(noise, 64)) < 10_000


def test_pixels_of_every_kind_of_image() -> None:
    assert to_pixels(np.full((1, 2, 2, 1), 7, np.uint8), from_files=False).max() == 7
    assert to_pixels(np.full((1, 2, 2, 1), 300.4), from_files=True).max() == 255
    assert to_pixels(np.zeros((1, 2, 2, 5)), from_files=False).shape == (1, 2, 2, 1)
    assert to_pixels(np.linspace(-3, 5, 12).reshape(1, 2, 2, 3), from_files=False).ravel()[[0, -1]].tolist() == [0, 255]
    assert to_pixels(np.full((1, 2, 2, 1), 0.5), from_files=False).max() == 0
