"""What all neural detectors keep, whatever their objective: contract, files, resuming over stages, codes."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
from contract import fit_quietly
from insphere.decision import health
from insphere.detectors import neural
from insphere.detectors.cae import CAE
from insphere.detectors.cae_svdd import DeepSVDDCAE
from insphere.detectors.catalog import DETECTORS, detector_class
from insphere.detectors.dasvdd import DASVDD
from insphere.detectors.deep_svdd import DeepSVDD
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.oc_nn import OCNN
from insphere.detectors.transform_svdd import TransformSVDD
from insphere.detectors.vae import VAE
from insphere.errors import ParameterError

QUICK = {"epochs": 2, "random_state": 0, "device": "cpu"}
METHODS = [
    VAE(**QUICK),
    VAE("distance", **QUICK),
    VAE("reconstruction", **QUICK),
    CAE(**QUICK),
    DeepSVDDCAE(**QUICK),
    DeepSVDDCAE(**QUICK, reading={"n_centers": 3}, geometry="mahalanobis"),
    DASVDD(**QUICK),
    DeepSVDD(**QUICK),
    DeepSVDD(**QUICK, reading={"n_centers": 2}),
    DeepSVDD("soft-boundary", reading={"warm_up_epochs": 1}, pretrain=False, **QUICK),
    OCNN(**QUICK),
    TransformSVDD(**QUICK),
]
IDS = [
    *("vae", "vae-distance", "vae-reconstruction", "cae", "cae-svdd", "cae-svdd-3-centres", "dasvdd"),
    *("deep-svdd", "deep-svdd-2-centres", "deep-svdd-soft", "oc-nn", "transform-svdd"),
]
ROWS = {"vectors": contract.blobs(), "grey": contract.pictures(), "colour": contract.pictures(shape=(8, 8, 3))}

every_method = pytest.mark.parametrize("detector", METHODS, ids=IDS)


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks(
    [VAE(**QUICK), CAE(**QUICK), DeepSVDDCAE(**QUICK), DASVDD(**QUICK), DeepSVDD(**QUICK), OCNN(**QUICK), TransformSVDD(**QUICK)]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", ROWS.values(), ids=ROWS.keys())
@every_method
def test_contract(check, X, detector):
    check(detector, X)


@pytest.mark.parametrize("X", [ROWS["vectors"], ROWS["grey"]], ids=["vectors", "grey"])
@every_method
def test_round_trip(detector, X, tmp_path):
    contract.check_round_trip(detector, X, tmp_path)


@pytest.mark.parametrize("detector", [VAE, CAE, DeepSVDDCAE, DASVDD, DeepSVDD], ids=lambda detector: detector.name)
def test_anomalies_score_higher(detector):
    rng = np.random.default_rng(5)
    vectors, pictures = ROWS["vectors"], ROWS["grey"]
    contract.check_anomalies_score_higher(detector(epochs=40, random_state=0), vectors, vectors + rng.normal(size=vectors.shape) * 4)
    contract.check_anomalies_score_higher(detector(epochs=40, random_state=0), pictures, np.ascontiguousarray(pictures[:, ::-1, ::-1]) // 3)


@pytest.mark.parametrize("interrupted_after", [1, 2, 3, 4])
@pytest.mark.parametrize("X", [ROWS["vectors"], ROWS["grey"]], ids=["vectors", "grey"])
@every_method
def test_resumed_at_any_epoch_of_any_stage_equals_the_unbroken_run(detector, X, interrupted_after, tmp_path):
    detector = clone(detector).set_params(epochs=2 if getattr(detector, "pretrain", False) else 4, training={"patience": 4, "lr": 1e-3})
    unbroken = contract.fitted(detector, X)
    expected = unbroken.anomaly_score(X)

    def interrupt(record):
        if record.epoch == interrupted_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.fit(X, checkpoint=tmp_path / "fit.checkpoint", on_epoch=interrupt)
    resumed = contract.fit_quietly(detector, X, checkpoint=tmp_path / "fit.checkpoint", resume=True)
    np.testing.assert_array_equal(resumed.anomaly_score(X), expected)
    without_seconds = [[(r.epoch, r.n_epochs, r.stage, r.terms) for r in fitted.history_] for fitted in (unbroken, resumed)]
    assert without_seconds[0] == without_seconds[1]


def test_epochs_are_counted_over_all_stages():
    history = contract.fit_quietly(DeepSVDD(epochs=2, pretrain={"epochs": 3}, random_state=0), ROWS["vectors"]).history_
    assert [(record.epoch, record.n_epochs) for record in history] == [(epoch, 5) for epoch in range(1, 6)]
    assert [record.stage for record in history] == ["pretraining"] * 3 + ["training"] * 2


def test_a_stage_before_changes_what_the_method_starts_from_and_nothing_else_of_its_chance():
    with_stage = contract.fit_quietly(
        DeepSVDD(epochs=1, pretrain={"epochs": 1, "training": {"lr": 1e-30}}, random_state=0), ROWS["vectors"]
    )
    assert with_stage.history_[0].stage == "pretraining"
    encoders = [dict(stage.objective.state_dict()) for stage in with_stage._make_stages(1)]
    assert not (encoders[0]["encoder.body.heads.0.weight"] == encoders[1]["encoder.body.heads.0.weight"]).any()


class TestCodes:
    @every_method
    def test_each_row_has_a_code_of_its_own(self, detector):
        X = ROWS["grey"]
        fitted = contract.fitted(detector, X)
        codes = fitted.codes(X)
        assert codes.dtype == np.float64 and codes.shape == (len(X), 32)
        np.testing.assert_array_equal(fitted.codes(X[::-1]), codes[::-1])
        np.testing.assert_array_equal(np.concatenate([fitted.codes(X[i : i + 1]) for i in range(5)]), codes[:5])
        loaded_shape = fitted.set_params(latent_dim=None).codes(X[:1]).shape
        assert loaded_shape == (1, 32)

    def test_unreadable_rows_have_none(self, tmp_path):
        from PIL import Image

        for index, picture in enumerate(contract.pictures(20)):
            Image.fromarray(picture[..., 0]).save(tmp_path / f"{index:03}.png")
        fitted = contract.fit_quietly(CAE(**QUICK), tmp_path)
        (tmp_path / "003.png").write_text("not an image")
        with pytest.warns(UserWarning, match="1 of 20 rows could not be read and have NaN for a code"):
            codes = fitted.codes(tmp_path)
        assert np.isnan(codes[3]).all() and np.isfinite(np.delete(codes, 3, axis=0)).all()


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (VAE("negative-elbow"), "`scored_by` must be one of.*Did you mean 'negative-elbo'"),
        (VAE(reading={"n_draws": 0}), "`reading.n_draws` must be a whole number at least 1"),
        (DeepSVDDCAE(alpha=0), "`alpha` must be a finite number above 0, got 0"),
        (DeepSVDDCAE(reading={"likelihood": "gaussian"}), "`reading` has no field 'likelihood'"),
        (DeepSVDDCAE(reading={"n_centers": 101}), "`reading.n_centers` must be a whole number at least 1 and at most 100, got 101"),
        (
            DeepSVDD(reading={"n_centers": 2, "center": "zero"}),
            "`reading.n_centers` must be 1 with center='zero', got 2.*Give center='mean'",
        ),
        (DASVDD(gamma=0), "`gamma` must be a finite number above 0"),
        (DASVDD(train_share=1), "`train_share` must be a finite number above 0 and below 1"),
        (DASVDD(center_momentum=1), "`center_momentum` must be a finite number at least 0 and below 1"),
        (DeepSVDD("soft"), "`objective` must be one of 'one-class', 'soft-boundary', got 'soft'"),
        (DeepSVDD(nu=1.5), r"`nu` must be a finite number above 0 and at most 1, got 1.5"),
        (DeepSVDD(pretrain="yes"), "`pretrain` must be True or False or a mapping or a Pretraining"),
        (DeepSVDD(pretrain={"epochs": 0}), "`pretrain.epochs` must be a whole number at least 1"),
        (DeepSVDD(pretrain={"training": {"patience": 3}}), "`pretrain.training.patience` needs `training.patience`"),
        (DeepSVDD(reading={"center": "origin"}), "`reading.center` must be one of"),
        (OCNN(nu=1), "`nu` must be a finite number above 0 and below 1"),
        (OCNN(n_hidden=0), "`n_hidden` must be a whole number at least 1"),
        (OCNN(activation="relu6"), "`activation` must be one of"),
        (CAE(trim=0.5), "`trim` must be a finite number at least 0 and below 0.5, got 0.5"),
    ],
)
def test_parameters_out_of_range(detector, message):
    with pytest.raises(ParameterError, match=message):
        detector.set_params(epochs=1, random_state=0).fit(ROWS["vectors"])


def test_what_is_not_given_of_a_record_is_the_methods_own():
    detector = DeepSVDD(training={"batch_size": 20}, network={"widths": (8,)}, epochs=1, random_state=0)
    detector._check_parameters()
    assert (detector._options.batch_size, detector._options.lr, detector._options.weight_decay) == (20, 1e-3, 0.5e-6)
    assert (detector._network.widths, detector._network.bias, detector._network.batch_norm_affine) == ((8,), False, False)


def test_the_catalog_knows_every_neural_method():
    neural = {name for name in DETECTORS if issubclass(detector_class(name), AbstractNeuralDetector)}
    assert neural == {"vae-svdd", "vae", "cae", "cae-svdd", "dasvdd", "deep-svdd", "oc-nn", "transform-svdd"}
    assert all(getattr(insphere, DETECTORS[name].class_name) is detector_class(name) for name in neural)
    assert all(detector_class(name).name == name for name in neural)


def test_the_default_type_of_pytorch_does_not_matter() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    expected = fit_quietly(VAE(epochs=1, random_state=0), X).anomaly_score(X)
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(fit_quietly(VAE(epochs=1, random_state=0), X).anomaly_score(X), expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_health_compares_as_many_reconstructions_as_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def check(x: np.ndarray, reconstruction: np.ndarray, *, decides: bool) -> health.Finding:
        compared.append((x.shape, reconstruction.shape))
        return health.Finding("reconstruction", "ok", 1.0, "")

    monkeypatch.setattr(health, "check_reconstruction", check)
    X = contract.blobs()
    n_values = X.shape[1]
    for most, n_rows in ((10**6, None), (10 * n_values, 10), (1, 1)):
        monkeypatch.setattr(neural, "_HEALTH_VALUES", most)
        compared.clear()
        detector = fit_quietly(CAE(**QUICK), X)
        n_rows = n_rows or detector.data_["n_train"]
        assert compared == [((n_rows, n_values), (n_rows, n_values))]
