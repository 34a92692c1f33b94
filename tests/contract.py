"""What every detector must satisfy, image or vector: each test module of a detector runs these functions on it.

A check takes an unfitted detector that trains quickly, and rows of normal examples.
"""

import collections
import contextlib
import copy
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone

import insphere
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, HealthWarning, ParameterError


def blobs(n_rows: int = 120, n_features: int = 5, seed: int = 0) -> NDArray[np.float64]:
    """Normal vectors near a plane."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, 2)) @ np.random.default_rng(99).normal(size=(2, n_features)) + 0.1 * rng.normal(
        size=(n_rows, n_features)
    )


def pictures(n_rows: int = 60, shape: tuple[int, int, int] = (9, 7, 1), seed: int = 0) -> NDArray[np.uint8]:
    """Normal images: a bright bar whose place and brightness vary, on noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 40, size=(n_rows, *shape))
    for image, column, brightness in zip(images, rng.integers(2, 4, n_rows), rng.integers(120, 200, n_rows), strict=True):
        image[:, column] += brightness
    return images.astype(np.uint8)


def fit_quietly(detector: AbstractDetector, X: Any, **arguments: Any) -> AbstractDetector:
    """Fit without the health warnings that a short training earns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return detector.fit(X, **arguments)


_FITTED: collections.OrderedDict[str, AbstractDetector] = collections.OrderedDict()


def fitted(detector: AbstractDetector, X: NDArray[Any]) -> AbstractDetector:
    """Return a fitted copy for a test that only looks at one, each time another copy: what is equal is fitted once a process.

    Who asks whether two fits agree calls `fit_quietly` twice instead.
    """
    assert isinstance(X, np.ndarray), "what a file holds may change"
    key = joblib.hash((type(detector), detector.get_params(deep=False), X))
    if key not in _FITTED:
        _FITTED[key] = fit_quietly(clone(detector), X)
    _FITTED.move_to_end(key)
    while len(_FITTED) > 16:
        _FITTED.popitem(last=False)
    return copy.deepcopy(_FITTED[key])


def check_scores(detector: AbstractDetector, X: NDArray[Any]) -> None:
    """One float64 score a row, signs and decisions in line with each other."""
    detector = fitted(detector, X)
    scores = detector.anomaly_score(X)
    assert scores.dtype == np.float64 and scores.shape == (len(X),) and np.isfinite(scores).all()
    np.testing.assert_array_equal(detector.score_samples(X), -scores)
    np.testing.assert_array_equal(detector.decision_function(X), detector.score_samples(X) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(scores > detector.threshold_, -1, 1))
    p_values = detector.p_value(X)
    assert ((p_values > 0) & (p_values <= 1)).all()
    order = np.argsort(scores)
    assert (np.diff(p_values[order]) <= 0).all()
    np.testing.assert_array_equal(p_values <= detector.decision_.promised_fpr, scores > detector.threshold_)
    assert all(batch.seen is not None and batch.seen.all() for batch in detector.score_batches(X))


def check_each_row_alone(detector: AbstractDetector, X: NDArray[Any]) -> None:
    """A score depends on its row only: not on batch size, order or company."""
    detector = fitted(detector, X)
    scores = detector.anomaly_score(X)
    np.testing.assert_array_equal(detector.anomaly_score(X[::-1]), scores[::-1])
    np.testing.assert_array_equal([detector.anomaly_score(X[i : i + 1])[0] for i in range(5)], scores[:5])
    for batch_size in (1, 7, len(X)):
        batches = list(detector.score_batches(X, batch_size=batch_size))
        np.testing.assert_array_equal(np.concatenate([batch.anomaly_score for batch in batches]), scores)
        np.testing.assert_array_equal(np.concatenate([batch.index for batch in batches]), np.arange(len(X)))


def check_same_seed_same_scores(detector: AbstractDetector, X: NDArray[Any]) -> None:
    """Fitting twice gives the same scores, whatever PyTorch's default type is, and touches no global random state."""
    before = _global_random_state()
    first = fit_quietly(clone(detector).set_params(random_state=3), X)
    with _default_dtype(torch.float64):
        second = fit_quietly(clone(detector).set_params(random_state=3), X)
        scores = second.anomaly_score(X)
        assert torch.get_default_dtype() == torch.float64
    assert _global_random_state() == before
    np.testing.assert_array_equal(first.anomaly_score(X), scores)
    other = fit_quietly(clone(detector).set_params(random_state=4, calibration={"method": "split"}), X)
    assert (first.anomaly_score(X) != other.anomaly_score(X)).any()


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _global_random_state() -> tuple[object, ...]:
    _, keys, position, *_ = np.random.get_state(legacy=True)  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), keys.tobytes(), position, random.getstate()


