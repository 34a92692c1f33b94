"""Labels given to a fit."""

from typing import Any

import numpy as np
import pytest

from insphere.decision.labels import normal_rows
from insphere.errors import DataError, DataNotice


@pytest.mark.parametrize("y", [[0, 1, 0], [1, -1, 1], [False, True, False], np.array([0.0, 1.0, 0.0]), np.array([1, -1, 1], np.int8)])
def test_anomalies_are_left_out_and_counted(y: Any) -> None:
    with pytest.warns(DataNotice, match="1 of 3 rows are marked as anomalies"):
        normal = normal_rows(y, 3)
    assert normal is not None and normal.tolist() == [True, False, True]


@pytest.mark.parametrize("y", [None, [0, 0, 0], np.zeros(3, bool), [-0.0, 0.0, 0.0]])
def test_without_anomalies_nothing_is_said(y: Any) -> None:
    assert normal_rows(y, 3) is None


@pytest.mark.parametrize(("y", "words"), [([0, 1, 2], "is ignored"), ([0.5, 1.0, 0.0], "is ignored"), ([1, 1, 1], "taken as normal")])
def test_what_is_ignored_or_guessed_is_said(y: Any, words: str) -> None:
    with pytest.warns(DataNotice, match=words):
        assert normal_rows(y, 3) is None


@pytest.mark.parametrize(("y", "words"), [(["good", "crack", "good"], "'crack', 'good'"), ([0, 1], "one label per row: 3, got 2")])
def test_texts_and_lengths_are_refused(y: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        normal_rows(y, 3)
