"""`fit_many` makes of each detector what its own `fit` would have made of it."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import contract
import insphere
from insphere.detectors import batched
from insphere.detectors.base import AbstractDetector
from insphere.detectors.cae import CAE
from insphere.detectors.cae_svdd import DeepSVDDCAE
from insphere.detectors.classical import KNN
from insphere.detectors.dasvdd import DASVDD
from insphere.detectors.deep_svdd import DeepSVDD
from insphere.detectors.oc_nn import OCNN
from insphere.detectors.vae import VAE
from insphere.detectors.vae_svdd import DeepSVDDVAE
from insphere.errors import DataError, HealthWarning, ParameterError, TrainingError

# A bias before a batch norm changes nothing but the running mean: its gradient is rounding, which Adam raises to full steps. Without
# such biases, or with plain gradient steps, the two ways of training differ by rounding only.
NO_BIAS = {"bias": False}
PLAIN_STEPS = {"optimizer": "sgd", "lr": 1e-4, "precision": "32"}
QUICK: dict[str, Any] = {"epochs": 3, "device": "cpu", "training": {"precision": "32"}}
ROWS = {"vectors": contract.blobs(), "grey": contract.pictures(), "colour": contract.pictures(shape=(8, 8, 3))}
METHODS = [
    DeepSVDDVAE(**QUICK | {"network": NO_BIAS, "geometry": "euclidean"}),
    DeepSVDDVAE(**QUICK | {"training": PLAIN_STEPS, "scaling": "standard", "geometry": "euclidean"}, reading={"center": "learned"}),
    VAE(**QUICK | {"training": PLAIN_STEPS | {"patience": 1}}),
    CAE(**QUICK | {"training": PLAIN_STEPS | {"gradient_clip": 1.0}}),
    DeepSVDDCAE(**QUICK | {"network": NO_BIAS, "geometry": "mahalanobis", "trim": 0.1}),
    DeepSVDDCAE(**QUICK | {"training": PLAIN_STEPS, "geometry": "mahalanobis"}, reading={"n_centers": 3}),
    DASVDD(**QUICK | {"training": PLAIN_STEPS}),
    DeepSVDD(**QUICK),
    DeepSVDD(**QUICK, reading={"n_centers": 2}),
    OCNN(**QUICK | {"training": PLAIN_STEPS}, pretrain={"training": PLAIN_STEPS}),
]
IDS = [
    *("vae-svdd", "vae-svdd-learned", "vae", "cae", "cae-svdd-trim", "cae-svdd-3-centres", "dasvdd"),
    *("deep-svdd", "deep-svdd-2-centres", "oc-nn"),
]


def seeds(detector: AbstractDetector, n: int = 3) -> list[AbstractDetector]:
    return [clone(detector).set_params(random_state=seed) for seed in range(n)]


def fit_many_quietly(detectors: list[AbstractDetector], X: Any, **arguments: Any) -> list[AbstractDetector]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return insphere.fit_many(detectors, X, **{"together": "always"} | arguments)


def assert_alike(one: AbstractDetector, other: AbstractDetector, X: Any, tolerance: float = 2e-3) -> None:
    """The scores agree within a share of their spread; everything that is counted or drawn agrees exactly."""
    expected, found = one._score(X), other._score(X)
    assert np.abs(found - expected).max() < tolerance * expected.std()
    assert_allclose(other.threshold_, one.threshold_, atol=tolerance * expected.std())
    assert (other.seed_, other.data_, other.decision_.method) == (one.seed_, one.data_, one.decision_.method)
    assert len(other.history_) == len(one.history_)
    for ours, theirs in zip(one.history_, other.history_, strict=True):
        assert (theirs.epoch, theirs.n_epochs, theirs.stage, theirs.lr) == (ours.epoch, ours.n_epochs, ours.stage, ours.lr)
        assert_allclose(list(theirs.terms.values()), list(ours.terms.values()), rtol=1e-3, atol=1e-5)
    assert [f.name for f in other.health_.findings] == [f.name for f in one.health_.findings]
    assert other.health_.suspects == one.health_.suspects


@pytest.mark.parametrize("X", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("detector", METHODS, ids=IDS)
def test_results_equal_those_of_single_fits(detector, X):
    alone = [contract.fit_quietly(one, X) for one in seeds(detector)]
    told: list[int] = []
    many = seeds(detector)
    assert fit_many_quietly(many, X, on_epoch=lambda number, _: told.append(number)) == many
    for number, (one, other) in enumerate(zip(alone, many, strict=True)):
        assert_alike(one, other, X)
        assert told.count(number) >= len(other.history_)
    assert not np.allclose(many[0]._score(X), many[1]._score(X))


def test_with_the_defaults_ranks_agree():
    X, test = insphere.open_source("digits:3", split="train").load().X, insphere.open_source("digits:3", split="test").load().X
    alone = [contract.fit_quietly(one, X) for one in seeds(DeepSVDDVAE(epochs=8, device="cpu"))]
    many = fit_many_quietly(seeds(DeepSVDDVAE(epochs=8, device="cpu")), X)
    for one, other in zip(alone, many, strict=True):
        assert np.corrcoef(one.anomaly_score(test), other.anomaly_score(test))[0, 1] > 0.999


def test_each_detector_may_have_its_own_rows():
    rows = [contract.blobs(seed=seed) for seed in range(3)] + [contract.blobs(n_rows=90, seed=seed) for seed in range(2)]
    detector = DeepSVDD(**QUICK)
    alone = [contract.fit_quietly(one, X) for one, X in zip(seeds(detector, 5), rows, strict=True)]
    many = fit_many_quietly(seeds(detector, 5), rows)
    for one, other, X in zip(alone, many, rows, strict=True):
        assert_alike(one, other, X)


def test_a_trained_model_is_a_model_like_any_other(tmp_path):
    X = ROWS["grey"]
    many = fit_many_quietly(seeds(DeepSVDDVAE(**QUICK)), X)
    many[1].save(tmp_path / "model")
    assert_array_equal(insphere.load(tmp_path / "model").anomaly_score(X), many[1].anomaly_score(X))
    assert (tmp_path / "model").stat().st_size < 2 * 4 * sum(p.numel() for p in many[1].objective_.parameters()) + 100_000


def test_no_global_random_state_is_touched():
    before = torch.get_rng_state()
    fit_many_quietly(seeds(DeepSVDDVAE(**QUICK)), ROWS["vectors"])
    assert torch.equal(torch.get_rng_state(), before)


def test_health_warnings_are_issued():
    with pytest.warns(HealthWarning):
        insphere.fit_many(seeds(DeepSVDDVAE(**QUICK)), ROWS["vectors"][:20], together="always")


# ---- which are trained as one


@pytest.fixture
def as_one(monkeypatch) -> list[int]:
    """Sizes of the groups that are trained as one."""
    sizes: list[int] = []

    def counted(trainees, **arguments):
        sizes.append(len(trainees))
        return train_together(trainees, **arguments)

    train_together = batched.train_together
    monkeypatch.setattr(batched, "train_together", counted)
    return sizes


def test_small_batches_are_trained_as_one_on_the_cpu_and_large_ones_are_not(as_one):
    fit_many_quietly(seeds(CAE(**QUICK)), ROWS["grey"], together="auto")
    assert as_one == [3]
    large = np.random.default_rng(0).integers(0, 256, (30, 40, 40, 1)).astype(np.uint8)
    detector = CAE(**QUICK | {"epochs": 1})
    many = fit_many_quietly(seeds(detector, 2), large, together="auto")
    assert as_one == [3]
    assert_array_equal(many[0]._score(large), contract.fit_quietly(seeds(detector)[0], large)._score(large))


def test_thresholds_may_differ_but_not_what_is_trained(as_one):
    many = seeds(CAE(**QUICK), 4)
    many[1].set_params(target_fpr=0.2)
    fit_many_quietly(many, ROWS["vectors"])
    many[2].set_params(epochs=2)
    many[3].set_params(latent_dim=2)
    with pytest.raises(ParameterError, match=r"detectors\[2\] cannot be trained as one with any other: .*strict=False"):
        fit_many_quietly(many, ROWS["vectors"])
    fit_many_quietly(many, ROWS["vectors"], strict=False)
    assert as_one == [4, 2]


def test_no_more_are_trained_as_one_than_wished(as_one):
    fit_many_quietly(seeds(CAE(**QUICK | {"epochs": 1}), 5), ROWS["vectors"], at_most=2)
    assert as_one == [2, 2]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (KNN(), "KNN is not a neural detector"),
        (DeepSVDD("soft-boundary", **QUICK), "keeps values between steps"),
        (CAE(**QUICK | {"training": {"precision": "bf16"}}), "trains in bfloat16, .*'precision': '32'"),
    ],
)
def test_what_cannot_be_batched_is_fitted_alone_on_request_only(other, why, as_one):
    with pytest.raises(ParameterError, match=rf"detectors\[2\] cannot .*{why}"):
        fit_many_quietly([*seeds(CAE(**QUICK), 2), clone(other)], ROWS["vectors"])
    assert not as_one
    *_, last = fit_many_quietly([*seeds(CAE(**QUICK), 2), clone(other)], ROWS["vectors"], strict=False)
    assert np.isfinite(last._score(ROWS["vectors"])).all() and as_one == [2]


def test_one_detector_alone_is_fitted_as_ever():
    (found,) = fit_many_quietly([DeepSVDDVAE(**QUICK, random_state=1)], ROWS["grey"])
    expected = contract.fit_quietly(DeepSVDDVAE(**QUICK, random_state=1), ROWS["grey"])
    assert_array_equal(found._score(ROWS["grey"]), expected._score(ROWS["grey"]))


# ---- what goes wrong


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_detectors_without_a_network_are_fitted_one_by_one():
    X = contract.blobs()
    (alone,) = batched.fit_many([insphere.KNN(random_state=0)], X)
    several = batched.fit_many([insphere.KNN(random_state=0), insphere.IForest(20, random_state=0)], X, strict=False)
    assert_array_equal(alone.anomaly_score(X), several[0].anomaly_score(X))
    assert_array_equal(alone.anomaly_score(X), insphere.KNN(random_state=0).fit(X).anomaly_score(X))


def test_wrong_arguments_are_refused():
    X, one = ROWS["vectors"], CAE(**QUICK)
    for detectors, rows, arguments, message in [
        ([], X, {}, "at least one detector"),
        ([one, one], X, {}, r"detectors\[1\] is in `detectors` twice"),
        (["cae"], X, {}, r"detectors\[0\] is str"),
        (seeds(one), [X, X], {}, "3 detectors, 2 entries"),
        (seeds(one), X, {"at_most": 0}, "`at_most` must be a whole number at least 1"),
        (seeds(one), X, {"together": "sometimes"}, "`together` must be one of 'auto', 'always'"),
    ]:
        with pytest.raises(ParameterError, match=message):
            fit_many_quietly(detectors, rows, **arguments)


def test_an_error_of_one_detector_names_it():
    with pytest.raises(DataError, match="at least 8") as caught:
        fit_many_quietly(seeds(CAE(**QUICK), 2), [ROWS["grey"], ROWS["grey"][:4]])
    assert caught.value.__notes__ == ["This was detectors[1]."]


def test_a_training_that_diverges_names_the_detector():
    training = {"optimizer": "sgd", "lr": 1e6, "precision": "32"}
    with pytest.raises(TrainingError, match=r"Training of detectors\[0\] stopped in epoch 1"):
        fit_many_quietly(seeds(CAE(**QUICK | {"training": training})), ROWS["vectors"])
