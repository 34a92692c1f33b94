"""Maps over pictures of any size, and the folder of files that `insphere score --maps` writes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from insphere.data import AbstractSource, ArraySource, ImageSource, ImageSpec, RowFacts
from insphere.data.stores import BytesStore, FileStore
from insphere.decision.scored import ScoredRows
from insphere.errors import DataError
from insphere.explain.map_files import FULL_SCALE, MapFiles, to_16_bits
from insphere.explain.maps import CALM, CONTOUR_COLOR, LEVEL, MASK_COLOR, STRIKING, at_size, draw_map, opened_pictures
from insphere.output_file import OutputError


def photo(height: int, width: int, **options: Any) -> bytes:
    """Return a photo whose pixels all differ."""
    pixels = np.random.default_rng(height).integers(0, 200, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def source_of(*blobs: bytes, ids: tuple[str, ...] | None = None) -> ImageSource:
    return ImageSource("photos", BytesStore(blobs), RowFacts(ids), ImageSpec(8, 8, 3))


def batch_of(maps: NDArray[Any] | None, index: list[int]) -> ScoredRows:
    scores = np.zeros(len(index))
    return ScoredRows(np.array(index), scores, scores, scores > 0, {}, maps=None if maps is None else maps.astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 60), st.integers(1, 60), st.integers(0, 100))
def test_a_map_at_another_size_stays_within_its_values(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    heatmap = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    shown = at_size(heatmap, to_height, to_width)
    assert shown.shape == (to_height, to_width)
    assert heatmap.min() - 1e-5 <= shown.min() and shown.max() <= heatmap.max() + 1e-5
    np.testing.assert_allclose(at_size(np.full((height, width), 0.7), to_height, to_width), 0.7, rtol=1e-6)


def test_places_keep_their_place() -> None:
    heatmap = np.zeros((4, 6))
    heatmap[1, 4] = 1.0
    shown = at_size(heatmap, 40, 60)
    assert shown.max() > 0.85 and np.argwhere(shown > 0.85).mean(axis=0).tolist() == [14.5, 44.5]


class TestDrawing:
    picture = np.random.default_rng(0).integers(0, 200, (60, 90, 3), dtype=np.uint8)

    def test_calm_places_stay_as_they_are(self) -> None:
        np.testing.assert_array_equal(draw_map(self.picture, np.full((3, 4), CALM)), self.picture)

    def test_the_contour_is_where_the_level_is(self) -> None:
        heatmap = np.zeros((6, 9))
        heatmap[2:4, 3:6] = 2 * LEVEL
        drawn = draw_map(self.picture, heatmap)
        contour = (drawn == CONTOUR_COLOR).all(axis=2)
        inside = at_size(heatmap, 60, 90) >= LEVEL
        assert contour.any() and (inside | ~contour).all()
        rows, columns = np.nonzero(inside)
        assert contour[rows.min(), columns[rows == rows.min()]].all() and not contour[30, 45]
        np.testing.assert_array_equal(drawn[:8, :8], self.picture[:8, :8])

    @pytest.mark.parametrize("value", [LEVEL - 1e-3, LEVEL, 5.0])
    def test_no_contour_runs_along_the_border(self, value: float) -> None:
        assert not (draw_map(self.picture, np.full((3, 4), value)) == CONTOUR_COLOR).all(axis=2).any()

    def test_hotter_is_brighter_and_means_the_same_in_every_picture(self) -> None:
        dark = np.zeros((4, 4), np.uint8)
        brightness = [draw_map(dark, np.full((2, 2), value)).sum() for value in (CALM, 0.8, 1.2, 1.6, STRIKING, 9.0)]
        assert brightness[:5] == sorted(set(brightness[:5])) and brightness[4] == brightness[5]

    def test_a_mask_is_a_dashed_line(self) -> None:
        mask = np.zeros((60, 90), bool)
        mask[10:40, 20:70] = True
        marked = (draw_map(self.picture, np.zeros((3, 4)), mask) == MASK_COLOR).all(axis=2)
        edge = mask.copy()
        edge[11:39, 21:69] = False
        assert (edge | ~marked).all() and 0.4 < marked[edge].mean() < 0.6

    def test_what_cannot_be_drawn_is_refused(self) -> None:
        with pytest.raises(DataError, match="mask"):
            draw_map(self.picture, np.zeros((3, 4)), np.zeros((60, 91), bool))
        with pytest.raises(DataError, match="finite"):
            draw_map(self.picture, np.full((3, 4), np.nan))


class TestPictures:
    def test_are_read_at_their_own_upright_size(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        with opened_pictures(source_of(photo(20, 30), photo(40, 30, exif=exif))) as picture_of:
            assert picture_of(0).shape == (20, 30, 3) and picture_of(1).shape == (30, 40, 3)

    def test_of_an_array_are_its_rows(self) -> None:
        X = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 1), dtype=np.uint8)
        with opened_pictures(ArraySource(X)) as picture_of:
            np.testing.assert_array_equal(picture_of(2), np.repeat(X[2], 3, axis=2))

    def test_that_cannot_be_read_say_why(self) -> None:
        with opened_pictures(source_of(b"text")) as picture_of, pytest.raises(DataError, match="not an image"):
            picture_of(0)


class TestFiles:
    maps = np.random.default_rng(1).uniform(0, 3, (3, 7, 5)).astype(np.float32)

    def written(self, folder: Path, source: AbstractSource) -> dict[str, Any]:
        files = MapFiles(folder, source)
        files.append(batch_of(self.maps[:2], [0, 1]))
        files.append(batch_of(None, []))
        files.append(batch_of(self.maps[2:], [2]))
        result: dict[str, Any] = json.loads(files.finish().read_text(encoding="utf-8"))
        return result

    def test_hold_the_map_and_the_picture(self, tmp_path: Path) -> None:
        source = source_of(photo(20, 30), photo(31, 22), photo(9, 8), ids=("a/1.png", "b/1.png", "../ü.png"))
        result = self.written(tmp_path / "new" / "maps", source)
        assert [row["id"] for row in result["rows"]] == list(source.ids or ()) and result["errors"] == {}
        for row, heatmap, shape in zip(result["rows"], self.maps, [(20, 30, 3), (31, 22, 3), (9, 8, 3)], strict=True):
            with Image.open(tmp_path / "new" / "maps" / row["map"]) as image:
                assert image.mode == "I;16"
                values = np.asarray(image) / 65535 * result["full_scale"]
            np.testing.assert_allclose(values, heatmap, atol=FULL_SCALE / 65535)
            assert row["highest"] == pytest.approx(float(heatmap.max()), abs=1e-5) and row["n_cut_off"] == 0
            with Image.open(tmp_path / "new" / "maps" / row["overlay"]) as image:
                assert np.asarray(image).shape == shape

    def test_of_rows_with_one_name_are_two(self, tmp_path: Path) -> None:
        result = self.written(tmp_path, source_of(photo(4, 4), photo(4, 4), photo(4, 4), ids=("a/1.png", "a_1.png", "a/1.jpg")))
        names = [row[kind] for row in result["rows"] for kind in ("map", "overlay")]
        assert len(set(names)) == 6 and sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "maps.json"])

    def test_of_a_picture_that_has_gone_hold_its_map(self, tmp_path: Path, write: Callable[..., list[Path]]) -> None:
        paths = write(photo(4, 4), photo(5, 5), photo(6, 6))
        source = ImageSource("photos", FileStore(paths), RowFacts(("0", "1", "2")), ImageSpec(8, 8, 3))
        paths[1].unlink()
        result = self.written(tmp_path / "maps", source)
        assert list(result["errors"]) == ["1"] and "No such file" in result["errors"]["1"]
        assert [("map" in row, "overlay" in row) for row in result["rows"]] == [(True, True), (True, False), (True, True)]

    def test_what_is_beyond_the_scale_is_counted(self, tmp_path: Path) -> None:
        files = MapFiles(tmp_path, source_of(photo(4, 4)))
        files.append(batch_of(np.array([[[-0.5, 1.0], [4.0, 7.5]]]), [0]))
        assert files.rows[0]["n_cut_off"] == 2 and files.rows[0]["highest"] == 7.5

    def test_need_maps_and_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="without heat-maps"):
            MapFiles(tmp_path, source_of(photo(4, 4))).append(batch_of(None, [0]))
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            MapFiles(tmp_path / "file", source_of(photo(4, 4)))

    @given(st.lists(st.floats(0, FULL_SCALE, width=32), min_size=1, max_size=20))
    def test_sixteen_bits_are_as_near_as_they_can_be(self, values: list[float]) -> None:
        pixels = to_16_bits(np.array([values]))
        assert np.abs(pixels / 65535 * FULL_SCALE - np.array([values])).max() <= FULL_SCALE / 65535 / 2 + 1e-9


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write pictures as files."""

    def written(*blobs: bytes) -> list[Path]:
        paths = [tmp_path / f"{number}.png" for number in range(len(blobs))]
        for path, blob in zip(paths, blobs, strict=True):
            path.write_bytes(blob)
        return paths

    return written
