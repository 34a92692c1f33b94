"""Which rows of a batch are discoveries: Benjamini and Hochberg's procedure, and when there can be none."""

import numpy as np
import pytest

from insphere.decision.calibration import ConformalCalibration
from insphere.decision.categories import Categories
from insphere.decision.decision import Decision
from insphere.decision.discoveries import discover
from insphere.detectors.classical import KNN
from insphere.errors import DataNotice, ParameterError


def decision(n=999, method="split"):
    return Decision(ConformalCalibration(np.arange(float(n))), radius=1.0, target_fpr=0.05, method=method)


def by_hand(p, fdr):
    """The largest k such that the k-th smallest p-value is at most fdr * k / m; all up to it are discoveries."""
    order = sorted(p)
    k = max((k for k in range(1, len(p) + 1) if order[k - 1] <= fdr * k / len(p)), default=0)
    return [value <= order[k - 1] if k else False for value in p]


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_procedure_as_it_is_printed(seed):
    rng = np.random.default_rng(seed)
    p = np.concatenate([rng.integers(1, 1001, 80), rng.integers(1, 12, 20)]) / 1000
    found = discover(decision(), p, 0.1)
    assert found.is_discovery.tolist() == by_hand(p.tolist(), 0.1)
    assert ((found.adjusted_p_value <= 0.1 * (1 + 1e-12)) == found.is_discovery).all()


def test_rows_without_a_p_value_are_not_tested():
    found = discover(decision(), [0.001, np.nan, 0.9], 0.1)
    assert found.n_tested == 2
    assert found.is_discovery.tolist() == [True, False, False]
    assert np.isnan(found.adjusted_p_value[1])
    assert discover(decision(), [np.nan], 0.1).n_discoveries == 0


def test_a_rate_that_no_row_can_reach_is_refused():
    with pytest.raises(ParameterError, match=r"`fdr` 0.01 takes at least 99 calibration rows .* got 98"):
        discover(decision(98), [0.5], 0.01)
    assert discover(decision(99), [0.01], 0.01).n_discoveries == 1
    with pytest.raises(ParameterError, match="fdr"):
        discover(decision(), [0.5], 1.0)


def test_how_many_rows_must_stand_out_at_once():
    least = 1 / 100
    ten, nine = (discover(decision(99), [least] * k + [1.0] * (100 - k), 0.1) for k in (10, 9))
    assert ten.n_least == nine.n_least == 10
    assert (ten.n_discoveries, nine.n_discoveries) == (10, 0)
    assert "10 of the 100 rows must score above all of them" in ten.notes[0]


def test_folds_have_no_proof_and_that_is_said():
    assert discover(decision(), [0.5], 0.1).notes == ()
    assert "has no such proof" in discover(decision(method="cross"), [0.5], 0.1).notes[0].replace("have", "has")


def test_a_small_category_does_not_stop_the_others():
    scores = np.arange(120.0)
    known = Categories.of_scores(("big", "small"), np.array([0] * 99 + [1] * 21), scores)
    made = Decision(ConformalCalibration(scores), radius=1.0, target_fpr=0.05, categories=known)
    p = made.p_value(np.array([1e9, 1e9]), np.array([0, 1]))
    assert discover(made, p, 0.02).is_discovery.tolist() == [True, False]


def test_a_detector_finds_them_and_tells_what_it_costs():
    rng = np.random.default_rng(0)
    detector = KNN(random_state=0, calibration={"method": "split"}).fit(rng.normal(size=(1000, 2)))
    batch = np.concatenate([rng.normal(size=(190, 2)), rng.normal(size=(10, 2)) + 9])
    with pytest.warns(DataNotice, match="10 of the 200 rows"):
        found = detector.discoveries(batch, fdr=0.1)
    assert found.is_discovery[190:].all()
    assert found.n_discoveries <= 12
