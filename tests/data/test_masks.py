"""Masks: which pixels are marked, whose they are, and what is refused."""

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from insphere.data import ImageSource, open_source
from insphere.data.layouts import read_layout
from insphere.data.masks import decode_mask, mask_at_size
from insphere.errors import DataError, ParameterError

MARKED = np.zeros((6, 5), bool)
MARKED[1:3, 2:4] = True


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def mask_png(mask: NDArray[np.bool_] = MARKED) -> bytes:
    return encoded(Image.fromarray(np.uint8(255) * mask))


@pytest.fixture(params=["folder", "zip"])
def door(request: pytest.FixtureRequest, write_tree: Callable[..., Path], tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Write files as a folder, or as a zip."""

    def write(files: dict[str, bytes]) -> Path:
        if request.param == "folder":
            return write_tree(files)
        path = tmp_path / "tree.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return write


@pytest.fixture
def files(png: Callable[..., bytes]) -> dict[str, bytes]:
    return {
        "train/good/0.png": png(),
        "test/good/0.png": png(value=9),
        "test/crack/0.png": png(value=4),
        "test/crack/1.png": png(value=5),
        "test/dent/0.png": png(value=6),
        "ground_truth/crack/0_mask.png": mask_png(),
        "ground_truth/dent/0.png": mask_png(MARKED[::-1]),
        "ground_truth/dent/7_mask.png": mask_png(),
    }


class TestDecoding:
    @pytest.mark.parametrize(
        "image",
        [
            Image.fromarray(np.uint8(255) * MARKED),
            Image.fromarray(np.uint8(1) * MARKED),
            Image.fromarray(MARKED),
            Image.fromarray(np.uint16(3) * MARKED),
            Image.fromarray(np.int32(70_000) * MARKED),
            Image.fromarray(np.stack([0 * MARKED, 0 * MARKED, 1 * MARKED], axis=2).astype(np.uint8)),
            Image.fromarray(np.stack([255 * np.ones_like(MARKED, int)] * 3 + [255 * MARKED], axis=2).astype(np.uint8)),
            Image.fromarray(np.uint8(200) * MARKED).convert("P"),
        ],
        ids=["255", "1", "bits", "16 bits", "32 bits", "nearly black", "transparent", "palette"],
    )
    @pytest.mark.parametrize("format", ["PNG", "TIFF"])
    def test_what_is_not_black_is_marked(self, image: Image.Image, format: str) -> None:
        # Of numbers, PNG holds 16 bits at most.
        np.testing.assert_array_equal(decode_mask(encoded(image, "TIFF" if image.mode == "I" else format)), MARKED)

    @pytest.mark.parametrize("format", ["JPEG", "WEBP"])
    def test_blurred_edges_are_not_marked(self, format: str) -> None:
        mask = np.zeros((32, 32), bool)
        mask[8:16, 10:24] = True
        np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(np.uint8(255) * mask), format, quality=60)), mask)

    def test_turned_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(Image.fromarray(np.uint8(255) * MARKED), exif=exif)
        np.testing.assert_array_equal(decode_mask(data), np.rot90(MARKED, -1))

    @pytest.mark.parametrize("data", [b"", b"text", mask_png()[:40]])
    def test_what_is_no_image(self, data: bytes) -> None:
        with pytest.raises(DataError):
            decode_mask(data)

    @settings(max_examples=100)
    @given(st.binary(max_size=200), st.integers(0, 60), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    def test_damaged_bytes_are_errors_about_them(self, damage: bytes, start: int, format: str) -> None:
        data = encoded(Image.fromarray(np.uint8(255) * MARKED), format)
        with contextlib.suppress(DataError):
            assert decode_mask(data[:start] + damage + data[start + len(damage) :]).dtype == bool

    @settings(max_examples=60)
    @given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.data())
    def test_no_mark_vanishes_and_none_appears(self, height: int, width: int, to_height: int, to_width: int, data: st.DataObject) -> None:
        mask = np.zeros((height, width), bool)
        row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        mask[row, column] = True
        found = np.argwhere(mask_at_size(mask, to_height, to_width))
        if to_height <= height and to_width <= width:
            assert len(found) == 1  # the pixel that holds its middle
        middles = (found + 0.5) * (height / to_height, width / to_width)
        reach = np.maximum((1, 1), (height / to_height, width / to_width))
        assert (np.abs(middles - (row + 0.5, column + 0.5)) <= reach).all()

    def test_sizes_are_checked(self) -> None:
        with pytest.raises(ParameterError, match="height"):
            mask_at_size(MARKED, 0, 3)


class TestSource:
    def test_each_mask_goes_with_its_picture(self, door: Callable[..., Path], files: dict[str, bytes]) -> None:
        source = open_source(door(files))
        assert isinstance(source, ImageSource) and source.n_masks == 2
        masks = dict(zip(source.ids or (), map(source.mask, range(len(source))), strict=True))
        np.testing.assert_array_equal(masks.pop("test/crack/0.png"), MARKED)
        np.testing.assert_array_equal(masks.pop("test/dent/0.png"), MARKED[::-1])
        assert set(masks.values()) == {None}

    def test_masks_survive_narrowing_and_resizing(self, door: Callable[..., Path], files: dict[str, bytes]) -> None:
        source = open_source(door(files))
        for narrowed in (source.part("test"), source.take([2, 1, 0]), source.brought_to(source.spec)):  # type: ignore[arg-type]
            assert isinstance(narrowed, ImageSource)
            row = list(narrowed.ids or ()).index("test/crack/0.png")
            np.testing.assert_array_equal(narrowed.mask(row), MARKED)
        train = open_source(source, split="train")
        assert isinstance(train, ImageSource) and train.n_masks == 0

    def test_are_counted_and_told(self, door: Callable[..., Path], files: dict[str, bytes]) -> None:
        texts = [notice.text for notice in open_source(door(files)).notices]
        assert any("are not rows: 3 (2 of 3 anomalies have one; without a picture: 1)." in text for text in texts)

    @pytest.mark.parametrize(
        ("masks", "owner"),
        [
            ({"ground_truth/dent/1_mask.png"}, None),  # of another type
            ({"ground_truth/1_mask.png"}, "test/crack/1.png"),
            ({"masks/1.png"}, "test/crack/1.png"),
            ({"masks/a/1.png", "masks/b/1.png"}, None),  # one of two
            ({"ground_truth/crack/1_mask.png", "masks/1.png"}, "test/crack/1.png"),
            ({"masks/0.png"}, None),  # of one of two pictures
        ],
    )
    def test_a_mask_that_may_be_of_another_picture_is_of_none(
        self, door: Callable[..., Path], png: Callable[..., bytes], masks: set[str], owner: str | None
    ) -> None:
        pictures = ("train/good/0.png", "test/good/1.png", "test/crack/0.png", "test/crack/1.png", "test/dent/0.png")
        source = open_source(door({name: png() for name in pictures} | dict.fromkeys(masks, mask_png())))
        assert isinstance(source, ImageSource)
        found = [name for row, name in enumerate(source.ids or ()) if source.mask(row) is not None]
        assert found == ([] if owner is None else [owner])

    def test_a_longest_side(self, door: Callable[..., Path], files: dict[str, bytes]) -> None:
        source = open_source(door(files), split="test")
        assert isinstance(source, ImageSource)
        with source.opened_masks(longest_side=3) as mask_of, source.opened_masks(longest_side=600) as whole:
            small, large = mask_of(0), whole(0)
        assert small is not None and small.shape == (3, 2) and small.any()
        np.testing.assert_array_equal(large, MARKED)

    def test_nothing_is_read_before_it_is_asked_for(self, door: Callable[..., Path], files: dict[str, bytes]) -> None:
        source = open_source(door(files | {"ground_truth/crack/0_mask.png": b"damaged"}), split="test")
        assert isinstance(source, ImageSource) and source.n_masks == 2
        assert source.mask(2) is not None and source.mask(1) is None
        with pytest.raises(DataError, match=r"The mask ground_truth/crack/0_mask.png is not an image"):
            source.mask(0)

    def test_of_another_size_is_refused_with_both(self, door: Callable[..., Path], files: dict[str, bytes]) -> None:
        source = open_source(door(files | {"ground_truth/crack/0_mask.png": mask_png(MARKED.T)}), split="test")
        assert isinstance(source, ImageSource)
        with pytest.raises(DataError, match=r"crack/0_mask.png has 6 × 5 pixels, but its picture has 5 × 6; store the mask"):
            source.mask(0)

    def test_sources_without_masks(self, door: Callable[..., Path], png: Callable[..., bytes]) -> None:
        source = open_source(door({"good/0.png": png(), "bad/1.png": png(value=3)}))
        assert isinstance(source, ImageSource) and source.n_masks == 0 and source.mask(0) is None


@pytest.mark.data
def test_masks_of_the_magnetic_tiles(data_dir: Path) -> None:
    source = open_source(data_dir / "magnetic-tiles.zip", split="test")
    assert isinstance(source, ImageSource) and source.n_masks == 64 and source.labels is not None
    with source.opened_masks() as mask_of:
        masks = [mask_of(position) for position in range(len(source))]
    assert [mask is not None and bool(mask.any()) for mask in masks] == (source.labels == 1).tolist()


@pytest.mark.parametrize("folder", ["scratch_mask", "defect_masks", "mask_bad", "bad_gt", "binary_masks", "good_mask", "labels/bad_mask"])
def test_folders_whose_longer_names_say_masks_hold_no_rows(folder: str) -> None:
    images = [*(f"good/{number}.png" for number in range(3)), *(f"bad/{number}.png" for number in range(2))]
    layout = read_layout([*images, f"{folder}/0.png", f"{folder}/1.png"], name="line")
    assert [images[row] for row in layout.positions] == images
    assert [code == 1 for code in layout.codes] == [False] * 3 + [True] * 2


def test_masks_that_people_wear_are_rows() -> None:
    names = [f"{kind}/{number}.png" for kind in ("face_mask/good", "face_mask/bad") for number in range(2)]
    assert len(read_layout(names, name="shop").positions) == 4
