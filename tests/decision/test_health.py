import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from insphere.decision import health
from insphere.decision.calibration import ConformalCalibration
from insphere.decision.decision import Decision
from insphere.decision.health import Finding, HealthReport
from insphere.errors import HealthWarning


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clean_scores(n_rows: int, n_dims: int, seed: int) -> NDArray[np.float64]:
    """Distances of standard normal codes from their centre."""
    return np.linalg.norm(random(seed).normal(size=(n_rows, n_dims)), axis=1)


class TestCenters:
    def test_each_centre_s_rows_are_told(self) -> None:
        finding = health.check_centers(np.array([3, 50, 20]), 3)
        assert (finding.level, finding.value, finding.text) == ("ok", 3.0, "3 of 3 centres have training rows: 50, 20, 3 of 73.")

    def test_a_dropped_centre_is_warned_of_with_what_to_do(self) -> None:
        finding = health.check_centers(np.array([73]), 2)
        assert finding.level == "warning" and finding.text.startswith("1 of 2 centres has training rows: 73 of 73. The others")
        assert finding.text.endswith("Give reading={'n_centers': 1}, or geometry='local', which takes no number of kinds.")


class TestScores:
    def test_different_scores_are_ok(self) -> None:
        finding = health.check_scores(np.array([1.0, 2.0, 2.0]))
        assert (finding.level, finding.value, finding.text) == ("ok", 2.0, "2 distinct scores among 3 rows.")

    @pytest.mark.parametrize("scores", [np.full(9, 2.5), np.zeros(9), 2.5 + 1e-7 * np.arange(9), -3 + 1e-8 * np.arange(9)])
    def test_equal_scores_are_critical(self, scores: NDArray[np.float64]) -> None:
        finding = health.check_scores(scores, "Do this.")
        assert finding.level == "critical"
        assert "can't tell rows apart" in finding.text and finding.text.endswith("Do this.")

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
    def test_a_small_sphere_is_no_collapsed_one(self, scale: float) -> None:
        assert health.check_scores(scale * clean_scores(50, 2, 0)).level == "ok"

    @pytest.mark.parametrize("broken", [np.nan, np.inf])
    def test_scores_that_are_not_finite_are_critical(self, broken: float) -> None:
        finding = health.check_scores(np.array([1.0, broken, 2.0]))
        assert (finding.level, finding.value) == ("critical", 0.0)
        assert "not finite" in finding.text


def decided(n_scores: int, **options: Any) -> Decision:
    return Decision(ConformalCalibration(np.arange(float(n_scores))), radius=1.0, n_rows=n_scores, **{"target_fpr": 0.05, **options})


class TestCalibration:
    @pytest.mark.parametrize(
        ("method", "words"), [("split", "60 held-out"), ("cross", "fitted without it"), ("given", "given to recalibrate")]
    )
    def test_conformal(self, method: str, words: str) -> None:
        finding = health.check_calibration(decided(60, method=method))
        assert (finding.level, finding.value) == ("ok", 60.0) and words in finding.text

    def test_radius_as_asked(self) -> None:
        finding = health.check_calibration(decided(5, by="radius"))
        assert finding.level == "ok" and "promises no" in finding.text

    def test_too_few_rows(self) -> None:
        assert health.check_calibration(decided(19)).level == "ok"
        finding = health.check_calibration(decided(18))
        assert finding.level == "warning" and "18 held-out normal rows, too few for the wanted false-alarm rate" in finding.text
        assert "0.05 was asked for, and 0.0526 is what can be promised" in finding.text and "Give 1 more" in finding.text

    def test_rows_that_count_once(self) -> None:
        text = health.check_calibration(Decision(ConformalCalibration(np.arange(20.0)), 1.0, 0.05, n_rows=100)).text
        assert "20 held-out normal rows (of 100: rows of a group and equal rows count once)" in text


class TestEqualRows:
    @pytest.mark.parametrize(("n_equal", "level"), [(0, "ok"), (5, "ok"), (6, "warning"), (50, "warning")])
    def test_copies_are_told(self, n_equal: int, level: str) -> None:
        finding = health.check_equal_rows(n_equal, 100)
        assert finding.level == level and (str(n_equal) in finding.text or n_equal == 0)


