import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
from insphere import KDE, KNN, OCSVM, DeepSVDDVAE, Hybrid, model_file
from insphere.errors import ModelFileError, ParameterError

ENCODER = {"name": "vae-svdd", "epochs": 2, "device": "cpu"}
QUICK = Hybrid(ENCODER, "knn", random_state=0)
VECTORS, GREY, COLOUR = contract.blobs(), contract.pictures(), contract.pictures(shape=(8, 8, 3))


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([Hybrid({"name": "vae-svdd", "epochs": 1}, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", [VECTORS, GREY, COLOUR], ids=["vectors", "grey", "colour"])
def test_contract(check, X):
    check(QUICK, X)


@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
@pytest.mark.parametrize("detector", ["knn", "ocsvm", "kde", "iforest", "svdd"])
def test_round_trip_of_one_file(X, detector, tmp_path):
    contract.check_round_trip(Hybrid(ENCODER, detector, random_state=0), X, tmp_path)


@pytest.mark.parametrize("encoder", ["vae", "cae", "cae-svdd", "dasvdd", "deep-svdd", "oc-nn"])
def test_codes_of_any_neural_detector(encoder, tmp_path):
    contract.check_round_trip(Hybrid({"name": encoder, "epochs": 1, "device": "cpu"}, random_state=0), VECTORS, tmp_path)


def test_scores_are_the_shallow_detectors_on_the_encoders_codes():
    fitted = contract.fit_quietly(QUICK, VECTORS)
    codes = fitted.encoder_._codes(VECTORS)
    train = ~np.isin(fitted.anomaly_score(VECTORS), fitted.conformal_.scores)
    assert train.sum() == fitted.data_["n_train"]
    scale = np.sqrt(codes[train].var(axis=0).mean())
    gaps = np.linalg.norm(codes[:, None] - codes[train][None], axis=2) / scale
    np.testing.assert_allclose(fitted.anomaly_score(VECTORS), np.sort(gaps, axis=1)[:, :5].mean(axis=1), rtol=1e-6, atol=1e-9)
    assert fitted.history_ == fitted.encoder_.history_ and len(fitted.history_) == 2


def test_anomalies_score_higher():
    anomalies = VECTORS + 4 * np.random.default_rng(5).normal(size=VECTORS.shape)
    contract.check_anomalies_score_higher(Hybrid({**ENCODER, "epochs": 40}, "kde", random_state=0), VECTORS, anomalies)


def test_parts_may_be_detectors_and_stay_as_they_were():
    encoder, detector = DeepSVDDVAE(epochs=2, random_state=7), OCSVM(gamma="scale", scaling="standard")
    hybrid = Hybrid(encoder, detector, random_state=0)
    first = contract.fit_quietly(clone(hybrid), VECTORS)
    assert first.encoder_.seed_ == 7 and first.detector_.scaling == "standard"
    assert not hasattr(encoder, "seed_") and not hasattr(detector, "gamma_")
    hybrid.set_params(encoder__epochs=3, detector__gamma=0.1)
    assert len(contract.fit_quietly(hybrid, VECTORS).history_) == 3
    parameters = first.describe()["parameters"]
    assert parameters["encoder"]["name"] == "vae-svdd" and parameters["detector"]["gamma"] == "scale"
    assert contract.fit_quietly(Hybrid(**parameters), VECTORS).describe()["parameters"] == parameters


def test_trimming_fits_both_parts_again():
    fitted = contract.fit_quietly(clone(QUICK).set_params(trim=0.1), VECTORS)
    assert fitted.data_["n_trimmed"] > 0 and np.isfinite(fitted.anomaly_score(VECTORS)).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": "knn"}, "`encoder` must be a neural detector, its name or a mapping with its name, got KNN"),
        ({"detector": DeepSVDDVAE()}, "`detector` must be a shallow detector"),
        ({"encoder": "vae-svd"}, "Did you mean 'vae-svdd'"),
        ({"encoder": {"epochs": 3}}, '`encoder` as a mapping must have the "name"'),
        ({"encoder": {"name": "vae-svdd", "epoch": 3}}, "Did you mean 'epochs'"),
        ({"encoder": {"name": "vae-svdd", "epochs": 0}}, "`epochs` must be"),
        ({"detector": KDE(bandwidth=0)}, "`bandwidth` must be"),
        ({"detector": KNN}, "`detector` must be a shallow detector"),
        ({"detector": None}, "got NoneType"),
        ({"detector": {"name": 3}}, 'must have the "name"'),
    ],
    ids=str,
)
def test_parts_of_the_wrong_kind(parts, message):
    with pytest.raises(ParameterError, match=message):
        Hybrid(**parts).fit(VECTORS)


def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path):
    contract.fit_quietly(QUICK, VECTORS).save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    for arrays in (saved.arrays | {"detector/references": np.zeros((4, 9))}, saved.arrays | {"center": np.zeros(9)}):
        model_file.write(tmp_path / "other.insphere", "detector", saved.header, arrays)
        with pytest.raises(ModelFileError, match="does not fit"):
            insphere.load(tmp_path / "other.insphere")
