"""Every module gives its detector's scores, in every variant; what has no module says so."""

import numpy as np
import pytest
import torch

from export_models import NAMES_AND_KINDS, fitted, rows_of_kind
from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import detector_class
from insphere.detectors.deep_svdd import DeepSVDDReading
from insphere.detectors.shallow import AbstractShallowDetector
from insphere.detectors.vae_svdd import Reading
from insphere.errors import ExportError
from insphere.export.graph import ScoringGraph
from insphere.export.scorers import features_scorer, scorer, sphere_distance
from insphere.scores.sphere import AbstractSphere

VARIANTS = [
    ("vae-svdd", {"geometry": "euclidean"}),
    ("vae-svdd", {"geometry": "euclidean", "reading": Reading(n_centers=3)}),
    ("vae-svdd", {"geometry": "mahalanobis", "reading": Reading(n_centers=3)}),
    ("deep-svdd", {"reading": DeepSVDDReading(n_centers=3)}),
    ("dasvdd", {"gamma": 2.0}),
    ("vae-svdd", {"geometry": "mahalanobis"}),
    ("vae-svdd", {"geometry": "local", "n_neighbors": 500}),
    ("vae", {"scored_by": "distance"}),
    ("vae", {"scored_by": "reconstruction"}),
    ("deep-svdd", {"objective": "soft-boundary", "pretrain": False}),
    ("oc-nn", {"activation": "linear"}),
    ("knn", {"aggregation": "largest", "n_neighbors": 3}),
    ("knn", {"aggregation": "relative", "n_neighbors": 3}),
    ("knn", {"aggregation": "relative", "n_neighbors": 3, "exclude_self": True, "max_references": 4}),
    ("knn", {"aggregation": "largest", "exclude_self": True, "scaling": "robust"}),
    ("svdd", {"kernel": "polynomial"}),
    ("svdd", {"kernel": "linear"}),
    ("ocsvm", {"scaling": "unit", "pca": 0.8}),
    ("kde", {"scaling": "none", "approximation": "nystroem", "n_landmarks": 20}),
    ("cae", {"scaling": "unit"}),
    ("cae", {"scaling": "gcn-unit"}),
    ("cae", {"scaling": "standard"}),
    ("photo", {"backbone": "scratch"}),
    ("photo", {"backbone": "scratch", "look_for": "objects"}),
    ("patch-knn", {"backbone": "scratch"}),
    ("iforest", {"n_estimators": 7, "max_samples": 5}),
]

ROUNDING = {"photo": 1e-5}
"""In spreads of the scores. That of photos is a logarithm in units of its small spread, which makes rounding as much larger."""


def scored(detector: AbstractDetector, kind: str) -> tuple[np.ndarray, np.ndarray]:
    X = rows_of_kind(kind, seed=1)
    with torch.no_grad():
        return scorer(detector).eval()(torch.from_numpy(X)).numpy(), detector.anomaly_score(X)


@pytest.mark.parametrize(("name", "kind"), NAMES_AND_KINDS)
def test_the_module_of_every_detector_gives_its_scores(name: str, kind: str) -> None:
    scores, expected = scored(fitted(name, kind), kind)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=ROUNDING.get(name, 1e-6) * expected.std())


@pytest.mark.parametrize("kind", ["grey", "vectors"])
@pytest.mark.parametrize(("name", "parameters"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)))
def test_variants_too(name: str, parameters: dict[str, object], kind: str) -> None:
    kind = kind if kind == "grey" or detector_class(name).takes_vectors else "rgb"
    scores, expected = scored(fitted(name, kind, **parameters), kind)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=ROUNDING.get(name, 1e-6) * expected.std())


@pytest.mark.parametrize("name", ["vae-svdd", "ocsvm", "iforest"])
def test_held_out_rows_get_the_librarys_p_values_and_decisions_though_their_scores_are_tied(name: str) -> None:
    detector, X = fitted(name, "grey"), rows_of_kind("grey")
    with torch.no_grad():
        _, p_values, flagged = ScoringGraph(detector)(torch.from_numpy(X), torch.tensor(detector.threshold_, dtype=torch.float64))
    np.testing.assert_array_equal(p_values.numpy(), detector.p_value(X))
    np.testing.assert_array_equal(flagged.numpy(), detector.predict(X) == -1)


def test_drawn_codes_cannot_be_exported() -> None:
    detector = fitted("vae-svdd", "vectors", reading=None, geometry="euclidean")
    detector.objective_.reading = type(detector.objective_.reading)(score_of="sample")
    with pytest.raises(ExportError, match="depends on a row's position"):
        scorer(detector)


def test_what_is_not_known_says_so() -> None:
    class Own(AbstractDetector):
        name = "own"
        _fit_model = _score = _state = _restore = None

    class OwnShallow(AbstractShallowDetector):
        name = "own-shallow"
        _fit_features = _score_features = _features_state = _restore_features = None

    class OwnSphere(AbstractSphere):
        kind = "own-sphere"
        distance = training_distance = arrays = None

    with pytest.raises(ExportError, match="own cannot be exported: no graph is known for Own"):
        scorer(Own())
    with pytest.raises(ExportError, match="own-shallow cannot be exported"):
        features_scorer(OwnShallow.__new__(OwnShallow))
    with pytest.raises(ExportError, match="own-sphere"):
        sphere_distance(OwnSphere())
