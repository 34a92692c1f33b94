"""The worked example of docs/adding-a-detector.md is a complete detector: it keeps the contract as those in the package do."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
from insphere import model_file
from insphere.detectors.base import KIND
from insphere.errors import ParameterError

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-detector.md"


def load_example() -> ModuleType:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert code.count("\n") <= 110, "the page promises about a hundred lines"
    module = ModuleType("denoising_example")
    sys.modules[module.__name__] = module  # where classes look up the module that they say they are from
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return module


EXAMPLE = load_example()
QUICK = EXAMPLE.DenoisingCAE(epochs=2, random_state=0)


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([QUICK])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", [contract.blobs(), contract.pictures()], ids=["vectors", "grey"])
def test_contract(check, X):
    check(QUICK, X)


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
