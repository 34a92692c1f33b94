"""Overlays, panels and the folder of files."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from insphere.data import AbstractSource, ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, ParameterError
from insphere.explain import explain, overlay
from insphere.explain.files import file_stem, write_explanations
from insphere.output_file import OutputError

Detectors = dict[str, AbstractDetector]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3), (6, 5, 4)])
def test_no_heat_leaves_the_image_as_it_was(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shown = overlay(image, np.zeros((6, 5)))
    assert (shown.dtype, shown.shape) == (np.uint8, (6, 5, 3))
    np.testing.assert_array_equal(shown[:, :, 0], image if image.ndim == 2 else image[:, :, 0])


def test_a_common_maximum_makes_images_comparable() -> None:
    image, heat = np.zeros((1, 2, 1)), np.array([[0.5, 0.25]])
    assert overlay(image, heat)[0, 0].tolist() != overlay(image, heat, maximum=1.0)[0, 0].tolist()
    assert overlay(image, heat, maximum=0.5).tolist() == overlay(image, heat).tolist()


def test_hotter_is_brighter_on_a_dark_image() -> None:
    shown = overlay(np.zeros((1, 50)), np.linspace(0, 1, 50)[None]).astype(float)
    luminance = shown @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[0]) >= -1).all()
    assert luminance[0, -1] > luminance[0, 0] + 100


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), np.full((2, 2), np.nan), np.full((2, 2), -1.0)])
def test_what_is_no_heat_map_is_refused(heat: NDArray[Any]) -> None:
    with pytest.raises(DataError):
        overlay(np.zeros((2, 2, 1)), heat)
    with pytest.raises(ParameterError):
        overlay(np.zeros((2, 2, 1)), np.zeros((2, 2)), maximum=-1.0)


def test_a_folder_of_images(tmp_path: Path, detectors: Detectors, marked: NDArray[Any], digits: AbstractSource) -> None:
    names = ["../up.png", "a$x_{/b.png", "a$x_{/b.jpg", "ü.png"]
    explanation = explain(detectors["local"], ArraySource(marked, ids=names), normals=digits)
    files = write_explanations(tmp_path / "why" / "so", [explanation])
    assert {path.parent for path in files} == {tmp_path / "why" / "so"}
    assert len(files) == len(set(files)) == 4 * 2 + 2
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
    result = json.loads((tmp_path / "why" / "so" / "explanations.json").read_text())
    assert [row["id"] for row in result["rows"]] == names
    assert all((tmp_path / "why" / "so" / row["overlay"]).is_file() for row in result["rows"])
    assert [row["anomaly_score"] for row in result["rows"]] == explanation.anomaly_score.tolist()
    with (tmp_path / "why" / "so" / "explanations.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == names
    assert lines[0]["nearest_normal"] == explanation.neighbours.ids[0][0]  # type: ignore[union-attr]


def test_a_folder_of_vectors(tmp_path: Path, vector_detectors: Detectors, vectors: NDArray[Any]) -> None:
    write_explanations(tmp_path, [explain(vector_detectors["cae"], vectors[:2])])
    row = json.loads((tmp_path / "explanations.json").read_text())["rows"][0]
    assert set(row["feature_contributions"]) == {"0", "1", "2", "3"}
    assert "overlay" not in row
    with Image.open(tmp_path / row["panel"]) as panel:
        assert panel.size[0] > 100


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, vector_detectors: Detectors, vectors: NDArray[Any]) -> None:
    (tmp_path / "why").write_text("taken")
    with pytest.raises(OutputError):
        write_explanations(tmp_path / "why", [explain(vector_detectors["cae"], vectors[:2])])


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_a_stem_never_leads_out_of_the_folder(name: str) -> None:
    stem = file_stem(name)
    assert stem
    assert len(stem) <= 80
    assert (Path("folder") / f"0001-{stem}-panel.png").parent == Path("folder")
