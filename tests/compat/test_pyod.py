"""PyOD's names, signs and codes, against restatements of what PyOD does."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import insphere
from insphere.compat.pyod import PyODDetector
from insphere.errors import ParameterError

X = np.random.default_rng(0).normal(size=(300, 4))
FAR = np.array([[8.0, 8, 8, 8], [0, 0, 0, 0], [7, -7, 7, -7]])


@pytest.fixture(scope="module")
def model() -> PyODDetector:
    return PyODDetector(insphere.KNN(random_state=0), contamination=0.1).fit(X)


def test_signs_and_codes(model: PyODDetector) -> None:
    np.testing.assert_array_equal(model.decision_function(X), model.detector_.anomaly_score(X))
    inner, own = model.detector_, model.decision_function(X)
    held_out = np.setdiff1d(np.arange(300), inner.training_index_)
    np.testing.assert_array_equal(model.decision_scores_[held_out], own[held_out])
    learned = inner._features(X)[inner.training_index_]
    distances = np.sort(np.linalg.norm(learned[:, None] - learned[None], axis=2))
    np.testing.assert_allclose(model.decision_scores_[inner.training_index_], distances[:, 1:6].mean(axis=1), rtol=1e-6)
    assert model.threshold_ == np.percentile(model.decision_scores_, 90)
    assert model.labels_.tolist() == [int(score > model.threshold_) for score in model.decision_scores_] and model.labels_.sum() == 30
    assert model.predict(FAR).tolist() == [1, 0, 1]
    assert model.fit_predict(X).tolist() == model.labels_.tolist()


def test_predict_proba_linear_and_unified(model: PyODDetector) -> None:
    scores, known = model.decision_function(FAR), model.decision_scores_
    linear = model.predict_proba(FAR)
    assert linear.shape == (3, 2)
    np.testing.assert_allclose(linear.sum(axis=1), 1)
    for row, score in enumerate(scores):
        assert linear[row, 1] == pytest.approx(min(1, max(0, (score - min(known)) / (max(known) - min(known)))))
        erf = math.erf((score - known.mean()) / (known.std() * math.sqrt(2)))
        assert model.predict_proba(FAR, method="unify")[row, 1] == pytest.approx(max(0, erf))
    with pytest.raises(ParameterError, match="`method`"):
        model.predict_proba(FAR, method="sigmoid")


def test_confidence_is_a_binomial_tail(model: PyODDetector) -> None:
    labels, confidence = model.predict(FAR, return_confidence=True)
    n, known = len(model.decision_scores_), model.decision_scores_
    for row, score in enumerate(model.decision_function(FAR)):
        p = (1 + sum(known <= score)) / (2 + n)
        tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n - 30 + 1, n + 1))
        assert confidence[row] == pytest.approx(tail if labels[row] else 1 - tail, abs=1e-9)
    assert model.predict_proba(FAR, return_confidence=True)[1].tolist() == confidence.tolist()


def test_a_threshold_from_held_out_rows_keeps_its_rate() -> None:
    model = PyODDetector("knn", contamination=0.1, threshold="held-out", random_state=0).fit(X)
    assert model.threshold_ == model.detector_.threshold_ and model.detector_.target_fpr == 0.1
    new = np.random.default_rng(1).normal(size=(3000, 4))
    assert 0.05 < model.predict(new).mean() < 0.16
    np.testing.assert_array_equal(model.p_value(new) <= 0.1, model.predict(new) == 1)


class Quantile:
    """A thresholder with fit and predict, as PyThresh has them from 1.0 on."""

    def fit(self, scores):
        self.thresh_ = float(np.quantile(scores, 0.8))
        self.labels_ = (scores > self.thresh_).astype(int)
        return self

    def predict(self, scores):
        return (scores > self.thresh_).astype(int)


class Scaled:
    """A thresholder that only evaluates, and names its threshold on scores scaled to [0, 1], as PyThresh had them before."""

    def eval(self, scores):
        scaled = (scores - scores.min()) / np.ptp(scores)
        self.thresh_ = 0.5
        return (scaled > 0.5).astype(int)


def test_thresholders_decide() -> None:
    model = PyODDetector("knn", contamination=Quantile(), random_state=0).fit(X)
    assert model.threshold_ == np.quantile(model.decision_scores_, 0.8) and model.labels_.sum() == 60
    assert model.predict(FAR).tolist() == [1, 0, 1]
    scaled = PyODDetector("knn", contamination=Scaled(), random_state=0).fit(X)
    assert scaled.threshold_ == scaled.decision_scores_[scaled.labels_ == 1].min()
    assert scaled.predict_confidence(FAR).shape == (3,)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"contamination": 0.7}, "contamination"),
        ({"contamination": "iqr"}, "thresholder with fit and predict"),
        ({"detector": 3}, "a name, a class or an object"),
        ({"threshold": "conformal"}, "threshold"),
        ({"contamination": Quantile(), "threshold": "held-out"}, "decides by itself"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        PyODDetector(**{"detector": "knn", **parameters}).fit(X)


def test_it_is_an_estimator_whose_detector_is_copied() -> None:
    inner = insphere.KNN(n_neighbors=3)
    model = clone(PyODDetector(inner)).set_params(detector__n_neighbors=7, random_state=1).fit(X)
    assert model.detector_.n_neighbors == 7 and model.detector_.random_state == 1
    assert inner.n_neighbors == 3 and not hasattr(inner, "decision_")
    assert PyODDetector(insphere.KNN).fit(X).detector_.n_neighbors == 5


def test_it_passes_an_audit_and_frames_and_named_data_come_in() -> None:
    import pandas as pd

    from insphere.audit import audit

    report = audit("insphere.compat.pyod:PyODDetector", X, parameters={"detector": "knn"}, repeats=1)
    assert "a higher score is more anomalous, as in PyOD" in report.facts["taken to mean"] and not report.at_least("error")
    frame = pd.DataFrame(X, columns=list("abcd"))
    of_frame = PyODDetector("knn", random_state=0).fit(frame)
    assert of_frame.labels_.sum() == 30
    np.testing.assert_array_equal(of_frame.decision_function(frame[list("dcba")]), of_frame.decision_function(X))
    assert len(PyODDetector("knn", random_state=0).fit("digits:3").labels_) == 122


@pytest.mark.filterwarnings("ignore:.*rows (could not be read|were left out):UserWarning")
@pytest.mark.parametrize("contamination", [0.1, Quantile()], ids=["share", "thresholder"])
def test_rows_that_cannot_be_scored_are_flagged_and_count_for_nothing(contamination: object) -> None:
    holed, whole = pd.DataFrame(np.concatenate([X, np.full((20, 4), np.nan)])), pd.DataFrame(X)
    model, sound = (PyODDetector("knn", contamination, random_state=0).fit(rows) for rows in (holed, whole))
    assert model.threshold_ == pytest.approx(sound.threshold_, rel=0.2)
    assert model.labels_[-20:].all() and model.labels_[:-20].sum() == pytest.approx(sound.labels_.sum(), abs=3)
    assert model.predict(holed[-25:]).tolist()[5:] == [1] * 20
    assert np.isnan(model.predict_proba(holed)[-20:]).all() and np.isfinite(model.predict_proba(whole)).all()


def test_names_of_pyod_s_classes_lead_to_ours() -> None:
    assert PyODDetector("KNN", random_state=0).fit(X).detector_.name == "knn"
    with pytest.raises(ParameterError, match="PyOD's LOF has no counterpart here; 'knn' or 'iforest'"):
        PyODDetector("LOF").fit(X)