def check_round_trip(detector: AbstractDetector, X: NDArray[Any], folder: Path) -> None:
    """One file saves it, one call loads it: equal scores, decisions and description."""
    detector = fitted(detector, X)
    detector.save(folder / "model.insphere")
    loaded = insphere.load(folder / "model.insphere")
    assert type(loaded) is type(detector)
    np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))
    np.testing.assert_array_equal(loaded.p_value(X), detector.p_value(X))
    np.testing.assert_array_equal(loaded.predict(X), detector.predict(X))
    assert loaded.describe() == detector.describe()
    loaded.save(folder / "again.insphere")
    assert (folder / "again.insphere").read_bytes() == (folder / "model.insphere").read_bytes()


def check_anomalies_score_higher(detector: AbstractDetector, X: NDArray[Any], anomalies: NDArray[Any]) -> None:
    """Plain anomalies score above most normal rows."""
    detector = fitted(detector, X)
    assert np.median(detector.anomaly_score(anomalies)) > np.quantile(detector.anomaly_score(X), 0.9)


def check_bad_input(detector: AbstractDetector, X: NDArray[Any]) -> None:
    """Rows that do not fit the fitted detector, and parameters out of range, get a clear error."""
    sound = fitted(detector, X)
    with pytest.raises(ValueError, match="shape|features"):
        sound.anomaly_score(np.concatenate([X, X], axis=-1))
    with pytest.raises(ValueError):
        sound.anomaly_score(X.astype(object).astype(str))
    if X.ndim == 4:
        with pytest.raises(DataError, match="float32|float64"):
            sound.anomaly_score(X.astype(np.float32))
        with pytest.raises(DataError, match=r"X\[None\]"):
            sound.anomaly_score(X[0, :, :, 0])
    with pytest.raises(DataError, match="equal"):
        clone(detector).fit(np.repeat(X[:1], 20, axis=0))
    with pytest.raises(ValueError, match="minimum of 8|at least 8"):
        clone(detector).fit(X[:2])
    for wrong in ({"target_fpr": 0}, {"target_fpr": "a"}, {"random_state": -1}, {"calibration": {"fraction": 2}}):
        with pytest.raises(ParameterError, match=next(iter(wrong)) if "calibration" not in wrong else "fraction"):
            clone(detector).set_params(**wrong).fit(X)


def check_too_few_to_calibrate(detector: AbstractDetector, X: NDArray[Any]) -> None:
    """Where unseen rows can't carry the wanted rate, the highest of their scores decides, and the rate that it carries is said."""
    with pytest.warns(HealthWarning) as caught:
        fitted = clone(detector).set_params(target_fpr=0.001).fit(X)
    assert any("too few for the wanted false-alarm rate" in str(warning.message) for warning in caught)
    decision = fitted.decision_
    assert decision.by == "conformal" and decision.threshold == decision.calibration.scores[-1]
    assert decision.promised_fpr == decision.expected.value == 1 / (len(decision) + 1)


def check_few_rows_both_train_and_calibrate(detector: AbstractDetector, X: NDArray[Any]) -> None:
    """By folds every row trains, and each is calibrated on by a model that has not seen it; the model is that of all rows."""
    few = X[:24]
    fitted = fit_quietly(clone(detector).set_params(calibration={"method": "cross", "n_folds": 2}), few)
    decision = fitted.decision_
    assert decision.method == "cross" and len(decision) == fitted.data_["n_train"] == len(few)
    again = fit_quietly(clone(detector).set_params(calibration={"method": "cross", "n_folds": 3}), few)
    np.testing.assert_array_equal(fitted.anomaly_score(X), again.anomaly_score(X))
    assert not np.array_equal(decision.calibration.scores, np.sort(fitted.anomaly_score(few)))


ALL = (
    check_scores,
    check_each_row_alone,
    check_same_seed_same_scores,
    check_bad_input,
    check_too_few_to_calibrate,
    check_few_rows_both_train_and_calibrate,
)
"""The checks that take a detector and rows only."""
