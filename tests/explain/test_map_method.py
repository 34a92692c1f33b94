"""The method "map": what a detector with heat-maps scores by is its explanation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from explain.conftest import fitted
from insphere.data import AbstractSource
from insphere.detectors.base import AbstractDetector
from insphere.explain import explain
from insphere.explain.files import write_explanations
from insphere.explain.maps import draw_map
from places import Places


@pytest.fixture(scope="module")
def detector(digits: AbstractSource) -> AbstractDetector:
    return fitted(Places(random_state=0), digits)


@pytest.mark.parametrize("method", ["auto", "map"])
def test_is_the_map_that_the_score_comes_from(method: str, detector: AbstractDetector, marked: NDArray[Any]) -> None:
    explanation = explain(detector, marked, method=method)
    assert explanation.method == "map" and explanation.heatmaps is not None
    np.testing.assert_array_equal(explanation.heatmaps, detector.anomaly_map(marked))
    np.testing.assert_array_equal(explanation.anomaly_score, detector.anomaly_score(marked))
    json.dumps(explanation.to_json(), allow_nan=False)


def test_has_the_nearest_normals_beside_it(detector: AbstractDetector, marked: NDArray[Any], digits: AbstractSource) -> None:
    neighbours = explain(detector, marked, normals=digits, n_neighbors=2).neighbours
    assert neighbours is not None and neighbours.rows is not None and neighbours.rows.shape[:2] == (4, 2)


def test_is_smoothed_where_that_is_asked_for(detector: AbstractDetector, marked: NDArray[Any]) -> None:
    plain, smooth = (explain(detector, marked, smoothing=smoothing).heatmaps for smoothing in (None, 2.0))
    assert plain is not None and smooth is not None and smooth.std() < 0.8 * plain.std()


def test_is_drawn_in_fixed_units(detector: AbstractDetector, marked: NDArray[Any], tmp_path: Path) -> None:
    explanation = explain(detector, marked)
    write_explanations(tmp_path, [explanation])
    assert explanation.heatmaps is not None
    for row in range(4):
        with Image.open(tmp_path / f"{row:04}-{row}-overlay.png") as image:
            np.testing.assert_array_equal(np.asarray(image), draw_map(marked[row], explanation.heatmaps[row]))
