"""Scores counted against those of the held-out rows."""

import numpy as np
import pytest

from insphere.serving.score_histogram import ScoreHistogram


def test_the_histogram_counts_every_score_once() -> None:
    random = np.random.default_rng(0)
    calibration, scores = random.normal(size=99), random.normal(size=1000)
    histogram = ScoreHistogram(calibration)
    histogram.add(scores[:400], scores[:400] > 2)
    histogram.add(scores[400:], scores[400:] > 2)
    for bound, count in histogram.cumulative():
        assert count == np.count_nonzero(scores <= float(bound))
    assert histogram.n_anomalies == np.count_nonzero(scores > 2)
    assert histogram.total == pytest.approx(scores.sum())
    assert ScoreHistogram(np.empty(0)).cumulative() == [("+Inf", 0.0)]