class TestSuspects:
    @pytest.mark.parametrize("n_dims", [2, 8, 32, 128])
    def test_clean_rows_are_rarely_suspected(self, n_dims: int) -> None:
        found = [health.find_suspects(clean_scores(1000, n_dims, seed)) for seed in range(50)]
        # A few in a million are beyond the fence; a warning needs three in one set.
        assert sum(map(len, found)) <= 2
        assert all(health.check_contamination(len(suspects), 1000).level == "ok" for suspects in found)

    def test_skewed_scores_are_not_suspected_for_their_tail(self) -> None:
        found = [len(health.find_suspects(random(seed).lognormal(sigma=0.5, size=1000))) for seed in range(50)]
        assert sum(found) <= 2

    def test_planted_anomalies_are_found_highest_first(self) -> None:
        scores = clean_scores(500, 32, 0)
        scores[[17, 230, 444]] = [40.0, 90.0, 60.0]
        assert health.find_suspects(scores).tolist() == [230, 444, 17]

    @pytest.mark.parametrize(("deviations", "n_suspects"), [(3.3, 0), (3.7, 30), (4.4, 30)])
    def test_many_rows_beyond_three_and_a_half_robust_deviations_are_suspected(self, deviations: float, n_suspects: int) -> None:
        # Logarithms evenly spread over (-1, 1), whose quartiles are a unit apart: a robust deviation is 1/1.349.
        logs = np.concatenate([np.linspace(-1, 1, 4001), np.full(30, deviations / 1.349)])
        assert len(health.find_suspects(np.exp(logs))) == n_suspects

    def test_equal_suspects_keep_their_order(self) -> None:
        scores = clean_scores(500, 32, 0)
        scores[[300, 20]] = 80.0
        assert health.find_suspects(scores).tolist() == [20, 300]

    @pytest.mark.parametrize("scores", [np.ones(50), np.zeros(50), np.append(np.ones(50), 9.0)], ids=["ones", "zeros", "one apart"])
    def test_without_spread_nothing_is_suspected(self, scores: NDArray[np.float64]) -> None:
        assert health.find_suspects(scores).tolist() == []

    @given(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=40))
    def test_any_scores_are_survived(self, values: list[float]) -> None:
        scores = np.array(values)
        suspects = health.find_suspects(scores)
        assert len(suspects) <= len(scores) / 4
        assert (np.diff(scores[suspects]) <= 0).all()

    @pytest.mark.parametrize(
        ("n_suspects", "n_rows", "level"), [(0, 100, "ok"), (2, 100, "ok"), (3, 100, "warning"), (3, 1000, "ok"), (6, 1000, "warning")]
    )
    def test_contamination(self, n_suspects: int, n_rows: int, level: str) -> None:
        finding = health.check_contamination(n_suspects, n_rows)
        assert (finding.level, finding.value) == (level, n_suspects / n_rows)
        assert ("remove those that are not normal" in finding.text) == (level == "warning")


class TestHeldOut:
    def test_the_same_distribution_is_ok(self) -> None:
        train, held_out = clean_scores(500, 8, 0), clean_scores(100, 8, 1)
        assert health.check_held_out(train, held_out, float(np.quantile(train, 0.95)), decides=True).level == "ok"

    def test_rows_learned_by_heart(self) -> None:
        train, held_out = clean_scores(500, 8, 0), 2 * clean_scores(100, 8, 1)
        radius = float(np.quantile(train, 0.95))
        finding = health.check_held_out(train, held_out, radius, decides=True)
        assert finding.level == "warning" and finding.value > 0.5 and "calibrated threshold" in finding.text
        assert health.check_held_out(train, held_out[:19], radius, decides=True).level == "ok"  # too few to tell
        calibrated = health.check_held_out(train, held_out, radius, decides=False)
        assert calibrated.level == "ok" and calibrated.value == finding.value  # told, and no warning: new rows' scores decide

    def test_nothing_held_out(self) -> None:
        finding = health.check_held_out(clean_scores(9, 2, 0), np.empty(0), 1.0, decides=True)
        assert finding.level == "ok" and "No rows were held out" in finding.text


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


class TestCodes:
    def test_live_codes(self) -> None:
        mu = random().normal(size=(300, 4)) * [1, 1, 1, 1e-3]
        found = by_name(health.check_codes(mu, np.full((300, 4), -2.0)))
        assert {finding.level for finding in found.values()} == {"ok"}
        assert found["active latent dimensions"].value == 3
        assert found["signal to noise"].value == pytest.approx(mu.var(axis=0).sum() / (4 * np.exp(-2)))
        assert found["KL divergence"].value == pytest.approx(0.5 * (mu**2 + np.exp(-2) - 1 + 2).sum(axis=1).mean())

    def test_posterior_collapse(self) -> None:
        found = by_name(health.check_codes(0.01 * random().normal(size=(300, 4)), np.zeros((300, 4))))
        assert {name: finding.level for name, finding in found.items()} == {
            "active latent dimensions": "warning",
            "signal to noise": "warning",
            "KL divergence": "critical",
        }
        assert found["active latent dimensions"].value == 0
        assert all("Lower alpha" in finding.text or "lower alpha" in finding.text for finding in found.values())

    def test_a_small_live_code_is_not_dead(self) -> None:
        # A sphere that shrinks signal and noise alike.
        found = by_name(health.check_codes(1e-3 * random().normal(size=(300, 4)), np.full((300, 4), 2 * np.log(1e-4))))
        assert found["active latent dimensions"].value == 4 and found["signal to noise"].level == "ok"

    def test_without_a_distribution_over_codes(self) -> None:
        (finding,) = health.check_codes(random().normal(size=(300, 3)) * [1, 0.5, 0.01], None)
        assert (finding.level, finding.value) == ("ok", 2.0)
        (finding,) = health.check_codes(np.ones((300, 3)), None)
        assert (finding.level, finding.value) == ("warning", 0.0)

    def test_codes_without_noise_give_a_figure_that_can_be_stored(self) -> None:
        found = by_name(health.check_codes(random().normal(size=(300, 2)), np.full((300, 2), -2000.0)))
        assert found["signal to noise"].value == 1e12


