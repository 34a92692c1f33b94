"""The decision: threshold, promise, changes, and its way into a file and back."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import insphere
import insphere.detectors.catalog
from insphere import model_file
from insphere.decision.calibration import ConformalCalibration, rows_needed
from insphere.decision.categories import Categories, RowCategories
from insphere.decision.decision import Decision, use_of_rows
from insphere.errors import CollapseError, DataError, DataNotice, HealthWarning, ModelFileError, ParameterError

X = np.random.default_rng(0).normal(size=(300, 3))


def decided(n_scores: int, **options: Any) -> Decision:
    return Decision(ConformalCalibration(np.arange(float(n_scores))), **{"radius": 1.5, "target_fpr": 0.05, **options})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.001, 0.6), st.floats(-2e6, 2e6))
def test_a_row_is_flagged_exactly_where_its_p_value_is_at_most_what_is_promised(scores: list[float], target: float, new: float) -> None:
    decision = Decision(ConformalCalibration(scores), radius=0.0, target_fpr=target)
    assert decision.promised_fpr is not None and decision.expected is not None
    candidates = np.array([*scores, new])
    np.testing.assert_array_equal(decision.is_anomaly(candidates), decision.p_value(candidates) <= decision.promised_fpr)
    assert decision.promised_fpr == max(target, 1 / (len(scores) + 1)) or len(scores) >= rows_needed(target)
    assert decision.expected.value <= decision.promised_fpr


def test_too_few_scores_take_the_highest_and_say_so() -> None:
    decision = decided(8)
    assert (decision.threshold, decision.promised_fpr, decision.reaches_target) == (7.0, 1 / 9, False)
    assert decision.to_json()["promised_fpr"] == 1 / 9 and decision.to_json()["target_fpr"] == 0.05


def test_the_radius_only_where_it_is_asked_for() -> None:
    assert (decided(0, by="radius").threshold, decided(40, by="radius").expected) == (1.5, None)
    with pytest.raises(DataError, match="at least two groups"):
        decided(0)


def test_changes_are_noted() -> None:
    changed = decided(99).retargeted(0.01).recalibrated(np.arange(200.0), 220)
    assert [entry["what"] for entry in changed.history] == ["target_fpr", "calibration scores"]
    assert changed.history[0]["threshold_from"] == 94.0 and changed.history[0]["threshold_to"] == 98.0
    assert (changed.method, len(changed), changed.n_rows, changed.target_fpr) == ("given", 200, 220, 0.01)


@given(st.integers(1, 40), st.sampled_from(["conformal", "radius"]), st.sampled_from(["split", "cross", "given"]), st.floats(0.01, 0.5))
def test_file_and_back(n: int, by: str, method: str, target: float) -> None:
    decision = decided(n, by=by, method=method, target_fpr=target, n_rows=n).retargeted(target / 2)
    record = json.loads(json.dumps(decision.to_json()))
    again = Decision.from_json(record, decision.calibration.scores)
    assert again.to_json() == record and again.threshold == decision.threshold


def test_a_threshold_that_does_not_follow_from_the_scores_is_refused() -> None:
    record = decided(40).to_json()
    for wrong in (record["threshold"] + 1, None, True, float("nan"), "1"):
        with pytest.raises(ModelFileError, match="threshold"):
            Decision.from_json(record | {"threshold": wrong}, np.arange(40.0))
    with pytest.raises(ModelFileError, match="hold together"):
        Decision.from_json(record, np.array([1.0, np.nan]))


def test_decisions_of_the_first_version_load() -> None:
    old = {"by": "radius", "threshold": 1.5, "radius": 1.5, "target_fpr": 0.05}
    assert Decision.from_json(old, np.arange(8.0)).to_json()["by"] == "conformal"
    assert Decision.from_json(old, np.arange(40.0)).threshold == 1.5
    assert Decision.from_json(old | {"by": "conformal", "threshold": 38.0}, np.arange(40.0)).threshold == 38.0


def test_what_a_decision_says_of_itself() -> None:
    assert repr(decided(99)) == "<Decision by conformal (split): threshold 94, 99 scores, promised rate 0.05>"
    assert repr(decided(99, by="radius")) == "<Decision by radius (split): threshold 1.5, 99 scores, promised rate nothing>"
    assert decided(19).reaches_target and not decided(18).reaches_target
    assert decided(19).n_rows == 0


def test_a_map_counts_from_its_highest_normal_place() -> None:
    peaks = ConformalCalibration(np.arange(100.0, 200.0))
    assert decided(40).map_level == decided(40, peaks=ConformalCalibration(np.empty(0))).map_level == 1.0
    assert decided(40, peaks=peaks).map_level == peaks.threshold(0.05) == 195.0
    # Too few for the target: the highest that was seen.
    assert decided(40, peaks=ConformalCalibration([3.0, 7.0])).map_level == 7.0


def test_peaks_of_the_categories_that_stay_are_kept() -> None:
    both = Categories.of_scores(("a", "b"), np.repeat([0, 1], 20), np.arange(40.0))
    decision = decided(40, categories=both, peaks=ConformalCalibration(np.arange(40.0)))
    new = np.arange(100.0, 130.0)
    one = decision.recalibrated(new, 30, peaks=new, categories=RowCategories.of(["b"] * 30, 30))
    assert one.peaks is not None and len(one) == 50 and len(one.peaks) == 70 and one.n_rows == 50
    all_of_them = decision.recalibrated(new, 30, peaks=new, categories=RowCategories.of(["a", "b"] * 15, 30))
    assert all_of_them.peaks is not None and len(all_of_them) == len(all_of_them.peaks) == all_of_them.n_rows == 30
    assert decision.recalibrated(new, 30, categories=RowCategories.of(["b"] * 30, 30)).peaks is None
    assert decided(40).recalibrated(new, 33).n_rows == 33


def test_scores_that_come_beside_others_keep_the_categories_of_all() -> None:
    both = Categories.of_scores(("a", "b"), np.repeat([0, 1], 20), np.arange(40.0))
    more = decided(40, categories=both, n_rows=44).extended(np.arange(5.0))
    assert more.categories is not None and more.categories.sizes == {"a": 20, "b": 20} and (len(more), more.n_rows) == (45, 49)
    named = more.extended(np.arange(3.0), RowCategories.of(["c"] * 3, 3))
    assert named.categories is not None and named.categories.sizes == {"a": 20, "b": 20, "c": 3}
    plain = decided(40).extended(np.arange(5.0))
    assert plain.categories is None and len(plain) == 45 and plain.method == "given"
    first = decided(40).extended(np.arange(5.0), RowCategories.of(["a"] * 5, 5))
    assert first.categories is not None and first.categories.sizes == {"a": 5} and len(first) == 45


def test_new_categories_take_the_place_of_scores_without_one() -> None:
    first = decided(40).recalibrated(np.arange(25.0), 25, categories=RowCategories.of(["a"] * 25, 25))
    assert first.categories is not None and first.categories.sizes == {"a": 25} and len(first) == 25
    with pytest.raises(DataError, match="calibrated by category"):
        first.recalibrated(np.arange(5.0), 5)


@pytest.mark.parametrize("by", ["conformal", "radius"])
@pytest.mark.parametrize("method", ["split", "cross"])
def test_what_is_told_of_categories_is_what_judges_their_rows(by: str, method: str) -> None:
    scores = np.concatenate([np.arange(40.0), np.arange(100.0, 105.0)])
    both = Categories.of_scores(("a", "few"), np.repeat([0, 1], [40, 5]), scores)
    decision = Decision(ConformalCalibration(scores), 1.5, 0.05, by=by, method=method, categories=both)
    a, few = decision.to_json()["categories"]
    assert (a["name"], a["n_calibration"], a["borrows"]) == ("a", 40, False)
    assert (few["name"], few["n_calibration"], few["borrows"]) == ("few", 5, True)
    codes = np.array([0, 1, -1])
    assert decision.n_categories == 2 and decided(3).n_categories == 0
    if by == "radius":
        assert [entry[field] for entry in (a, few) for field in ("threshold", "promised_fpr", "expected")] == [1.5, None, None] * 2
        np.testing.assert_array_equal(decision.thresholds(3, codes), [1.5, 1.5, 1.5])
        return
    np.testing.assert_array_equal(decision.thresholds(3, codes), [a["threshold"], few["threshold"], decision.threshold])
    np.testing.assert_array_equal(decision.thresholds_by_code(), [a["threshold"], few["threshold"], decision.threshold])
    np.testing.assert_array_equal(decision.thresholds(3), [decision.threshold] * 3)
    assert a["threshold"] == 38.0 and a["promised_fpr"] == 0.05 and few["promised_fpr"] == 1 / 6 and few["expected"] is None
    assert a["expected"]["value"] > 0 and (a["expected"]["low"] == 0) == (method == "cross")
    of_a, of_all = decision.p_value(np.array([39.0, 39.0]), np.array([0, -1]))
    assert of_a == 2 / 41 and of_all == 7 / 46


def test_categories_of_a_file_must_fit_its_scores() -> None:
    both = Categories.of_scores(("a", "b"), np.repeat([0, 1], 20), np.arange(40.0))
    record = decided(40, categories=both).to_json()
    again = Decision.from_json(record, np.arange(40.0), codes=both.codes)
    assert again.to_json() == record
    tied = np.repeat(np.arange(20.0), 2)
    two = Decision(ConformalCalibration(tied), 1.5, 0.05, categories=Categories(("a",), np.zeros(40, np.int64)))
    assert Decision.from_json(two.to_json(), tied, codes=np.zeros(40, np.int64)).to_json() == two.to_json()
    one = Decision(ConformalCalibration([1.0]), 1.5, 0.5, categories=Categories(("a",), np.zeros(1, np.int64)))
    assert Decision.from_json(one.to_json(), np.array([1.0]), codes=np.zeros(1, np.int64)).to_json() == one.to_json()
    for codes, scores, message in (
        (None, np.arange(40.0), "together or not at all"),
        (both.codes, np.arange(40.0)[::-1], "must be sorted"),
        (both.codes[:-1], np.arange(40.0), "categories for 39"),
    ):
        with pytest.raises(ModelFileError, match=message):
            Decision.from_json(record, scores, codes=codes)
    with pytest.raises(ModelFileError, match="together or not at all"):
        Decision.from_json(decided(40).to_json(), np.arange(40.0), codes=both.codes)


def test_a_radius_of_the_first_version_stays_where_its_rows_are_enough() -> None:
    old = {"by": "radius", "threshold": 1.5, "radius": 1.5, "target_fpr": 0.05}
    assert [Decision.from_json(old, np.arange(float(n))).by for n in (0, 18, 19, 20)] == ["radius", "conformal", "radius", "radius"]


def test_the_use_of_rows_counts_those_that_were_left_out() -> None:
    held_out = {"n_rows": 60, "n_unreadable": 3, "n_labelled": 4, "n_trimmed": 5, "n_train": 38, "n_calibration": 10}
    assert use_of_rows(held_out) == "38 to train, 10 held out"
    assert use_of_rows(held_out | {"n_train": 39}) == "39 to train, each of them left out once to calibrate"
    for left_out in ("n_unreadable", "n_labelled", "n_trimmed"):
        assert use_of_rows(held_out | {left_out: held_out[left_out] + 1}).endswith("to calibrate")


class TestDetector:
    def test_a_parameter_set_after_the_fit_does_not_make_the_file_lie(self, tmp_path: Any) -> None:
        detector = insphere.KNN(random_state=0).fit(X)
        threshold = detector.threshold_
        detector.set_params(target_fpr=0.3)
        detector.save(tmp_path / "m.insphere")
        loaded = insphere.load(tmp_path / "m.insphere")
        assert (loaded.target_fpr, loaded.decision_.target_fpr, loaded.threshold_) == (0.05, 0.05, threshold)
        described = detector.describe()
        assert described["decision"]["target_fpr"] == described["parameters"]["target_fpr"] == 0.05

    def test_recalibrating_changes_the_decision_and_not_the_scores(self, tmp_path: Any) -> None:
        detector = insphere.KNN(random_state=0).fit(X)
        scores, before = detector.anomaly_score(X), detector.threshold_
        new = np.random.default_rng(1).normal(size=(150, 3))
        detector.recalibrate(new, target_fpr=0.1)
        np.testing.assert_array_equal(detector.anomaly_score(X), scores)
        assert detector.threshold_ < before and len(detector.decision_) == 150 and detector.target_fpr == 0.1
        assert "150 normal rows given to recalibrate" in next(f.text for f in detector.health_.findings if f.name == "calibration")
        detector.save(tmp_path / "m.insphere")
        assert [entry["what"] for entry in insphere.load(tmp_path / "m.insphere").decision_.history] == ["calibration scores", "target_fpr"]

    def test_recalibrating_wants_something_and_refuses_rows_it_has_seen(self) -> None:
        detector = insphere.KNN(random_state=0).fit(X)
        with pytest.raises(ParameterError, match="another `target_fpr`"):
            detector.recalibrate()
        with pytest.raises(DataError, match="5 of 5 rows of .* were given to `fit`"):
            detector.recalibrate(X[:5])
        with pytest.raises(ParameterError, match="target_fpr"):
            detector.recalibrate(target_fpr=2)

    def test_rows_that_were_trained_on_are_known_again(self, tmp_path: Any) -> None:
        detector = insphere.IForest(random_state=0).fit(X)
        detector.save(tmp_path / "m.insphere")
        rows = np.concatenate([X[::7], X[::7] + 1e-9])
        for model in (detector, insphere.load(tmp_path / "m.insphere")):
            (batch,) = model.score_batches(rows)
            assert batch.seen is not None and batch.seen.tolist() == [True] * 43 + [False] * 43

    def test_labels_leave_anomalies_out(self) -> None:
        y = np.arange(300) % 10 == 0
        with pytest.warns(DataNotice, match="30 of 300 rows"):
            detector = insphere.KNN(random_state=0).fit(X, y)
        assert detector.data_["n_labelled"] == 30 and detector.data_["n_unreadable"] == 0
        np.testing.assert_array_equal(detector.anomaly_score(X), insphere.KNN(random_state=0).fit(X[~y]).anomaly_score(X))

    @pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
    def test_one_group_alone_promises_nothing(self) -> None:
        with pytest.raises(DataError, match="at least two groups"):
            insphere.KNN(random_state=0).fit(X, groups=["same"] * 300)
        assert insphere.KNN(random_state=0, calibration={"decision": "radius"}).fit(X, groups=["same"] * 300).decision_.by == "radius"

    @pytest.mark.parametrize("name", ["knn", "iforest", "kde", "ocsvm"])
    def test_rows_of_which_all_have_twins(self, name: str) -> None:
        """Three yes/no columns of which one combination never occurs: it stands out, or the refusal names the true reason."""
        rows = (np.random.default_rng(0).random((300, 3)) < 0.5).astype(float)
        rows = rows[~(rows == 1).all(axis=1)]
        with pytest.warns(HealthWarning) as caught:
            detector = insphere.detectors.catalog.make(name, {"random_state": 0}).fit(rows)
        texts = " ".join(str(warning.message) for warning in caught)
        assert "equal to another one" in texts and "alpha" not in texts and "sphere" not in texts
        if name == "iforest":  # cuts one column at a time, and every value of each column is normal
            return
        try:
            # One combination is held out and scores like a new one; the others, which most rows have, score lower.
            assert detector.anomaly_score(np.ones((1, 3)))[0] > np.median(detector.anomaly_score(rows))
        except CollapseError as error:
            assert "copies" in str(error) and "alpha" not in str(error)

    def test_folds_state_no_low_end_and_take_twenty_independent_rows(self) -> None:
        rows = np.random.default_rng(0).normal(size=(60, 3))
        detector = insphere.KNN(random_state=0, target_fpr=0.2, calibration={"method": "cross"}).fit(rows)
        assert detector.decision_.method == "cross" and detector.decision_.expected.low == 0
        with pytest.warns(DataNotice, match="takes 20 independent rows at least, got 12"), pytest.warns(HealthWarning):
            few = insphere.KNN(random_state=0, calibration={"method": "cross"}).fit(rows, groups=np.arange(60) // 5)
        assert few.decision_.method == "split"

    def test_altered_decisions_are_refused_by_load(self, tmp_path: Any) -> None:
        insphere.KNN(random_state=0).fit(X).save(tmp_path / "m.insphere")
        saved = model_file.read(tmp_path / "m.insphere", "detector")
        saved.header["decision"]["threshold"] *= 2
        model_file.write(tmp_path / "m.insphere", "detector", saved.header, saved.arrays)
        with pytest.raises(ModelFileError, match="threshold"):
            insphere.load(tmp_path / "m.insphere")
