"""Axes: places, values, ticks."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from insphere.report.axes import Axis, score_axis

finite = st.floats(-1e12, 1e12)


@given(st.lists(finite, min_size=1, max_size=50))
def test_scores_are_on_their_axis_in_their_order(values: list[float]) -> None:
    scores = np.array(values)
    axis = score_axis(scores)
    places = axis.place(np.sort(scores))
    assert np.isfinite(places).all()
    assert (places >= 0).all() and (places <= 1).all() and (np.diff(places) >= 0).all()


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e6), st.booleans())
def test_place_and_value_undo_each_other(low: float, ratio: float, logarithmic: bool) -> None:
    axis = Axis(low, low * ratio, logarithmic)
    places = np.linspace(0, 1, 11)
    np.testing.assert_allclose(axis.place(axis.value(places)), places, atol=1e-6)


@given(finite, st.floats(1e-6, 1e9), st.booleans())
def test_ticks_are_few_and_increase_along_the_axis(low: float, width: float, logarithmic: bool) -> None:
    axis = Axis(abs(low) + 1e-3, abs(low) + 1e-3 + width, logarithmic)
    if not axis.high > axis.low:
        return
    ticks = axis.ticks()
    places = [place for place, _ in ticks]
    assert len(ticks) <= 9
    assert places == sorted(places) and all(0 <= place <= 1 for place in places)


def test_ticks_are_round() -> None:
    assert Axis(0.0, 1.0).ticks(5) == [(0.0, "0"), (0.2, "0.2"), (0.4, "0.4"), (0.6, "0.6"), (0.8, "0.8"), (1.0, "1")]
    assert [text for _, text in Axis(1.0, 1000.0, logarithmic=True).ticks()] == ["1", "3", "10", "30", "100", "300", "1000"]


@pytest.mark.parametrize(
    ("scores", "logarithmic"),
    [([1.0, 2.0, 3.0, 4.0], False), ([1.0, 1.1, 1.2, 50.0], True), ([-1.0, 1.0, 50.0], False), ([0.0, 1.0, 50.0], False), ([2.0], False)],
)
def test_only_long_tails_of_positive_scores_get_a_logarithm(scores: list[float], logarithmic: bool) -> None:
    assert score_axis(np.array(scores)).logarithmic == logarithmic


def test_scores_that_are_not_finite_do_not_stretch_the_axis() -> None:
    assert score_axis(np.array([1.0, np.inf, 3.0, -np.inf])) == Axis(1.0, 3.0)
    assert score_axis(np.array([np.inf])) == Axis(0.0, 1.0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30), st.booleans())
@example([1.7e308, 1.7e308], False)
@example([1e-300] * 9 + [1.7e308], False)
@example([9.93e-322 * 7, 0.0], False)
def test_any_scores_have_places_values_and_ticks(scores: list[float], positive: bool) -> None:
    values = np.sort(np.abs(scores) if positive else np.array(scores))
    axis = score_axis(values)
    places = axis.place(values)
    assert (places >= 0).all() and (places <= 1).all() and (np.diff(places) >= 0).all()
    assert axis.place([axis.low, axis.high]) == pytest.approx([0, 1])
    assert np.isfinite(axis.value(np.linspace(0, 1, 11))).all()
    ticks = [place for place, _ in axis.ticks()]
    assert len(ticks) <= 9 and ticks == sorted(ticks) and all(0 <= place <= 1 for place in ticks)


@pytest.mark.parametrize(
    "values", [[1e-308, 1.0, 5.0], [5e-324, 1e-310, 1e308], [-1.7e308, 0.0, 1.7e308], [5e-324, 1e-323, 2e-323], [0.0, 5e-324]]
)
def test_scores_at_the_ends_of_the_numbers_have_places_and_values(values: list[float]) -> None:
    scores = np.array(values)
    for axis in (score_axis(scores), score_axis(np.repeat(scores, [20, 1, 1][: len(scores)]))):
        places = axis.place(scores)
        assert np.isfinite(places).all() and (places >= 0).all() and (places <= 1).all() and (np.diff(places) >= 0).all()
        assert np.isfinite(axis.value(places)).all() and all(np.isfinite(place) for place, _ in axis.ticks())
