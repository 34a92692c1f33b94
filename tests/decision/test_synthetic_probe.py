"""The probe with synthetic defects, and the finding that warns of blindness to small marks."""

import itertools

import numpy as np
import pytest

from insphere.decision.health import HealthReport
from insphere.decision.synthetic_probe import LEAST_AUROC, SyntheticProbe, check_synthetic, probe_synthetic, synthetic_auroc
from insphere.errors import DataError
from insphere.estimate import Estimate


@pytest.fixture
def pictures():
    """Textures of one level each, so that a mark stands out of a picture and means do not tell pictures apart."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(80, 160, (50, 1, 1, 1))
    return np.clip(levels + rng.normal(0, 2, (50, 48, 64, 3)), 0, 255).astype(np.uint8)


def sharp(X):
    return np.abs(np.diff(X.astype(float), axis=2)).max(axis=(1, 2, 3))


def blind(X):
    return X.mean(axis=(1, 2, 3), dtype=float)


def test_the_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    normal, synthetic = rng.integers(0, 5, 7).astype(float), rng.integers(1, 7, 5).astype(float)
    pairs = [(b > a) + 0.5 * (a == b) for a, b in itertools.product(normal, synthetic)]
    found = synthetic_auroc(normal, synthetic)
    assert found.value == pytest.approx(np.mean(pairs)) and found.low < found.value < found.high


def test_a_detector_that_sees_marks_and_one_that_does_not(pictures):
    seeing = check_synthetic(probe_synthetic(pictures, sharp, np.random.default_rng(0)))
    assert seeing.level == "ok" and seeing.value > 0.9
    probe = probe_synthetic(pictures, blind, np.random.default_rng(0))
    warning = check_synthetic(probe)
    assert warning.level == "warning" and warning.value == probe.auroc.value < LEAST_AUROC
    assert f"AUROC {100 * probe.auroc.value:.1f} %" in warning.text and "50 held-out pictures" in warning.text
    assert "--detector photo" in warning.text and "--image-size" in warning.text
    assert check_synthetic(probe, advice="Do this.").text.endswith("Real marks as small will be missed too. Do this.")
    assert HealthReport.from_json(HealthReport((warning,)).to_json()).findings == (warning,)


@pytest.mark.parametrize(("high", "level"), [(0.89, "warning"), (0.91, "ok")])
def test_few_pictures_that_leave_room_for_a_good_detector_are_no_reason_to_warn(high, level):
    finding = check_synthetic(SyntheticProbe(Estimate(0.25, 0.01, high), 2))
    assert finding.level == level and f"(1.0–{100 * high:.1f})" in finding.text  # told all the same


def test_the_same_generator_gives_the_same_probe_and_many_pictures_are_drawn_from(pictures):
    seen = []

    def score(X):
        seen.append(len(X))
        return sharp(X)

    first = probe_synthetic(pictures, score, np.random.default_rng(1), n_most=20)
    assert seen == [20, 20] and first.n == 20
    assert probe_synthetic(pictures, sharp, np.random.default_rng(1), n_most=20) == first
    assert probe_synthetic(pictures[:20], sharp, np.random.default_rng(1)).auroc != first.auroc


@pytest.mark.parametrize(("value", "level"), [(LEAST_AUROC, "ok"), (LEAST_AUROC - 0.001, "warning"), (0.1, "warning"), (1.0, "ok")])
def test_the_border_between_ok_and_warning(value, level):
    assert check_synthetic(SyntheticProbe(Estimate(value, value, value), 30)).level == level


def test_nothing_to_try(pictures):
    with pytest.raises(DataError, match="at least one held-out picture"):
        probe_synthetic(pictures[:0], sharp, np.random.default_rng(0))
    with pytest.raises(DataError, match="NaN"):
        probe_synthetic(pictures, lambda X: np.full(len(X), np.nan), np.random.default_rng(0))