class TestReconstruction:
    def test_a_good_one(self) -> None:
        x = random().normal(size=(200, 3, 4)).astype(np.float32)
        finding = health.check_reconstruction(x, x + np.float32(0.1), decides=True)
        assert finding.level == "ok" and finding.value == pytest.approx(1 - 0.01 / x.var(axis=0).mean(), abs=1e-3)

    @pytest.mark.parametrize("made", ["mean", "opposite"])
    def test_no_better_than_the_mean_row(self, made: str) -> None:
        x = random().normal(size=(200, 5))
        finding = health.check_reconstruction(x, np.broadcast_to(x.mean(axis=0), x.shape) if made == "mean" else -x, decides=True)
        assert finding.level == "warning" and finding.value == pytest.approx(0 if made == "mean" else -3, abs=0.1)
        assert "train longer" in finding.text

    def test_where_codes_decide_a_bad_one_is_told_without_a_warning(self) -> None:
        x = random().normal(size=(200, 5))
        finding = health.check_reconstruction(x, -x, decides=False)
        assert finding.level == "ok" and finding.value == pytest.approx(-3, abs=0.1)

    @pytest.mark.parametrize("broken", [np.nan, np.inf, 3e38])
    def test_a_broken_one_is_no_good_one_and_can_be_stored(self, broken: float) -> None:
        x = random().normal(size=(20, 5)).astype(np.float32)
        finding = health.check_reconstruction(x, np.full_like(x, broken), decides=True)
        assert finding.level == "warning" and finding.value == -1e12

    def test_equal_rows_have_nothing_to_explain(self) -> None:
        assert health.check_reconstruction(np.ones((20, 5)), np.ones((20, 5)), decides=True).value == 0


class TestModeShift:
    def test_no_shift(self) -> None:
        distances = clean_scores(100, 4, 0)
        finding = health.check_mode_shift(1.1 * distances, distances)
        assert finding.level == "ok" and finding.value == pytest.approx(0.1)

    def test_shift(self) -> None:
        distances = clean_scores(100, 4, 0)
        finding = health.check_mode_shift(12 * distances, distances)
        assert finding.level == "warning" and finding.value == pytest.approx(11) and "running statistics lag behind" in finding.text

    @pytest.mark.parametrize(
        ("train_mode", "eval_mode"), [(np.ones(9), np.zeros(9)), (np.full(9, np.nan), np.ones(9)), (np.full(9, np.inf), np.ones(9))]
    )
    def test_a_broken_one_warns_and_can_be_stored(self, train_mode: NDArray[np.float64], eval_mode: NDArray[np.float64]) -> None:
        finding = health.check_mode_shift(train_mode, eval_mode)
        assert finding.level == "warning" and np.isfinite(finding.value)


OK, WARNING, CRITICAL = (Finding(f"check {level}", level, 1.0, f"It is {level}.") for level in health.LEVELS)


class TestReport:
    @pytest.mark.parametrize(
        ("findings", "level"), [((), "ok"), ((OK,), "ok"), ((OK, WARNING, OK), "warning"), ((CRITICAL, WARNING), "critical")]
    )
    def test_the_worst_finding_decides(self, findings: tuple[Finding, ...], level: str) -> None:
        report = HealthReport(findings)
        assert (report.level, report.collapsed) == (level, level == "critical")

    def test_what_is_not_ok_is_warned_of(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            HealthReport((OK, WARNING, CRITICAL)).warn()
        assert [(warning.category, str(warning.message)) for warning in caught] == [
            (HealthWarning, "check warning: It is warning."),
            (HealthWarning, "check critical: It is critical."),
        ]

    def test_round_trip(self) -> None:
        report = HealthReport((OK, CRITICAL), (7, 2))
        assert HealthReport.from_json(json.loads(json.dumps(report.to_json()))) == report
        assert report.to_json()["level"] == "critical"
