import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta

import naive
from insphere.decision.calibration import Calibration, ConformalCalibration, fold_rows, radius, rows_needed, split_rows
from insphere.decision.units import group_codes
from insphere.errors import DataError, ParameterError

scores_with_ties = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False, allow_infinity=False)), max_size=40)
rates = st.one_of(
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=100).map(float),
)


class TestCalibration:
    def test_defaults(self) -> None:
        assert dataclasses.asdict(Calibration()) == {
            "method": "auto",
            "fraction": 0.2,
            "max_rows": 2000,
            "n_folds": 10,
            "decision": "conformal",
            "radius_quantile": 0.95,
        }

    def test_numbers_of_numpy_become_built_in(self) -> None:
        record = Calibration(fraction=np.float32(0.25), max_rows=np.int64(7))  # type: ignore[arg-type]
        assert (type(record.fraction), type(record.max_rows)) == (float, int)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("method", "folds"),
            ("n_folds", 1),
            ("n_folds", 2.0),
            ("fraction", 0),
            ("fraction", 0.51),
            ("fraction", math.nan),
            ("fraction", "0.2"),
            ("max_rows", 0),
            ("max_rows", 2.5),
            ("max_rows", True),
            ("decision", "conformel"),
            ("decision", None),
            ("radius_quantile", 0),
            ("radius_quantile", 1.5),
        ],
    )
    def test_each_option_has_a_rule(self, field: str, value: Any) -> None:
        with pytest.raises(ParameterError, match=f"`{field}` must be"):
            Calibration(**{field: value})

    def test_misspelt_decision_gets_a_hint(self) -> None:
        with pytest.raises(ParameterError, match="Did you mean 'conformal'"):
            Calibration(decision="conformel")  # type: ignore[arg-type]


class TestFoldRows:
    @given(n=st.integers(1, 60), n_folds=st.integers(2, 12), n_units=st.integers(1, 60), seed=st.integers(0, 5))
    def test_folds_are_of_whole_units_and_even(self, n: int, n_folds: int, n_units: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        units = group_codes(rng.integers(n_units, size=n), n)
        folds = fold_rows(n, n_folds, units=units, rng=rng)
        per_fold = [len(set(units[folds == fold])) for fold in range(folds.max() + 1)]
        assert sum(per_fold) == len(set(units)) and max(per_fold) - min(per_fold) <= 1 and min(per_fold) > 0
        assert len(per_fold) == min(n_folds, len(set(units)))


class TestSplitRows:
    @given(
        n=st.integers(0, 300),
        fraction=st.floats(0.001, 0.5),
        max_rows=st.integers(1, 100),
        target_fpr=rates,
        n_groups=st.one_of(st.none(), st.integers(1, 30)),
        seed=st.integers(0, 9),
    )
    def test_always_a_partition_of_whole_groups(
        self, n: int, fraction: float, max_rows: int, target_fpr: float, n_groups: int | None, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        groups = None if n_groups is None else group_codes(rng.integers(n_groups, size=n), n)
        train, held_out = split_rows(n, fraction=fraction, max_rows=max_rows, target_fpr=target_fpr, units=groups, rng=rng)
        assert train.dtype == held_out.dtype == np.int64
        assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(n))
        assert (np.diff(train) > 0).all()
        assert (np.diff(held_out) > 0).all()
        assert len(held_out) <= n // 2
        if groups is not None:
            assert {groups[row] for row in train}.isdisjoint({groups[row] for row in held_out})
        elif n >= 4:
            enough = min(n // 2, rows_needed(target_fpr))
            assert len(held_out) == max(enough, min(n // 2, max_rows, round(fraction * n)))

    @pytest.mark.parametrize(
        ("n", "options", "expected"),
        [
            (0, {}, 0),
            (1, {}, 0),
            (3, {}, 0),
            (4, {}, 2),
            (20, {}, 10),
            (38, {}, 19),
            (60, {}, 19),
            (100, {}, 20),
            (100_000, {}, 2000),
            (1000, {"max_rows": 50}, 50),
            (1000, {"target_fpr": 0.003}, 333),
            (1000, {"target_fpr": 0.001}, 500),
            (1000, {"target_fpr": 1e-300}, 500),
            (1000, {"max_rows": 5, "target_fpr": 0.05}, 19),
        ],
    )
    def test_number_of_held_out_rows(self, n: int, options: dict[str, Any], expected: int) -> None:
        train, held_out = split_rows(n, rng=np.random.default_rng(0), **options)
        assert (len(train), len(held_out)) == (n - expected, expected)

    def test_every_row_has_the_same_chance(self) -> None:
        rng = np.random.default_rng(0)
        times = np.zeros(10)
        for _ in range(2000):
            times[split_rows(10, fraction=0.3, target_fpr=0.5, rng=rng)[1]] += 1
        assert times / 2000 == pytest.approx(np.full(10, 0.3), abs=0.05)

    def test_seed_decides(self) -> None:
        first, second, other = (split_rows(100, rng=np.random.default_rng(seed))[1].tolist() for seed in (1, 1, 2))
        assert first == second != other

    def test_units_that_are_too_large_train(self) -> None:
        units = np.array([0] * 70 + list(range(1, 31)))
        for seed in range(5):
            _, held_out = split_rows(100, units=units, rng=np.random.default_rng(seed))
            assert len(held_out) == 15 and held_out.min() >= 70
        assert len(split_rows(100, units=np.zeros(100, np.int64), rng=np.random.default_rng(0))[1]) == 0

    def test_units_are_counted_not_rows(self) -> None:
        units = np.repeat(np.arange(200), 5)
        assert len(split_rows(1000, fraction=0.2, units=units, rng=np.random.default_rng(0))[1]) == 5 * 40
        assert len(split_rows(1000, fraction=0.2, target_fpr=0.01, units=units, rng=np.random.default_rng(0))[1]) == 5 * 99

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"fraction": 0.6}, "fraction"),
            ({"max_rows": 0}, "max_rows"),
            ({"target_fpr": 0}, "target_fpr"),
            ({"target_fpr": 1}, "target_fpr"),
        ],
    )
    def test_options_have_rules(self, options: dict[str, Any], name: str) -> None:
        with pytest.raises(ParameterError, match=name):
            split_rows(10, rng=np.random.default_rng(0), **options)


