"""Alarms on a stream: the rule as it is printed, and when there can be none."""

import numpy as np
import pytest

from insphere.decision.calibration import ConformalCalibration
from insphere.decision.decision import Decision
from insphere.decision.online import OnlineDiscoveries
from insphere.errors import DataError, ParameterError


def decision(n=999):
    return Decision(ConformalCalibration(np.arange(float(n))), radius=1.0, target_fpr=0.05)


def by_hand(p_values, fdr, window):
    found = []
    for number, p in enumerate(p_values):
        alarms = sum(found[number - number % window : number])
        found.append(p <= fdr * max(alarms, 1) / window)
    return found


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_rule_as_it_is_printed_however_the_rows_come(seed):
    rng = np.random.default_rng(seed)
    p = np.where(rng.random(300) < 0.1, rng.integers(1, 8, 300), rng.integers(1, 1001, 300)) / 1000
    online = OnlineDiscoveries(decision(), fdr=0.1, window=100)
    found = [alarm for part in np.array_split(p, 7) for alarm in online.update(part)]
    assert found == by_hand(p.tolist(), 0.1, 100)
    assert any(found)


def test_each_alarm_makes_the_next_one_easier_until_the_window_ends():
    online = OnlineDiscoveries(decision(), fdr=0.1, window=3)
    assert online.update([0.03, 0.06, 0.06]) == [True, False, False]
    assert online.to_json()["n_alarms"] == 1
    assert online.update([0.05]) == [False]
    assert online.to_json()["n_rows"] == 1


def test_too_few_calibration_rows_are_refused_with_the_window_that_fits():
    with pytest.raises(ParameterError, match=r"takes 999 calibration rows for its first alarm, got 500; take a window of at most 50 rows"):
        OnlineDiscoveries(decision(500), fdr=0.1, window=100)
    OnlineDiscoveries(decision(500), fdr=0.1, window=50)
    with pytest.raises(DataError, match=r"in \(0, 1\]"):
        OnlineDiscoveries(decision()).update([0.0])
