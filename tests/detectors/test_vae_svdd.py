import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
import naive
from insphere.detectors.cae_svdd import DeepSVDDCAE
from insphere.detectors.vae_svdd import DeepSVDDVAE, DeepSVDDVAEObjective, Reading
from insphere.errors import CollapseError, DataError, HealthWarning, ModelFileError, ParameterError, TrainingError
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.options import Training
from insphere.training.sphere_term import Center
from insphere.training.variational import Likelihood

QUICK = DeepSVDDVAE(epochs=3, random_state=0, device="cpu")
SEVERAL = DeepSVDDVAE(epochs=3, random_state=0, device="cpu", reading={"n_centers": 3})
GREY, COLOUR = contract.pictures(), contract.pictures(shape=(8, 8, 3))
VECTORS = contract.blobs()


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([DeepSVDDVAE(epochs=2, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", [VECTORS, GREY, COLOUR], ids=["vectors", "grey", "colour"])
def test_contract(check, X):
    check(QUICK, X)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis", "local"])
def test_contract_of_several_centres(check, geometry):
    check(SEVERAL.set_params(geometry=geometry), VECTORS)


@pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis"])
@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
def test_round_trip_of_several_centres(X, geometry, tmp_path):
    contract.check_round_trip(SEVERAL.set_params(geometry=geometry), X, tmp_path)


def kinds(n_kinds: int, n_rows: int = 240) -> np.ndarray:
    """Rows of several kinds, far apart in six dimensions."""
    places = 6 * np.random.default_rng(7).normal(size=(n_kinds, 6))
    return places[np.arange(n_rows) % n_kinds] + np.random.default_rng(0).normal(size=(n_rows, 6))


def test_each_kind_of_rows_gets_a_centre_and_what_lies_between_them_is_anomalous():
    X = kinds(3)
    between = np.repeat((X[:60:3] + X[1:60:3] + X[2:60:3]) / 3, 2, axis=0)
    share = {}
    for n_centers in (1, 3):
        detector = DeepSVDDVAE(reading={"n_centers": n_centers}, geometry="mahalanobis", epochs=40, random_state=0)
        fitted = contract.fit_quietly(detector, X)
        share[n_centers] = (fitted.anomaly_score(between) > np.quantile(fitted.anomaly_score(X), 0.95)).mean()
    assert share[3] > 0.9 > 0.1 > share[1]
    assert fitted.sphere_.kind == "several" and len(fitted.sphere_.centers) == 3
    (finding,) = [finding for finding in fitted.health_.findings if finding.name == "centres"]
    assert finding.level == "ok" and finding.text.startswith("3 of 3 centres have training rows: ")


def test_centres_that_no_rows_are_left_for_are_dropped_and_health_says_so():
    X = np.concatenate([kinds(1), kinds(1, 12)[:3] + 60])  # three rows lie far out, and k-means gives them a centre
    detector = DeepSVDDCAE(reading={"n_centers": 2}, geometry="euclidean", epochs=5, scaling="none", random_state=0)
    fitted = contract.fit_quietly(detector, X)
    (finding,) = [finding for finding in fitted.health_.findings if finding.name == "centres"]
    assert finding.level == "warning" and finding.text.startswith("1 of 2 centres has training rows: 194 of 194.")
    assert "Give reading={'n_centers': 1}" in finding.text
    assert fitted.objective_.sphere.in_use.sum() == 1 and len(fitted.sphere_.centers) == 1


@pytest.mark.parametrize("center", get_args(Center))
def test_every_way_of_moving_several_centres_trains_and_scores(center):
    reading = {"center": center, "n_centers": 3}
    fitted = contract.fit_quietly(DeepSVDDVAE(reading=reading, geometry="mahalanobis", epochs=2, random_state=0), VECTORS)
    assert np.isfinite(fitted.anomaly_score(VECTORS)).all()
    own = fitted.objective_.several_centers().double().numpy()
    same = (fitted.sphere_.centers[:, np.newaxis] == own).all(axis=2).any(axis=1)
    assert same.all() == (center in ("learned", "moving-average"))


@pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis", "local"])
@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
def test_round_trip(X, geometry, tmp_path):
    contract.check_round_trip(DeepSVDDVAE(geometry=geometry, epochs=2, random_state=0, training={"patience": 3}), X, tmp_path)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 1), (13, 5, 2), (17, 33, 3), (6, 6, 7)])
def test_images_of_any_size_and_number_of_channels(shape):
    X = contract.pictures(shape=(*shape[:2], shape[2])) if shape[1] > 4 else np.arange(40, dtype=np.uint8).reshape(40, *shape)
    fitted = contract.fit_quietly(DeepSVDDVAE(epochs=1, random_state=0, scaling="unit"), X)
    assert np.isfinite(fitted.anomaly_score(X)).all()


