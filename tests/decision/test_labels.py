"""Labels given to a fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from insphere.decision.labels import anomalies, normal_rows
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


def as_frame(values: list[int]) -> Any:
    return pytest.importorskip("pandas").DataFrame({"label": values}, index=range(9, 9 - len(values), -1))


def as_polars(values: list[int]) -> Any:
    return pytest.importorskip("polars").DataFrame({"label": values})


@pytest.mark.parametrize("of", [as_frame, as_polars, lambda y: np.array(y)[:, None], lambda y: [[label] for label in y], torch.tensor])
def test_one_column_is_read_whatever_holds_it(of: Callable[[list[int]], Any]) -> None:
    with pytest.warns(DataNotice, match="1 of 3 rows are marked as anomalies"):
        normal = normal_rows(of([0, 1, 0]), 3)
    assert normal is not None and normal.tolist() == [True, False, True]
    assert anomalies(of([0, 1, 0]), 3).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros((1, 3)), r"one value per row, but has shape \(1, 3\); give one column"),
        (np.zeros((3, 2)), r"has shape \(3, 2\)"),
        ({0: 0, 1: 1, 2: 0}, "got a dict; give a list"),
        ({0, 1, 2}, "got a set"),
        ("lab", "got a str"),
        (1, "got a int"),
        ([[0, 1], [1, 0], [0, 0]], "one label per row, 0 .normal. or 1"),
    ],
)
def test_what_is_not_one_label_a_row_is_refused(y: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        normal_rows(y, 3)
