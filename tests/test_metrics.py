import json
import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import naive
from insphere.errors import DataError, ParameterError
from insphere.metrics import Estimate, auroc, average_precision, evaluate, fpr_at_tpr, proportion

RANKERS: list[Callable[..., Estimate]] = [auroc, average_precision, fpr_at_tpr]


@st.composite
def labelled_scores(draw: st.DrawFn, max_size: int = 30) -> tuple[list[int], list[float]]:
    """Rows with both labels and many ties, in any order."""
    score = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False))
    normal = draw(st.lists(score, min_size=1, max_size=max_size))
    anomaly = draw(st.lists(score, min_size=1, max_size=max_size))
    rows = draw(st.permutations([(0, score) for score in normal] + [(1, score) for score in anomaly]))
    return [label for label, _ in rows], [score for _, score in rows]


def gaussian_rows(n_normal: int, n_anomaly: int, shift: float, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n_normal, n_anomaly])
    return labels, random.normal(size=n_normal + n_anomaly) + shift * labels


class TestValues:
    @given(labelled_scores())
    def test_auroc_counts_pairs(self, rows: tuple[list[int], list[float]]) -> None:
        assert auroc(*rows).value == pytest.approx(naive.auroc(*rows), abs=1e-12)

    @given(labelled_scores())
    def test_average_precision_sums_steps(self, rows: tuple[list[int], list[float]]) -> None:
        assert average_precision(*rows).value == pytest.approx(naive.average_precision(*rows), abs=1e-12)

    @given(labelled_scores(), st.one_of(st.floats(0.001, 1), st.sampled_from([0.07, 0.29, 0.5, 0.95, 1.0])))
    def test_fpr_at_tpr_walks_thresholds(self, rows: tuple[list[int], list[float]], tpr: float) -> None:
        assert fpr_at_tpr(*rows, tpr).value == naive.fpr_at_tpr(*rows, tpr)

    @pytest.mark.parametrize("tpr", [0.07, 0.14, 0.28, 0.29, 0.56, 0.57, 0.58])
    def test_share_of_a_hundred_anomalies_is_not_rounded_up_a_row(self, tpr: float) -> None:
        labels = [1, 0] * 100  # alternating, so that one anomaly more is one normal row more
        assert fpr_at_tpr(labels, range(200), tpr).value == naive.fpr_at_tpr(labels, range(200), tpr) == tpr

    def test_same_as_scikit_learn(self) -> None:
        labels, scores = gaussian_rows(300, 700, 1.2)
        scores = scores.round(1)  # ties
        assert auroc(labels, scores).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(labels, scores).value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        false_rate, true_rate, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert fpr_at_tpr(labels, scores).value == pytest.approx(false_rate[true_rate >= 0.95][0], abs=1e-12)

    @pytest.mark.parametrize("metric", RANKERS)
    @given(rows=labelled_scores(max_size=10))
    def test_only_the_order_of_scores_counts(self, metric: Callable[..., Estimate], rows: tuple[list[int], list[float]]) -> None:
        labels, scores = rows
        ranks = np.unique(scores, return_inverse=True)[1]
        shuffled = np.random.default_rng(0).permutation(len(scores))
        assert metric(labels, ranks) == metric(labels, scores)
        assert metric(np.array(labels)[shuffled], np.array(scores)[shuffled]) == metric(labels, scores)

    def test_reversed_scores_mirror_the_auroc(self) -> None:
        labels, scores = gaussian_rows(40, 60, 1.0)
        up, down = auroc(labels, scores), auroc(labels, -scores)
        assert (down.value, down.low, down.high) == pytest.approx((1 - up.value, 1 - up.high, 1 - up.low))

    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float32, object])
    def test_labels_of_any_number_type(self, dtype: type) -> None:
        assert auroc(np.array([0, 1, 0, 1]).astype(dtype), [1, 2, 3, 4]).value == 0.75