def test_one_pixel_has_no_contrast_to_normalise():
    fitted = contract.fit_quietly(DeepSVDDVAE(epochs=1, random_state=0, scaling="gcn"), np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1))
    assert fitted.health_.collapsed


def test_grey_images_may_come_without_a_channel_axis():
    fitted = contract.fit_quietly(QUICK, GREY[..., 0])
    np.testing.assert_array_equal(fitted.anomaly_score(GREY[..., 0]), fitted.anomaly_score(GREY))


def test_anomalies_score_higher():
    rng = np.random.default_rng(5)
    contract.check_anomalies_score_higher(DeepSVDDVAE(epochs=40, random_state=0), VECTORS, VECTORS + rng.normal(size=VECTORS.shape) * 4)
    contract.check_anomalies_score_higher(DeepSVDDVAE(epochs=40, random_state=0), GREY, np.ascontiguousarray(GREY[:, ::-1, ::-1]) // 3)


READINGS = [
    *({"center": center, "norm": norm} for center, norm in itertools.product(get_args(Center), ("plain", "squared"))),
    *({"likelihood": likelihood} for likelihood in get_args(Likelihood)),
    {"n_draws": 3},
    {"distance_of": "mean"},
    {"final_center": "last"},
    {"score_of": "sample"},
]


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_every_reading_trains_and_scores(reading):
    fitted = contract.fit_quietly(DeepSVDDVAE(reading=reading, scaling="unit", geometry="euclidean", epochs=2, random_state=0), GREY)
    scores = fitted.anomaly_score(GREY)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, fitted.anomaly_score(GREY))


@pytest.mark.parametrize("norm", ["plain", "squared"])
@pytest.mark.parametrize("likelihood", get_args(Likelihood))
def test_loss_equals_its_formula_written_out(norm, likelihood):
    objective = DeepSVDDVAEObjective((4,), 2, Network(widths=(8,)), alpha=0.3, reading=Reading(norm=norm, likelihood=likelihood))
    initialise(objective, 0)
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    terms = objective(x, torch.Generator().manual_seed(2))
    mu, logvar = objective.encoder(x)
    z = mu + (logvar / 2).exp() * torch.randn((1, 6, 2), generator=torch.Generator().manual_seed(2))[0]
    expected = naive.deep_svdd_vae_loss(
        x.tolist(), mu.tolist(), logvar.tolist(), z.tolist(), objective.decoder(z).tolist(), alpha=0.3, norm=norm, likelihood=likelihood
    )
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name


def test_gradient_of_the_loss():
    objective = DeepSVDDVAEObjective((3,), 2, Network(widths=(4,)), alpha=0.5, reading=Reading(likelihood="gaussian")).double().eval()
    x = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def distance(x):
        mu = objective.encoder.body(x)[0]
        return objective.sphere.distance(mu - mu.mean(dim=0))

    assert torch.autograd.gradcheck(distance, (x,))


def test_squared_norm_pulls_harder_than_plain_far_away():
    offsets = torch.tensor([[3.0, 4.0]])
    plain = DeepSVDDVAEObjective((3,), 2, Network(widths=(4,)), alpha=1.0, reading=Reading())
    squared = DeepSVDDVAEObjective((3,), 2, Network(widths=(4,)), alpha=1.0, reading=Reading(norm="squared"))
    assert plain.sphere.distance(offsets).item() == pytest.approx(5.0)
    assert squared.sphere.distance(offsets).item() == pytest.approx(25.0)


def test_radius_is_the_95th_percentile_of_the_training_scores():
    fitted = contract.fit_quietly(DeepSVDDVAE(geometry="euclidean", epochs=2, random_state=0, calibration={"decision": "radius"}), VECTORS)
    assert fitted.decision_.by == "radius" and fitted.threshold_ == fitted.radius_ and fitted.decision_.promised_fpr is None
    scores = fitted.anomaly_score(VECTORS)
    trained = scores[~np.isin(scores, fitted.conformal_.scores)]  # the others were held out
    assert len(trained) == fitted.data_["n_train"] and fitted.radius_ == pytest.approx(np.percentile(trained, 95), rel=1e-6)


def test_held_out_false_alarm_rate_keeps_its_promise():
    rates = []
    for seed in range(60):
        fitted = contract.fit_quietly(DeepSVDDVAE(epochs=1, random_state=seed, target_fpr=0.1), contract.blobs(400, seed=seed))
        rates.append((fitted.predict(contract.blobs(1000, seed=100 + seed)) == -1).mean())
    # 80 rows calibrate: each rate is Beta(8, 73)-distributed with mean 8/81 and, with the test's own noise, standard deviation 0.034.
    # The mean of sixty lies within four of its own standard deviations, 0.0044.
    assert abs(np.mean(rates) - 8 / 81) < 4 * 0.0044


