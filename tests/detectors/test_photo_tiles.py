"""Large pictures in windows: small marks found that vanish otherwise, one map and one decision; files, graphs, wrong values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import contract
import insphere
from insphere import model_file
from insphere.detectors.stored import KIND
from insphere.detectors.tiling import side_for, tiles_for
from insphere.errors import ModelFileError, ParameterError
from insphere.export import export_onnx

SPLIT = {"method": "split"}


def sheets(n_rows: int, seed: int = 0, *, marks: bool = False, size: tuple[int, int] = (192, 256)) -> NDArray[np.uint8]:
    """A grating on a ground under varying light; with a small dark mark somewhere where marks are asked for."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    pictures = 110 + 25 * np.sin(x / 5) * np.sin(y / 7) + rng.normal(0, 4, size=(n_rows, *size)) + rng.normal(0, 5, size=(n_rows, 1, 1))
    if marks:
        for picture in pictures:
            row, column = rng.integers(20, 160, size=2)
            picture[row : row + 5, column : column + 5] -= 60
    return pictures.clip(0, 255).astype(np.uint8)[..., None]


def made(kind: type = insphere.PhotoSpheres, **parameters: Any) -> Any:
    return kind(**{"random_state": 0, "calibration": SPLIT, "side": 96, "backbone": "scratch", **parameters})


@pytest.fixture(scope="module")
def tiled() -> Any:
    return contract.fit_quietly(made(tiles=(2, 2)), sheets(40))


def test_one_map_and_one_decision(tiled: Any) -> None:
    assert tiled.settled_.tiles == (2, 2) and tiled.settled_.size == (192, 256) and tiled.features_.windows.window == (112, 160)
    marked = sheets(12, 2, marks=True)
    assert np.median(tiled.anomaly_score(marked)) > np.quantile(tiled.anomaly_score(sheets(30, 3)), 0.9)
    maps = tiled.anomaly_map(marked)
    assert maps.shape == (12, *tiled.features_.grid) == (12, 24, 32)


@pytest.mark.parametrize("kind", [insphere.PhotoSpheres, insphere.PatchKNN])
def test_a_model_file_keeps_the_windows(kind: type, tmp_path: Path) -> None:
    contract.check_round_trip(made(kind, tiles="1x2"), sheets(16, size=(96, 208)), tmp_path)


def test_each_row_alone(tiled: Any) -> None:
    X = sheets(6, 5)
    np.testing.assert_array_equal(tiled.anomaly_score(X[::-1]), tiled.anomaly_score(X)[::-1])


def test_larger_blocks_keep_the_file_small() -> None:
    detector = contract.fit_quietly(made(tiles=(3, 4), look_for="defects"), sheets(10, size=(480, 640)))
    assert detector.features_.grid == (60, 80) and detector.spheres_[0].places.block == 4
    assert (
        len(detector.spheres_[0].places.whitening) == 15 * 20 <= 500 < 20 * 27
    )  # no more than one window may have: 2000 places in blocks of four


def test_graphs_have_the_windows_too(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    tiled = contract.fit_quietly(made(tiles=(1, 2), side=64), sheets(12, size=(96, 144)))
    assert tiled.features_.windows.window == (96, 96)
    export_onnx(tiled, tmp_path / "m.onnx")  # which compares scores and maps, or raises


def test_files_are_brought_to_the_size_of_all_windows(tmp_path: Path) -> None:
    for number, picture in enumerate(sheets(12, size=(384, 512))):
        Image.fromarray(picture[..., 0]).save(tmp_path / f"{number}.png")
    for tiles, shape in [(None, (80, 112, 1)), ((2, 2), (160, 224, 1)), ("auto", (336, 448, 1))]:
        assert made(tiles=tiles).open_to_fit(str(tmp_path)).row_shape == shape


def test_what_is_chosen_is_chosen_again_of_pictures_of_that_size() -> None:
    for height, width in [(600, 800), (1200, 1600), (3000, 4000), (500, 3000), (321, 322)]:
        chosen = tiles_for("auto", height, width, 320)
        scale = min(1.0, side_for("auto", height, width, 320) / (height * width) ** 0.5)
        assert tiles_for("auto", round(height * scale / 16) * 16, round(width * scale / 16) * 16, 320) == chosen
    assert tiles_for("auto", 600, 800, 320) == (2, 2)


@pytest.mark.parametrize("tiles", [0, (1, 2, 3), (0, 2), (9, 1), "2x", "many", (1.5, 2), 2])
def test_values_that_are_none(tiles: Any) -> None:
    with pytest.raises(ParameterError, match="`tiles` must be"):
        made(tiles=tiles).fit(sheets(10))


def test_windows_that_would_be_tiny_are_refused_with_the_remedy() -> None:
    with pytest.raises(ParameterError, match=r"into windows below 64 pixels; take fewer windows, or larger pictures"):
        made(tiles=(8, 8)).fit(sheets(10, size=(96, 96)))


@pytest.mark.parametrize("tiles", [[0, 2], [2], [2, 2, 2], ["a", 1], [8, 9], 3])
def test_a_file_whose_windows_do_not_fit_is_refused(tiled: Any, tiles: Any, tmp_path: Path) -> None:
    tiled.save(tmp_path / "m.insphere")
    content = model_file.read(tmp_path / "m.insphere", KIND)
    header = content.header | {"model": content.header["model"] | {"tiles": tiles}}
    model_file.write(tmp_path / "m.insphere", KIND, header, content.arrays)
    with pytest.raises(ModelFileError):
        insphere.load(tmp_path / "m.insphere")
