"""Heat-maps of the service for detectors that have their own: those that the score comes from, in fixed units."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from insphere.data import open_source
from insphere.explain.maps import draw_map
from insphere.serving.heatmap import MOST_HEATMAPS, heatmaps
from places import Places
from serving.conftest import fitted


def test_are_those_of_the_detector_and_mean_the_same_in_every_request() -> None:
    detector = fitted(Places(random_state=0), "digits:3")
    X = open_source("digits:3", split="test").load().X[: MOST_HEATMAPS + 3]
    model: Any = SimpleNamespace(detector=detector)
    pictures, problem = heatmaps(model, X)
    assert problem is None and pictures[MOST_HEATMAPS:] == [None] * 3
    maps = detector.anomaly_map(X)
    for row, text in enumerate(pictures[:MOST_HEATMAPS]):
        assert text is not None
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))))
        np.testing.assert_array_equal(shown, draw_map(X[row], maps[row]))
    assert heatmaps(model, X[3:4])[0] == pictures[3:4]