class TestIntervals:
    @pytest.mark.parametrize("metric", RANKERS)
    @given(rows=labelled_scores())
    def test_interval_holds_the_value_and_stays_in_range(
        self, metric: Callable[..., Estimate], rows: tuple[list[int], list[float]]
    ) -> None:
        estimate = metric(*rows)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1

    def test_auroc_interval_is_delong_on_the_logit_scale(self) -> None:
        labels, scores = gaussian_rows(23, 31, 1.0)
        scores = scores.round(1)
        estimate = auroc(labels, scores)
        error = math.sqrt(naive.delong_variance(labels.tolist(), scores.tolist()))
        odds = estimate.value / (1 - estimate.value)
        step = math.exp(1.959964 * error / (estimate.value * (1 - estimate.value)))
        assert estimate.low == pytest.approx(odds / step / (1 + odds / step), abs=1e-6)
        assert estimate.high == pytest.approx(odds * step / (1 + odds * step), abs=1e-6)

    @pytest.mark.parametrize(("metric", "truth"), [(auroc, norm.cdf(1.5 / math.sqrt(2))), (fpr_at_tpr, norm.sf(1.5 + norm.ppf(0.05)))])
    def test_interval_covers_the_truth_about_95_times_in_100(self, metric: Callable[..., Estimate], truth: float) -> None:
        found = [metric(*gaussian_rows(150, 150, 1.5, seed)) for seed in range(300)]
        covered = sum(estimate.low <= truth <= estimate.high for estimate in found)
        assert 0.91 * 300 <= covered <= 0.99 * 300

    def test_average_precision_interval_covers_the_truth(self) -> None:
        truth = average_precision_score(*gaussian_rows(300_000, 300_000, 1.5, seed=1))
        found = [average_precision(*gaussian_rows(100, 100, 1.5, seed)) for seed in range(100)]
        assert sum(estimate.low <= truth <= estimate.high for estimate in found) >= 88

    def test_fpr_bootstrap_equals_resampling_rows(self) -> None:
        labels, scores = gaussian_rows(200, 60, 2.0)
        random = np.random.default_rng(0)
        rates = []
        for _ in range(1000):
            normal = random.choice(scores[labels == 0], 200)
            anomaly = np.sort(random.choice(scores[labels == 1], 60))
            rates.append((normal >= anomaly[-57]).mean())  # 57 of 60 are 95 %
        low, high = np.quantile(rates, [0.025, 0.975])
        estimate = fpr_at_tpr(labels, scores)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.03)

    def test_average_precision_bootstrap_equals_resampling_rows(self) -> None:
        labels, scores = gaussian_rows(60, 40, 1.0)
        random = np.random.default_rng(0)
        areas = []
        for _ in range(1000):
            rows = np.concatenate([random.integers(0, 60, 60), random.integers(60, 100, 40)])
            areas.append(average_precision_score(labels[rows], scores[rows]))
        low, high = np.quantile(areas, [0.025, 0.975])
        estimate = average_precision(labels, scores)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.02)

    def test_more_rows_narrow_every_interval(self) -> None:
        for metric in RANKERS:
            few, many = metric(*gaussian_rows(50, 50, 1.0)), metric(*gaussian_rows(5000, 5000, 1.0))
            assert many.high - many.low < (few.high - few.low) / 3

    def test_perfect_separation_is_not_called_certain(self) -> None:
        estimate = auroc([0] * 10 + [1] * 20, range(30))
        assert (estimate.value, estimate.high) == (1.0, 1.0)
        assert estimate.low == pytest.approx(0.025 ** (1 / 10))
        reverse = auroc([1] * 20 + [0] * 10, range(30))
        assert (reverse.value, reverse.low, reverse.high) == pytest.approx((0.0, 0.0, 1 - estimate.low))
        assert fpr_at_tpr([0] * 10 + [1] * 20, range(30)).high == proportion(0, 10).high
        assert fpr_at_tpr([1] * 20 + [0] * 10, range(30)).low == proportion(10, 10).low

    def test_one_row_of_a_label_gives_no_variance_and_the_widest_interval(self) -> None:
        assert auroc([0, 0, 1], [1.0, 3.0, 2.0]) == Estimate(0.5, 0.0, 1.0)

    def test_constant_scores_are_a_coin(self) -> None:
        assert auroc([0, 0, 1, 1], [5.0] * 4) == Estimate(0.5, 0.5, 0.5)

    @pytest.mark.parametrize("metric", [average_precision, fpr_at_tpr])
    def test_bootstrap_is_a_function_of_its_seed_and_leaves_the_global_state_alone(self, metric: Callable[..., Estimate]) -> None:
        labels, scores = gaussian_rows(400, 600, 1.0)
        before = str(np.random.get_state(legacy=False))  # noqa: NPY002  (the state that must not move)
        assert metric(labels, scores, seed=3) == metric(labels, scores, seed=3)
        assert str(np.random.get_state(legacy=False)) == before  # noqa: NPY002
        assert metric(labels, scores, seed=3) != metric(labels, scores, seed=4)