def test_groups_are_calibrated_together():
    X = np.repeat(contract.blobs(40), 5, axis=0)
    groups = np.repeat(np.arange(40), 5)
    fitted = contract.fit_quietly(QUICK, X, groups=groups)
    assert fitted.data_["n_calibration"] % 5 == 0
    with pytest.raises(DataError, match="one label per row: 200, got 3"):
        QUICK.fit(X, groups=[1, 2, 3])


def test_pipeline_and_grid_search():
    pipeline = make_pipeline(StandardScaler(), DeepSVDDVAE(epochs=1, random_state=0))
    contract.fit_quietly(pipeline, VECTORS)
    assert set(pipeline.predict(VECTORS)) <= {-1, 1}
    search = GridSearchCV(
        DeepSVDDVAE(epochs=1, random_state=0),
        {"alpha": [0.01, 1.0], "training": [{"lr": 1e-3}, Training(lr=3e-3)]},
        scoring=lambda detector, X, y=None: float(detector.score_samples(X).mean()),
        cv=2,
        refit=False,
    )
    contract.fit_quietly(search, VECTORS)
    assert len(search.cv_results_["params"]) == 4 and np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 0}, "`alpha` must be a finite number above 0, or None, got 0"),
        ({"geometry": "sphere"}, "`geometry` must be one of"),
        ({"epochs": 0}, "`epochs` must be a whole number at least 1 and at most 100000, or None, got 0"),
        ({"latent_dim": 2.5}, "`latent_dim` must be a whole number"),
        ({"scaling": "gnc"}, "Did you mean 'gcn'"),
        ({"reading": {"centre": "learned"}}, "Did you mean 'center'"),
        ({"training": {"optimizer": "lion"}}, "`training.optimizer` must be one of"),
        ({"network": {"kernel_size": 4}}, "`kernel_size` must be odd"),
        ({"device": "tpu"}, "`device` must be one of"),
        ({"target_fpr": 1.0}, "`target_fpr` must be a finite number above 0 and below 1"),
    ],
)
def test_parameters_out_of_range(parameters, message):
    with pytest.raises(ParameterError, match=message):
        DeepSVDDVAE(**parameters).fit(VECTORS)


def test_constant_features_and_huge_values_are_survived():
    X = np.column_stack([VECTORS, np.full(len(VECTORS), 3.0), VECTORS[:, 0] * 1e30])
    fitted = contract.fit_quietly(QUICK, X)
    assert np.isfinite(fitted.anomaly_score(X * 1e3)).all()


def test_not_a_number_in_an_array_is_refused():
    fitted = contract.fit_quietly(QUICK, VECTORS)
    broken = VECTORS.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fitted.anomaly_score(broken)
    with pytest.raises(ValueError, match="NaN"):
        QUICK.fit(broken)


def test_loss_that_is_not_finite_names_epoch_and_term():
    with pytest.raises(TrainingError, match=r"epoch \d+: the loss term '.*' is not finite.*smaller learning rate"):
        DeepSVDDVAE(epochs=50, random_state=0, training={"optimizer": "sgd", "lr": 1e6, "schedule": "constant"}).fit(VECTORS)


