"""The worked examples of docs/adding-a-detector.md are complete detectors: they keep the contract as those in the package do."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
from insphere import model_file
from insphere.detectors.base import KIND
from insphere.errors import ParameterError

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-detector.md"


def load_example(name: str) -> ModuleType:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if f"class {name}(" in block)
    assert code.count("\n") <= 110, "the page promises about a hundred lines"
    module = ModuleType(f"{name.lower()}_example")
    sys.modules[module.__name__] = module  # where classes look up the module that they say they are from
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return module


EXAMPLE = load_example("DenoisingCAE")
QUICK = EXAMPLE.DenoisingCAE(epochs=2, random_state=0)
SHALLOW = load_example("MedianDistance").MedianDistance(random_state=0)


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([QUICK, SHALLOW])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", [contract.blobs(), contract.pictures()], ids=["vectors", "grey"])
@pytest.mark.parametrize("detector", [QUICK, SHALLOW], ids=["denoising", "medians"])
def test_contract(check, X, detector):
    check(detector, X)


def test_the_one_without_a_network_is_its_formula_and_comes_back_from_its_file(tmp_path):
    X = contract.blobs()
    fitted = contract.fitted(clone(SHALLOW).set_params(power=1.0, scaling="none"), X)
    train = X[fitted.training_index_]
    middle = np.median(train, axis=0)
    expected = (np.abs(X - middle) / np.median(np.abs(train - middle), axis=0)).mean(axis=1)
    np.testing.assert_allclose(fitted.anomaly_score(X), expected, rtol=1e-6)
    fitted.save(tmp_path / "model.insphere")
    loaded = insphere.load(tmp_path / "model.insphere", detector=type(SHALLOW))
    np.testing.assert_array_equal(loaded.anomaly_score(X), fitted.anomaly_score(X))


def test_it_finds_anomalies_and_comes_back_from_its_file(tmp_path):
    X = contract.blobs()
    fitted = contract.fit_quietly(EXAMPLE.DenoisingCAE(epochs=40, random_state=0), X)
    anomalies = X + np.random.default_rng(5).normal(size=X.shape) * 4
    assert np.median(fitted.anomaly_score(anomalies)) > np.quantile(fitted.anomaly_score(X), 0.9)
    fitted.save(tmp_path / "model.insphere")
    loaded = EXAMPLE.DenoisingCAE.from_file(model_file.read(tmp_path / "model.insphere", KIND))
    np.testing.assert_array_equal(loaded.anomaly_score(X), fitted.anomaly_score(X))


def test_its_noise_matters_and_is_checked():
    X = contract.blobs()
    scores = [contract.fit_quietly(EXAMPLE.DenoisingCAE(noise, epochs=2, random_state=0), X).anomaly_score(X) for noise in (0.0, 0.5)]
    assert (scores[0] != scores[1]).any()
    with pytest.raises(ParameterError, match="`noise` must be a finite number at least 0, got -1"):
        EXAMPLE.DenoisingCAE(-1).fit(X)
