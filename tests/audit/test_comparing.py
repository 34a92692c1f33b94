"""Figures of an audit against slow restatements."""

import numpy as np
import pytest

from insphere.audit.comparing import alike, apart, area, difference, placements, rate
from insphere.metrics import auroc


def test_placements_are_shares_of_pairs_with_ties_as_halves(chance) -> None:
    random = np.random.default_rng(chance.randrange(2**32))
    normal, anomaly = random.integers(0, 8, 30).astype(float), random.integers(3, 12, 20).astype(float)
    above, below = placements(normal, anomaly)
    wins = (anomaly[None, :] > normal[:, None]) + 0.5 * (anomaly[None, :] == normal[:, None])
    np.testing.assert_allclose(above, wins.mean(axis=1))
    np.testing.assert_allclose(below, wins.mean(axis=0))
    assert area([(normal, anomaly)]).value == pytest.approx(auroc([0] * 30 + [1] * 20, np.concatenate([normal, anomaly])).value)


def test_a_difference_has_delong_s_variance_of_paired_scores() -> None:
    random = np.random.default_rng(1)
    normal, anomaly = random.normal(size=80), random.normal(size=60) + 1
    other = normal + random.normal(size=80), anomaly + random.normal(size=60)
    found = difference([(normal, anomaly)], [other])
    wins = (anomaly[None, :] > normal[:, None]).astype(float) - (other[1][None, :] > other[0][:, None])
    variance = wins.mean(axis=1).var(ddof=1) / 80 + wins.mean(axis=0).var(ddof=1) / 60
    assert found.value == pytest.approx(wins.mean())
    assert found.high - found.low == pytest.approx(2 * 1.959964 * variance**0.5, rel=1e-5)


def test_the_interval_of_a_difference_covers_the_truth() -> None:
    random = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        normal, anomaly = random.normal(size=100), random.normal(size=100) + 1
        noise = [random.normal(size=100) for _ in range(4)]
        pair = [(normal + noise[0], anomaly + noise[1])], [(normal + noise[2], anomaly + noise[3])]  # equally good: the truth is 0
        found = difference(*pair)
        held += found.low <= 0 <= found.high
    assert 0.91 <= held / 300 <= 0.985


def test_repeats_that_disagree_widen_the_interval_of_a_rate() -> None:
    calm = rate([np.arange(100) < 10] * 4, 100)
    wild = rate([np.arange(100) < n for n in (0, 0, 20, 20)], 100)
    assert calm.value == wild.value == pytest.approx(0.1)
    assert wild.low < calm.low < 0.1 < calm.high < wild.high


def test_alike_and_apart_of_equal_constant_and_shifted_scores() -> None:
    scores = np.arange(101.0)
    assert alike(scores, scores**3) == pytest.approx(1) and alike(scores, -scores) == pytest.approx(-1)
    assert alike(scores, np.zeros(101)) == 0 and alike(np.zeros(3), np.zeros(3)) == 1
    assert apart(scores, scores + np.eye(101)[7] * 25) == 0.5