def test_collapse_is_reported_and_scoring_refused(tmp_path):
    # Without reconstruction to speak of, the distance of the mean code alone is smallest where all codes are equal.
    detector = DeepSVDDVAE(
        alpha=1e-12, reading={"distance_of": "mean", "norm": "squared"}, geometry="euclidean", epochs=400, random_state=0,
        training={"lr": 0.02, "schedule": "one-cycle", "weight_decay": 0.1},
    )  # fmt: skip
    with pytest.warns(HealthWarning) as caught:
        detector.fit(VECTORS)
    assert any("collapsed to a point" in str(warning.message) for warning in caught)
    assert detector.health_.collapsed
    with pytest.raises(CollapseError, match="cannot score"):
        detector.anomaly_score(VECTORS)
    with pytest.raises(CollapseError, match="not saved"):
        detector.save(tmp_path / "model.insphere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
def test_posterior_collapse_is_reported_and_scoring_refused(X):
    # With alpha = 50 the sphere does next to nothing; one unit a layer and a fixed variance leave the decoder nothing to gain from codes.
    detector = DeepSVDDVAE(
        alpha=50, network={"widths": (1,)}, reading={"likelihood": "gaussian"}, scaling="unit", epochs=150, random_state=0
    )  # fmt: skip
    with pytest.warns(HealthWarning) as caught:
        detector.fit(X)
    assert any("Posterior collapse: the code is the prior" in str(warning.message) for warning in caught)
    with pytest.raises(CollapseError, match=r"cannot score: .* nats per row"):
        detector.anomaly_score(X)
    assert not contract.fit_quietly(DeepSVDDVAE(alpha=50, epochs=150, random_state=0), X).health_.collapsed


def test_early_stopping_returns_to_the_best_epoch():
    detector = DeepSVDDVAE(epochs=200, random_state=0, training={"patience": 2, "schedule": "constant", "lr": 0.02})
    fitted = contract.fit_quietly(detector, VECTORS)
    losses = [record.validation_loss for record in fitted.history_]
    assert len(losses) < 200 and int(np.argmin(losses)) == len(losses) - 3


@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_resumed_after_an_interrupt_equals_the_unbroken_run(X, optimizer, tmp_path):
    detector = DeepSVDDVAE(epochs=6, random_state=0, training={"optimizer": optimizer, "lr": 1e-3, "patience": 6})
    unbroken = contract.fit_quietly(detector, X).anomaly_score(X)

    def interrupt(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.fit(X, checkpoint=tmp_path / "fit.checkpoint", on_epoch=interrupt)
    epochs = []
    resumed = contract.fit_quietly(
        detector, X, checkpoint=tmp_path / "fit.checkpoint", resume=True, on_epoch=lambda r: epochs.append(r.epoch)
    )
    assert epochs == [4, 5, 6]
    np.testing.assert_array_equal(resumed.anomaly_score(X), unbroken)
    with pytest.raises(ModelFileError, match="belongs to other training rows"):
        DeepSVDDVAE(epochs=6, random_state=1).fit(X, checkpoint=tmp_path / "fit.checkpoint", resume=True)


def test_killed_and_resumed_equals_the_unbroken_run(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys, warnings
        from pathlib import Path
        sys.path.insert(0, os.environ["CONTRACT"])
        import contract, numpy as np
        from insphere.detectors.vae_svdd import DeepSVDDVAE
        X = contract.pictures()
        detector = DeepSVDDVAE(epochs=6, random_state=0)
        kill = lambda record: os.kill(os.getpid(), signal.SIGKILL) if record.epoch == 3 and sys.argv[1] == "kill" else None
        contract.fit_quietly(detector, X, checkpoint=Path("fit.checkpoint"), resume=True, on_epoch=kill)
        np.save("scores.npy", detector.anomaly_score(X))
        """
    )
    environment = os.environ | {"CONTRACT": str(Path(contract.__file__).parent)}
    killed = subprocess.run([sys.executable, "-c", script, "kill"], cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["fit.checkpoint"]
    subprocess.run([sys.executable, "-c", script, "finish"], cwd=tmp_path, env=environment, check=True)
    unbroken = contract.fit_quietly(DeepSVDDVAE(epochs=6, random_state=0), GREY)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), unbroken.anomaly_score(GREY))


def test_a_file_with_other_weights_is_refused(tmp_path):
    from insphere import model_file

    fitted = contract.fit_quietly(QUICK, VECTORS)
    fitted.save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    name = next(name for name in saved.arrays if name.startswith("network/encoder") and saved.arrays[name].ndim == 2)
    for arrays in (saved.arrays | {name: np.zeros((2, 2), np.float32)}, {key: value for key, value in saved.arrays.items() if key != name}):
        model_file.write(tmp_path / "other.insphere", "detector", saved.header, arrays)
        with pytest.raises(ModelFileError, match="do not fit the stored architecture"):
            insphere.load(tmp_path / "other.insphere")
    header = {key: value for key, value in saved.header.items() if key != "health"}
    model_file.write(tmp_path / "other.insphere", "detector", header, saved.arrays)
    with pytest.raises(ModelFileError, match="incomplete"):
        insphere.load(tmp_path / "other.insphere")


def test_folder_of_images_end_to_end(tmp_path):
    from PIL import Image

    for index, picture in enumerate(contract.pictures(40)):
        Image.fromarray(picture[..., 0]).save(tmp_path / f"{index:03}.png")
    fitted = contract.fit_quietly(QUICK, tmp_path)
    (tmp_path / "000.png").write_text("not an image")
    with pytest.warns(UserWarning, match="1 of 40 rows could not be read"):
        scores = fitted.anomaly_score(tmp_path)
    assert np.isnan(scores[0]) and np.isfinite(scores[1:]).all()
    with pytest.warns(UserWarning):
        assert fitted.predict(tmp_path)[0] == -1
    with pytest.warns(UserWarning, match="1 of 40 training rows were left out"):
        refitted = contract.fit_quietly(QUICK, tmp_path)
    assert list(refitted.training_errors_) == ["000.png"]
