"""The splitter and the scorers: normal rows train, each row is tested once, the best setting wins whatever the labels are called."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import insphere
from insphere.errors import DataError, DataNotice, HealthWarning, ParameterError
from insphere.selection import OneClassKFold, auroc_scorer, average_precision_scorer

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(120, 3)), RNG.normal(size=(30, 3)) * 3])
Y = np.repeat([0, 1], [120, 30])


@given(st.lists(st.booleans(), min_size=8, max_size=60), st.integers(2, 4), st.integers(0, 5), st.booleans())
def test_each_row_is_tested_once_and_no_anomaly_trains(marks: list[bool], n_splits: int, seed: int, grouped: bool) -> None:
    y = np.array([0] * 8 + [int(mark) for mark in marks])
    groups = np.arange(len(y)) // 2 if grouped else None
    folds = list(OneClassKFold(n_splits, random_state=seed).split(np.zeros((len(y), 1)), y, groups))
    tested = np.concatenate([test for _, test in folds])
    assert len(folds) == n_splits and sorted(tested.tolist()) == list(range(len(y)))
    for train, test in folds:
        assert not y[train].any() and not set(train) & set(test)
        assert set(train) | set(test[y[test] == 0]) == set(np.flatnonzero(y == 0))
        if groups is not None:
            assert not {groups[row] for row in train} & {groups[row] for row in test if y[row] == 0}


def test_folds_are_equally_large_and_the_seed_decides() -> None:
    sizes = [len(test) for _, test in OneClassKFold(4).split(X, Y)]
    assert max(sizes) - min(sizes) <= 2
    one, other, again = ([test.tolist() for _, test in OneClassKFold(4, random_state=seed).split(X, Y)] for seed in (0, 1, 0))
    assert one == again != other


@pytest.mark.filterwarnings("ignore:`y` is 1 for every row")  # of the rows that train
@pytest.mark.parametrize("labels", [Y, 1 - 2 * Y, Y.astype(bool), Y.tolist()])
def test_anomalies_count_as_such_whatever_labels_are_called(labels: object) -> None:
    folds = OneClassKFold(3)
    found = cross_val_score(insphere.KNN(random_state=0), X, labels, cv=folds, scoring=auroc_scorer)
    expected = []
    for train, test in folds.split(X, Y):
        scores = insphere.KNN(random_state=0).fit(X[train]).anomaly_score(X[test])
        normal, odd = scores[Y[test] == 0], scores[Y[test] == 1]
        expected.append(float((odd[:, None] > normal).mean()))  # how often an anomaly scores above a normal row
    np.testing.assert_allclose(found, expected)
    assert found.mean() > 0.8


@pytest.mark.parametrize("scoring", [auroc_scorer, average_precision_scorer])
def test_a_search_finds_the_best_and_fits_it_on_normal_rows(scoring: object) -> None:
    grid = {"n_neighbors": np.array([1, 5, 50]), "calibration__fraction": [np.float64(0.2)]}
    search = GridSearchCV(insphere.KNN(random_state=0, calibration={"method": "split"}), grid, cv=OneClassKFold(3), scoring=scoring)
    with pytest.warns(DataNotice, match="30 of 150 rows are marked as anomalies"):
        search.fit(X, Y)
    means = search.cv_results_["mean_test_score"]
    assert search.best_score_ == means.max() and search.best_estimator_.data_["n_labelled"] == 30
    assert search.best_estimator_.calibration == {"method": "split", "fraction": 0.2}


def test_nested_parameters_of_networks() -> None:
    grid = {"training__lr": [1e-3, 1e-2], "epochs": np.array([1])}
    search = GridSearchCV(insphere.VAE(random_state=0), grid, cv=OneClassKFold(2), scoring=auroc_scorer, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        search.fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pipelines_and_detectors_of_scikit_learn() -> None:
    pipeline = make_pipeline(StandardScaler(), insphere.KNN(random_state=0))
    for detector in (pipeline, IsolationForest(random_state=0)):
        assert cross_val_score(detector, X, Y, cv=OneClassKFold(3), scoring=auroc_scorer).mean() > 0.8


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(DataError, match="got 2, 3"):
        next(OneClassKFold(2).split(X, np.where(Y, 3, 2)))
    with pytest.raises(DataError, match="3 folds need as many independent normal rows"):
        next(OneClassKFold(3).split(X[:6], [0, 0, 0, 0, 1, 1], [1, 1, 2, 2, 3, 3]))
    with pytest.raises(DataError, match="one label per row"):
        next(OneClassKFold(2).split(X[:6], [0, 0, 0, 0, 1, 1], [1]))
    with pytest.raises(ParameterError, match="n_splits"):
        next(OneClassKFold(1).split(X, Y))
    with pytest.raises(DataError, match="are normal"):
        auroc_scorer(insphere.KNN(random_state=0).fit(X[:120]), X[:120], Y[:120])


def test_folds_without_labels_say_what_to_give() -> None:
    with pytest.raises(DataError, match="needs the labels: give `y`"):
        cross_val_score(insphere.KNN(random_state=0), X, cv=OneClassKFold(3), scoring=auroc_scorer)
