"""Parameters as scikit-learn's users give them: nested names, NumPy's numbers, names of other libraries; checked before a row is read."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import insphere
from contract import fit_quietly, pictures
from insphere import model_file
from insphere.data import ArraySource
from insphere.detectors import catalog
from insphere.detectors.parameters import ELSEWHERE, described
from insphere.detectors.stored import KIND
from insphere.errors import ModelFileError, ParameterError, UnknownParameterError

X = np.random.default_rng(0).normal(size=(100, 4))
ODD = ("zzz", -5, object())
OWN = "own_detector:OwnKNN"


def settings() -> list[Any]:
    """Return a detector, a parameter (nested ones with a dot) and its default, for all of them."""
    return [(name, entry["name"]) for name in catalog.DETECTORS for entry in described(catalog.detector_class(name))]


def as_numpy(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [as_numpy(entry) for entry in value]
    return np.array(value)[()] if isinstance(value, bool | int | float) else value


@pytest.mark.parametrize(("name", "parameter"), settings())
def test_every_parameter_is_described_and_refuses_nonsense_before_a_row_is_read(name: str, parameter: str) -> None:
    (entry,) = [entry for entry in described(catalog.detector_class(name)) if entry["name"] == parameter]
    assert entry["meaning"] and entry["type"]
    outer, _, inner = parameter.partition(".")
    for odd in ODD:
        with pytest.raises(ParameterError, match=inner or f"{outer}|detector"):
            catalog.check(name, {outer: {inner: odd} if inner else odd})


class Unread(ArraySource):
    """Rows that nobody may read."""

    def batches(self, size: int) -> Any:
        raise AssertionError("a row was read")


@pytest.mark.parametrize("wrong", [{"target_fpr": 2}, {"training": {"lr": -1}}, {"alpha": 0}, {"reading": {"norm": "cubic"}}])
def test_fit_checks_before_it_reads(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        insphere.DeepSVDDVAE(**wrong).fit(Unread(X))


@pytest.mark.parametrize("name", catalog.DETECTORS)
def test_numbers_of_numpy_are_numbers(name: str, tmp_path: Path) -> None:
    kind = catalog.detector_class(name)
    parameters = {field.name: as_numpy(field.default) for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    parameters |= {"random_state": np.int64(3), "calibration": {"fraction": np.float64(0.25)}}
    if "epochs" in parameters:
        network, training = {"widths": (np.int64(8),)}, {"lr": np.float32(1e-3), "batch_size": np.int64(20)}
        parameters |= {"epochs": np.int32(1), "latent_dim": np.int64(2), "training": training, "network": network}
    rows = X if kind.takes_vectors else pictures(12)
    detector = fit_quietly(kind(**parameters), rows)
    detector.save(tmp_path / "m.insphere")
    np.testing.assert_array_equal(insphere.load(tmp_path / "m.insphere").anomaly_score(rows), detector.anomaly_score(rows))


class TestNames:
    @pytest.mark.parametrize("word", ELSEWHERE)
    def test_names_of_other_libraries_lead_to_ours(self, word: str) -> None:
        for detector in (insphere.DeepSVDDVAE, insphere.KNN, insphere.IForest):
            if word in detector._get_param_names():
                continue
            with pytest.raises(TypeError, match=f"has no parameter '{word}'"):
                detector(**{word: 1})

    def test_contamination(self) -> None:
        with pytest.raises(UnknownParameterError, match="what you look for is target_fpr"):
            insphere.IForest(contamination=0.1)  # type: ignore[call-arg]
        with pytest.raises(ParameterError, match="target_fpr"):
            catalog.make("iforest", {"contamination": 0.1})
        with pytest.raises(UnknownParameterError, match="target_fpr"):
            insphere.IForest().set_params(contamination=0.1)

    def test_a_typing_error_leads_to_the_nearest(self) -> None:
        with pytest.raises(TypeError, match="Did you mean 'n_neighbors'"):
            insphere.KNN(n_neighbours=3)  # type: ignore[call-arg]

    def test_what_a_detector_does_not_have_is_not_recommended(self) -> None:
        with pytest.raises(TypeError, match="it has ") as caught:
            insphere.KNN(lr=1)  # type: ignore[call-arg]
        assert "training" not in str(caught.value)


class TestNested:
    def test_fields_are_got_and_set_by_two_underlines(self) -> None:
        detector = insphere.DeepSVDDVAE(training={"batch_size": 50})
        parameters = detector.get_params()
        assert parameters["training__batch_size"] == 50 and parameters["training__lr"] == insphere.DeepSVDDVAE.default_training.lr
        detector.set_params(training__lr=np.float64(0.5), calibration__method="cross", alpha=0.1)
        assert detector.training == {"batch_size": 50, "lr": 0.5} and detector.calibration == {"method": "cross"} and detector.alpha == 0.1
        assert clone(detector).get_params()["training__lr"] == 0.5

    def test_a_record_keeps_its_other_fields(self) -> None:
        from insphere.training.options import Training

        detector = insphere.VAE(training=Training(lr=0.25, batch_size=30)).set_params(training__batch_size=40)
        assert (detector._record("training").lr, detector._record("training").batch_size) == (0.25, 40)

    def test_unknown_fields_are_refused(self) -> None:
        with pytest.raises(UnknownParameterError, match="training__speed"):
            insphere.VAE().set_params(training__speed=1)

    def test_precision_as_a_number(self) -> None:
        catalog.check("vae", {"training": {"precision": 32}})


class TestOthers:
    """Detectors of other packages: named by the user, never by a file."""

    @pytest.fixture(autouse=True)
    def own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_detector.py").write_text(
            "import dataclasses\nfrom insphere import KNN\n\n@dataclasses.dataclass(eq=False, repr=False)\n"
            "class OwnKNN(KNN):\n    name = 'own-knn'\n\nclass Nothing:\n    pass\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    def test_module_and_class(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        detector = catalog.make(OWN, {"random_state": 0}).fit(X)
        detector.save(tmp_path / "m.insphere")
        with pytest.raises(ModelFileError, match="name its class"):
            insphere.load(tmp_path / "m.insphere")
        for loaded in (
            insphere.load(tmp_path / "m.insphere", detector=OWN),
            insphere.load(tmp_path / "m.insphere", detector=type(detector)),
        ):
            np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))
        monkeypatch.setenv("INSPHERE_DETECTORS", OWN)
        assert insphere.load(tmp_path / "m.insphere").name == "own-knn"

    @pytest.mark.parametrize("name", ["own_detector:Nothing", "own_detector:Missing", "nowhere_at_all:X", ":", "a:"])
    def test_what_is_not_a_detector_is_refused(self, name: str) -> None:
        with pytest.raises(ParameterError):
            catalog.detector_class(name)

    def test_entry_points(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalog, "installed", lambda: {"own-knn": OWN})
        assert catalog.detector_class("own-knn").name == "own-knn"
        with pytest.raises(ParameterError, match="Did you mean 'own-knn'"):
            catalog.detector_class("own-kn")


@pytest.mark.parametrize("name", ["vae", "hybrid"])
def test_a_model_of_another_device_scores_here(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    quick = {"encoder": {"name": "cae", "epochs": 1}} if name == "hybrid" else {"epochs": 1}
    detector = fit_quietly(catalog.make(name, {"random_state": 0, **quick}), X)
    detector.save(tmp_path / "m.insphere")
    saved = model_file.read(tmp_path / "m.insphere", KIND)
    (saved.header["parameters"]["encoder"] if name == "hybrid" else saved.header["parameters"])["device"] = "cuda"
    model_file.write(tmp_path / "m.insphere", KIND, saved.header, saved.arrays)
    np.testing.assert_array_equal(insphere.load(tmp_path / "m.insphere").anomaly_score(X), detector.anomaly_score(X))
