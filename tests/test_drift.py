"""Drift: the promised rate of false alarms, changes of every kind, and what may not be told apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.decision.calibration import ConformalCalibration
from insphere.drift import DriftMonitor
from insphere.errors import DataError, ParameterError


def alarms(n_streams: int, n_rows: int, n_calibration: int, *, odd: float = 0.0, round_to: int | None = None, **options: float) -> int:
    """Count the alarms over streams of normal rows, a share `odd` of which are anomalies."""
    count = 0
    for seed in range(n_streams):
        rng = np.random.default_rng(seed)
        calibration, new = rng.gamma(2.0, size=n_calibration), rng.gamma(2.0, size=n_rows)
        new[rng.random(n_rows) < odd] = 100.0
        if round_to is not None:
            calibration, new = calibration.round(round_to), new.round(round_to)
        p_values = ConformalCalibration(calibration).p_value(new)
        count += DriftMonitor(calibration, **options).update(p_values).drifted
    return count


@pytest.mark.parametrize("n_calibration", [19, 200])
def test_without_change_hardly_any_stream_ever_raises_the_alarm(n_calibration: int) -> None:
    # A rate of 0.2 so that a broken promise would show: of 100 streams, more than 31 come with probability below 0.4 %.
    assert alarms(100, 600, n_calibration, false_alarm_rate=0.2, tolerated_share=0.0) <= 31


def test_scores_that_repeat_raise_no_false_alarm() -> None:
    assert alarms(60, 600, 200, round_to=0, false_alarm_rate=0.2, tolerated_share=0.0) <= 21


def test_a_tolerated_share_of_anomalies_is_no_drift_and_without_it_would_be() -> None:
    assert alarms(40, 800, 300, odd=0.05) <= 2
    assert alarms(40, 800, 300, odd=0.2, tolerated_share=0.0) >= 30


@pytest.mark.parametrize(
    ("change", "direction"),
    [(lambda x: x + 1.5, "higher"), (lambda x: x * 0.2, "lower"), (lambda x: np.full_like(x, 1.7), "same on average")],
    ids=["higher", "lower", "stuck"],
)
def test_a_change_after_many_rows_is_found_soon_and_says_where_to(change, direction: str) -> None:
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        calibration = ConformalCalibration(rng.gamma(2.0, size=300))
        monitor = DriftMonitor(calibration.scores)
        before = monitor.update(calibration.p_value(rng.gamma(2.0, size=1000)))
        after = monitor.update(calibration.p_value(change(rng.gamma(2.0, size=150))))
        found += not before.drifted and after.drifted and after.direction == direction and 1000 < (after.alarm_row or 0) <= 1150
    assert found >= 9


def test_the_alarm_stays_until_it_is_reset() -> None:
    monitor = DriftMonitor(np.arange(199.0))
    raised = monitor.update(np.full(100, 0.005))
    assert raised.drifted and raised.direction == "higher" and raised.evidence >= raised.threshold == 100
    assert monitor.update(np.linspace(0.005, 1, 200)).alarm_row == raised.alarm_row
    monitor.reset()
    assert monitor.state.n_rows == 0 and not monitor.state.drifted and monitor.state.recent_p_value is None


def test_rows_in_parts_give_the_same_state_as_all_at_once() -> None:
    p_values = np.random.default_rng(0).uniform(0.01, 1, size=300)
    at_once, in_parts = DriftMonitor(np.arange(99.0)), DriftMonitor(np.arange(99.0))
    for part in np.split(p_values, [1, 2, 150]):
        in_parts.update(part)
    assert in_parts.state == at_once.update(p_values)


@pytest.mark.parametrize("scores", [[], [2.0, 2.0, 2.0]])
def test_without_scores_to_compare_with_there_is_no_alarm(scores: list[float]) -> None:
    assert not DriftMonitor(scores).update(np.full(500, 1.0)).drifted


@pytest.mark.parametrize("p_values", [[0.0], [1.1], [np.nan], [-1.0]])
def test_what_is_no_p_value_is_refused(p_values: list[float]) -> None:
    monitor = DriftMonitor(np.arange(9.0))
    with pytest.raises(DataError, match="must be in"):
        monitor.update(p_values)
    assert monitor.state.n_rows == 0


def test_options_are_checked() -> None:
    with pytest.raises(ParameterError, match="false_alarm_rate"):
        DriftMonitor([1.0, 2.0], false_alarm_rate=0)
    with pytest.raises(ParameterError, match="tolerated_share"):
        DriftMonitor([1.0, 2.0], tolerated_share=0.5)
    with pytest.raises(DataError, match="calibration_scores"):
        DriftMonitor([1.0, np.nan])


@given(
    st.lists(st.floats(-10, 10).map(lambda x: round(x, 1)), max_size=40),
    st.lists(st.floats(0, 1, exclude_min=True), max_size=40),
)
@settings(deadline=None)
def test_any_scores_and_p_values_keep_the_evidence_finite(scores: list[float], p_values: list[float]) -> None:
    state = DriftMonitor(scores).update(p_values)
    assert state.n_rows == len(p_values) and np.isfinite(state.evidence) and state.evidence > 0
    assert state.drifted == (state.alarm_row is not None)


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_the_expected_evidence_stays_one(n_calibration: int, seed: int) -> None:
    """One step of the bet, averaged over the urn's probabilities, gains nothing: what the promise rests on."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n_calibration)
    seen = rng.uniform(0.001, 1, size=10)
    start = DriftMonitor(scores, tolerated_share=0.0)
    start.update(seen)
    probabilities, evidence = start._sizes / start._sizes.sum(), []
    for class_ in range(len(probabilities)):
        monitor = DriftMonitor(scores, tolerated_share=0.0)
        monitor.update(seen)
        monitor._bet(class_)
        evidence.append(monitor.state.evidence)
    assert probabilities @ evidence == pytest.approx(start.state.evidence)