class TestRowsNeeded:
    @given(st.integers(1, 10_000))
    def test_one_in_n(self, n: int) -> None:
        if n > 1:
            assert rows_needed(1 / n) == n - 1

    @given(rates.filter(lambda rate: rate > 1e-4))
    def test_smallest_number_with_a_finite_threshold(self, rate: float) -> None:
        n = rows_needed(rate)
        assert math.isfinite(ConformalCalibration(np.arange(n)).threshold(rate))
        assert ConformalCalibration(np.arange(n - 1)).threshold(rate) == math.inf

    @pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-17, 1.2e-16, 1e-12])
    def test_tiny_rates_end(self, rate: float) -> None:
        assert rows_needed(rate) >= 10**11


class TestRadius:
    def test_percentile_of_the_training_scores(self) -> None:
        scores = np.random.default_rng(0).normal(size=1000)
        assert radius(scores) == np.percentile(scores, 95)
        assert (scores > radius(scores)).mean() == 0.05
        assert radius(scores, 1.0) == scores.max()
        assert radius([3.0]) == 3.0

    @pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf], [[1.0]], 1.0])
    def test_bad_scores(self, scores: Any) -> None:
        with pytest.raises(DataError, match="`train_scores` must"):
            radius(scores)

    @pytest.mark.parametrize("quantile", [0, 1.1, math.nan, "95"])
    def test_bad_quantile(self, quantile: Any) -> None:
        with pytest.raises(ParameterError, match="`quantile` must"):
            radius([1.0], quantile)