class TestProportion:
    @given(st.integers(0, 500), st.integers(1, 500))
    def test_ends_solve_the_score_equation(self, k: int, n: int) -> None:
        k = min(k, n)
        estimate = proportion(k, n)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        for end in (estimate.low, estimate.high):
            if 1e-9 < end < 1 - 1e-9:
                assert abs(k / n - end) / math.sqrt(end * (1 - end) / n) == pytest.approx(1.959964, abs=1e-4)

    def test_no_row_no_proportion(self) -> None:
        assert proportion(0, 0).to_json() == {"value": None, "low": None, "high": None}

    @pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1), (0.5, 3), (True, 3)])
    def test_impossible_counts(self, k: Any, n: Any) -> None:
        with pytest.raises(ParameterError):
            proportion(k, n)


class TestBadInput:
    @pytest.mark.parametrize("metric", RANKERS)
    @pytest.mark.parametrize(
        ("labels", "scores", "words"),
        [
            ([0, 1], [0.0, math.nan], "NaN, got 1 of 2 .first: row 1"),
            ([0, 0], [0.0, 1.0], "both 0 .normal. and 1 .anomaly., got 2 normal rows and 0 anomalies"),
            ([1, 1], [0.0, 1.0], "got 0 normal rows and 2 anomalies"),
            ([], [], "at least one row"),
            ([0, 1, 1], [0.0, 1.0], "one entry per score: 2, got 3"),
            ([0, 2], [0.0, 1.0], "got 2 in row 1"),
            ([1, -1], [0.0, 1.0], "got -1 in row 1"),
            ([0, math.nan], [0.0, 1.0], "got nan in row 1"),
            ([0, None], [0.0, 1.0], "got None in row 1"),
            (["good", "crack"], [0.0, 1.0], "convert them first"),
            ([[0], [1]], [0.0, 1.0], "shape .2, 1."),
            ([0, 1], [[0.0], [1.0]], "shape .2, 1."),
            ([0, 1], [[0.0], [1.0, 2.0]], "one value per row"),
            ([0, 1], ["0", "1"], "`scores` must be numbers"),
            ([0, 1], [0j, 1j], "`scores` must be numbers"),
            ([0, 1], [0.0, None], "NaN|`scores` must be numbers"),
            ([0, 1], [0.0, "a"], "`scores` must be numbers"),
            (1, 1.0, "one value per row"),
        ],
    )
    def test_is_named(self, metric: Callable[..., Estimate], labels: Any, scores: Any, words: str) -> None:
        with pytest.raises(DataError, match=words):
            metric(labels, scores)

    @pytest.mark.parametrize("tpr", [0, -0.1, 1.01, math.nan, "0.95", None])
    def test_tpr_out_of_range(self, tpr: Any) -> None:
        with pytest.raises(ParameterError, match="tpr"):
            fpr_at_tpr([0, 1], [0.0, 1.0], tpr)

    @pytest.mark.parametrize("metric", [average_precision, fpr_at_tpr])
    def test_seed_is_a_whole_number(self, metric: Callable[..., Estimate]) -> None:
        with pytest.raises(ParameterError, match="seed"):
            metric([0, 1], [0.0, 1.0], seed=-1)

    def test_flags_and_types_have_one_entry_per_row(self) -> None:
        with pytest.raises(DataError, match="`flagged` must have one entry per score: 2, got 1"):
            evaluate([0, 1], [0.0, 1.0], [True])
        with pytest.raises(DataError, match="`types` must have one entry per score: 2, got 3"):
            evaluate([0, 1], [0.0, 1.0], [False, True], ["a", "b", "c"])
        with pytest.raises(DataError, match="`flagged` must be 0"):
            evaluate([0, 1], [0.0, 1.0], [0, -1])


