import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import contract
import insphere
from insphere import model_file
from insphere.detectors import catalog
from insphere.detectors.base import KIND, AbstractDetector
from insphere.errors import ModelFileError, ParameterError


@pytest.mark.parametrize("entry", catalog.DETECTORS.values(), ids=catalog.DETECTORS)
def test_every_entry_is_a_finished_detector(entry: catalog.Entry) -> None:
    found = catalog.detector_class(entry.name)
    assert issubclass(found, AbstractDetector) and not getattr(found, "__abstractmethods__", None)
    assert (found.name, found.__name__, found.__module__) == (entry.name, entry.class_name, entry.module)
    assert entry.summary.endswith(".") and entry.when.endswith(".")
    assert type(catalog.make(entry.name, {})) is found


def test_listing_the_detectors_imports_none() -> None:
    program = "import sys; from insphere.detectors import catalog; print(*catalog.DETECTORS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*catalog.DETECTORS, "False"]


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"`detector` must be one of 'vae-svdd'.*, got 'vae_svdd'\. Did you mean 'vae-svdd'\?"):
        catalog.make("vae_svdd", {})
    with pytest.raises(ParameterError, match="got 3"):
        catalog.detector_class(3)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"vae-svdd has no parameter 'epoch'; it has alpha, .*\. Did you mean 'epochs'\?"):
        catalog.make("vae-svdd", {"epoch": 3})


def test_parameters_are_passed_on() -> None:
    assert catalog.make("vae-svdd", {"alpha": 0.5, "geometry": "euclidean"}).get_params()["alpha"] == 0.5


class TestLoad:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        detector = contract.fit_quietly(catalog.make("vae-svdd", {"epochs": 1, "random_state": 0}), contract.blobs())
        detector.save(tmp_path / "model.insphere")
        return tmp_path / "model.insphere"

    def test_the_file_says_which_class_it_needs(self, path: Path) -> None:
        for loaded in (catalog.load(path), catalog.load(str(path)), insphere.load(path)):
            assert type(loaded) is catalog.detector_class("vae-svdd")
            assert np.isfinite(loaded.anomaly_score(contract.blobs())).all()

    @pytest.mark.parametrize("name", ["vae-svdd-2", None, 3, ["vae-svdd"], {}], ids=str)
    def test_a_detector_of_a_later_version_is_refused(self, path: Path, name: object) -> None:
        saved = model_file.read(path, KIND)
        model_file.write(path, KIND, saved.header | {"detector": name}, saved.arrays)
        with pytest.raises(ModelFileError, match=r"which this version of insphere does not know\. Upgrade insphere"):
            catalog.load(path)

    def test_a_checkpoint_is_no_detector(self, path: Path) -> None:
        model_file.write(path, "checkpoint", {}, {})
        with pytest.raises(ModelFileError, match="holds a 'checkpoint', and a 'detector' is needed"):
            catalog.load(path)