class TestConformalCalibration:
    @given(scores_with_ties, st.lists(st.floats(allow_nan=False), max_size=10))
    def test_p_value_counts(self, held_out: list[float], new: list[float]) -> None:
        asked = [*held_out, *new]
        found = ConformalCalibration(held_out).p_value(asked)
        assert found.dtype == np.float64
        assert found.tolist() == [naive.p_value(held_out, score) for score in asked]

    @given(scores_with_ties, st.lists(st.floats(allow_nan=False), max_size=10), rates)
    def test_threshold_flags_exactly_the_rows_of_small_p(self, held_out: list[float], new: list[float], rate: float) -> None:
        calibration = ConformalCalibration(held_out)
        asked = np.array([*held_out, *new])
        with np.errstate(over="ignore"):  # the neighbour of the largest number is infinite
            above = np.concatenate([asked, np.nextafter(asked, np.inf), np.nextafter(asked, -np.inf)])
        assert ((above > calibration.threshold(rate)) == (calibration.p_value(above) <= rate)).all()

    @pytest.mark.parametrize("denominator", [10, 20, 50, 100, 1000])
    def test_round_rates_lose_no_row_to_rounding(self, denominator: int) -> None:
        calibration = ConformalCalibration(np.arange(denominator - 1))
        for k in range(1, denominator):
            # 0.29 * 100 is 28.999999999999996, yet 29 of 100 is 0.29
            assert calibration.threshold(k / denominator) == denominator - 1 - k
            assert calibration.false_alarm(k / denominator).value == k / denominator
            # A rate below k / n by the last bit allows one row less, though its product with n may round up to k.
            assert calibration.false_alarm(np.nextafter(k / denominator, 0)).value == (k - 1) / denominator

    @given(scores_with_ties, rates, rates)
    def test_higher_rate_lower_threshold(self, held_out: list[float], one: float, other: float) -> None:
        calibration = ConformalCalibration(held_out)
        assert calibration.threshold(max(one, other)) <= calibration.threshold(min(one, other))

    def test_normal_rows_are_flagged_at_the_stated_rate(self) -> None:
        rng = np.random.default_rng(0)
        for n, rate in [(19, 0.05), (50, 0.1), (200, 0.05)]:
            found = []
            for _ in range(2000):
                calibration = ConformalCalibration(rng.uniform(size=n))
                found.append(1 - calibration.threshold(rate))  # the share of new uniform scores above it
            expected = calibration.false_alarm(rate)
            assert np.mean(found) == pytest.approx(expected.value, abs=0.005)
            assert expected.value <= rate
            assert np.quantile(found, [0.025, 0.975]) == pytest.approx([expected.low, expected.high], abs=0.015)

    def test_false_alarm_is_the_beta_of_an_order_statistic(self) -> None:
        expected = beta(5, 95)
        found = ConformalCalibration(np.arange(99)).false_alarm(0.05)
        assert (found.value, found.low, found.high) == pytest.approx((expected.mean(), expected.ppf(0.025), expected.ppf(0.975)))

    @pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
    def test_the_range_holds_the_real_rate_of_scores_with_ties(self, rate: float) -> None:
        rng, held = np.random.default_rng(0), []
        shares = np.array([0.5, 0.2, 0.15, 0.1, 0.05])  # of the scores 0..4
        for _ in range(1000):
            calibration = ConformalCalibration(rng.choice(5, size=60, p=shares))
            expected, real = calibration.false_alarm(rate), shares[np.arange(5) > calibration.threshold(rate)].sum()
            held.append(expected.low <= real <= expected.high)
        assert np.mean(held) >= 0.95

    def test_few_scores_state_no_low_end(self) -> None:
        assert ConformalCalibration(np.arange(19)).false_alarm(0.5).low == 0 < ConformalCalibration(np.arange(20)).false_alarm(0.5).low

    @given(st.integers(0, 60), rates)
    def test_false_alarm_is_ordered_and_below_the_target(self, n: int, rate: float) -> None:
        found = ConformalCalibration(np.arange(n)).false_alarm(rate)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.value <= rate

    def test_no_held_out_row_flags_nothing(self) -> None:
        calibration = ConformalCalibration([])
        assert len(calibration) == 0
        assert calibration.p_value([0.0, math.inf]).tolist() == [1.0, 1.0]
        assert calibration.threshold(0.99) == math.inf
        assert calibration.false_alarm(0.99).to_json() == {"value": 0.0, "low": 0.0, "high": 0.0}

    def test_too_few_rows_flag_nothing(self) -> None:
        calibration = ConformalCalibration(np.arange(18))
        assert calibration.threshold(0.05) == math.inf
        assert ConformalCalibration(np.arange(19)).threshold(0.05) == 18

    def test_scores_are_a_sorted_read_only_copy(self) -> None:
        given_scores = np.array([3.0, 1.0, 2.0])
        calibration = ConformalCalibration(given_scores)
        given_scores[0] = -1
        assert calibration.scores.tolist() == [1.0, 2.0, 3.0]
        with pytest.raises(ValueError, match="read-only"):
            calibration.scores[0] = 0

    def test_any_shape_of_scores(self) -> None:
        calibration = ConformalCalibration(np.array([1, 2, 3], dtype=np.float32))
        assert calibration.p_value(2.0).shape == ()
        assert calibration.p_value([[1.0, 4.0]]).tolist() == [[1.0, 0.25]]
        assert calibration.p_value([]).shape == (0,)

    @pytest.mark.parametrize("scores", [[math.nan], [1.0, math.inf], [[1.0]]])
    def test_bad_held_out_scores(self, scores: Any) -> None:
        with pytest.raises(DataError, match="`scores` must"):
            ConformalCalibration(scores)

    def test_nan_is_not_the_most_anomalous_score(self) -> None:
        with pytest.raises(DataError, match="must not be NaN, got 1 of 2"):
            ConformalCalibration(np.arange(5)).p_value([1.0, math.nan])

    @pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan, None, True])
    def test_bad_rate(self, rate: Any) -> None:
        calibration = ConformalCalibration(np.arange(5))
        with pytest.raises(ParameterError, match="target_fpr"):
            calibration.threshold(rate)
        with pytest.raises(ParameterError, match="target_fpr"):
            calibration.false_alarm(rate)


def test_the_range_of_a_rate_where_scores_are_tied_or_the_highest_decides() -> None:
    def low_of(scores: NDArray[np.float64], target_fpr: float) -> float:
        return ConformalCalibration(scores).false_alarm(target_fpr).low

    single, tied = np.arange(200.0), np.arange(200.0)
    tied[190:193] = 190.0
    assert low_of(single, 10.5 / 201) == pytest.approx(beta.ppf(0.025, 10, 191))  # 9 above, one at the threshold
    assert low_of(tied, 10.5 / 201) == pytest.approx(beta.ppf(0.025, 7, 194))  # 7 above, three at it
    assert low_of(single, 1.5 / 201) == 0.0  # the highest: ties may go unseen
