"""Stops of the slider: exact counts, and the rates that calibration promises."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.decision.calibration import ConformalCalibration
from insphere.report.operating import MAX_STOPS, RATES, operating_points
from report.test_charts import judged

numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=80)


def detector(held_out: Any, threshold: float = 0.5, radius: float = 0.25) -> Any:
    calibration = ConformalCalibration(held_out)
    return SimpleNamespace(conformal_=calibration, decision_=calibration, threshold_=threshold, radius_=radius)


@given(numbers, numbers, st.floats(-100, 100), st.randoms())
def test_counts_are_those_of_the_definition(scores: list[float], held_out: list[float], threshold: float, random: Any) -> None:
    labels = np.array([random.randint(0, 1) for _ in scores])
    rows = judged(scores, labels)
    points = operating_points(detector(held_out, threshold), rows)
    assert points.thresholds[points.chosen] == threshold
    assert (np.diff(points.thresholds) > 0).all()
    for place, value in enumerate(points.thresholds):
        for name, label in (("normal", 0), ("anomaly", 1)):
            assert points.flagged[name][place] == (np.array(scores)[labels == label] > value).sum()
        assert points.expected[place].value == pytest.approx((1 + sum(score > value for score in held_out)) / (len(held_out) + 1))
    assert points.flagged["normal"][0] + points.flagged["anomaly"][0] == len(scores)


@given(numbers)
def test_every_reachable_rate_has_its_own_stop(held_out: list[float]) -> None:
    calibration = ConformalCalibration(held_out)
    points = operating_points(detector(held_out), judged([0.1, 0.9]))
    for rate in RATES:
        threshold = calibration.threshold(rate)
        if np.isfinite(threshold):
            assert points.expected[int(np.searchsorted(points.thresholds, threshold))].value <= rate + 1e-12


def test_many_rows_have_few_stops_with_exact_counts() -> None:
    scores = np.random.default_rng(0).normal(size=50_000)
    points = operating_points(detector(scores[:99]), judged(scores))
    assert len(points.thresholds) <= MAX_STOPS + len(RATES) + 3
    for place in (0, 17, 500, -1):
        assert points.flagged["all"][place] == (scores > points.thresholds[place]).sum()
    assert points.flagged["all"][-1] == 0


def test_without_held_out_rows_nothing_is_promised() -> None:
    assert operating_points(detector([]), judged([1.0, 2.0])).expected == ()


def test_infinite_scores_are_counted_and_are_no_stops() -> None:
    points = operating_points(detector([0.0]), judged([np.inf, 0.0, -np.inf]))
    assert np.isfinite(points.thresholds).all()
    assert points.flagged["all"].tolist() == [(np.array([np.inf, 0, -np.inf]) > value).sum() for value in points.thresholds]