class TestEvaluate:
    def test_counts_and_rates(self) -> None:
        result = evaluate([0, 0, 0, 1, 1], [1.0, 2.0, 5.0, 4.0, 6.0], [0, 0, 1, 0, 1])
        assert (result.n_normal, result.n_anomaly) == (3, 2)
        assert result.precision == proportion(1, 2)
        assert result.recall == proportion(1, 2)
        assert result.false_alarm_rate == proportion(1, 3)
        assert result.per_type == {}

    @given(labelled_scores(max_size=8))
    def test_ranking_metrics_are_the_single_functions(self, rows: tuple[list[int], list[float]]) -> None:
        result = evaluate(*rows, rows[0], seed=5)
        assert result.auroc == auroc(*rows)
        assert result.average_precision == average_precision(*rows, seed=5)
        assert result.fpr_at_95_tpr == fpr_at_tpr(*rows, seed=5)

    def test_each_type_stands_against_all_normal_rows(self) -> None:
        labels, types = [0, 0, 1, 1, 1], ["good", "fine", "dent", "crack", "dent"]
        scores = [1.0, 4.0, 2.0, 3.0, 5.0]
        result = evaluate(labels, scores, [0, 1, 0, 0, 1], types)
        assert list(result.per_type) == ["crack", "dent"]
        assert result.per_type["dent"].n == 2
        assert result.per_type["dent"].auroc == auroc([0, 0, 1, 1], [1.0, 4.0, 2.0, 5.0])
        assert result.per_type["dent"].recall == proportion(1, 2)
        assert result.per_type["crack"].recall == proportion(0, 1)

    def test_normal_rows_alone_still_give_a_false_alarm_rate(self) -> None:
        result = evaluate([0, 0], [1.0, 2.0], [0, 1], ["good", "good"])
        assert result.false_alarm_rate.value == 0.5
        assert not any(entry.is_defined for entry in (result.auroc, result.average_precision, result.fpr_at_95_tpr, result.recall))
        assert result.precision.value == 0.0

    def test_anomalies_alone_still_give_a_recall(self) -> None:
        result = evaluate([1, 1], [1.0, 2.0], [0, 1], ["dent", "dent"])
        assert result.recall.value == result.per_type["dent"].recall.value == 0.5
        assert not result.auroc.is_defined
        assert not result.per_type["dent"].auroc.is_defined
        assert not result.false_alarm_rate.is_defined

    def test_nothing_flagged_leaves_the_precision_undefined(self) -> None:
        assert not evaluate([0, 1], [1.0, 2.0], [0, 0]).precision.is_defined

    def test_json_has_no_nan_and_only_plain_numbers(self) -> None:
        result = evaluate([0, 0, 1, 1], np.array([1, 2, 2, 3], dtype=np.float32), [0, 0, 0, 0], ["good", "good", "crack", "dent"]).to_json()
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert result["precision"] == {"value": None, "low": None, "high": None}
        assert set(result["auroc"]) == {"value", "low", "high"}
        assert set(result["per_type"]["crack"]) == {"n", "auroc", "recall"}

    def test_ten_thousand_rows_take_less_than_a_second(self) -> None:
        labels, scores = gaussian_rows(1_000, 9_000, 1.5)
        types = [f"type {row % 15}" for row in range(10_000)]
        start = time.process_time()  # not the clock on the wall: the machine has other work
        evaluate(labels, scores, scores > 2, types)
        assert time.process_time() - start < 1.5

    def test_memory_does_not_grow_with_the_resamples(self) -> None:
        labels, scores = gaussian_rows(30_000, 30_000, 1.0)
        tracemalloc.start()
        try:
            average_precision(labels, scores)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 60e6  # all resamples at once would take 160 MB
