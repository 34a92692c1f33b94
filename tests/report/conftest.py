"""A small model of digits, a report on it, and a browser to open it in."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import insphere
from browser import chromium, chromium_page  # noqa: F401 - fixtures
from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.errors import HealthWarning, ParameterError
from insphere.report import explaining, write_report

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}\u202egnp.exe'


def fit(detector: AbstractDetector, X: Any) -> AbstractDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return detector.fit(X)


@pytest.fixture(scope="session")
def digits() -> AbstractDetector:
    """Deep SVDD-VAE on the digit 3, trained briefly."""
    return fit(insphere.DeepSVDDVAE(epochs=8, latent_dim=4, random_state=0), "digits:3")


@pytest.fixture(scope="session")
def vectors() -> AbstractDetector:
    """KNN on 200 rows of four features."""
    return insphere.KNN(random_state=0).fit(np.random.default_rng(0).normal(size=(200, 4)))


def pictures_to_explain(detector: AbstractDetector, X: Any) -> SimpleNamespace:
    """Stand for `insphere.explain.explain`: where an image differs from the mean of all, or the size of a vector's features."""
    if X.ndim == 2:
        return SimpleNamespace(heatmaps=None, feature_contributions=np.abs(X))
    heatmaps = np.abs(X - X.mean(axis=0)).mean(axis=3).astype(np.float32)
    return SimpleNamespace(heatmaps=heatmaps, feature_contributions=None, heat_limit=float(heatmaps.max()))


def red(image: Any, heatmap: Any, *, maximum: float) -> Any:
    """Stand for `insphere.explain.overlay`: the heat-map in red."""
    return np.stack([(255 * heatmap / maximum).astype(np.uint8), image[:, :, 0], image[:, :, 0]], axis=2)


def not_explained(detector: AbstractDetector, X: Any) -> None:
    raise ParameterError("This detector cannot be explained.")


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explanations that need no training."""
    monkeypatch.setattr(explaining, "import_module", lambda name: SimpleNamespace(explain=pictures_to_explain, overlay=red))


@pytest.fixture
def unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that cannot be explained."""
    monkeypatch.setattr(explaining, "import_module", lambda name: SimpleNamespace(explain=not_explained, overlay=red))


@pytest.fixture
def digits_report(digits: AbstractDetector, explained: None, tmp_path: Path) -> Path:
    path = tmp_path / "digits.html"
    write_report(digits, "digits:3", path, max_images=12)
    return path


@pytest.fixture
def hostile() -> ArraySource:
    """Images whose names, types and errors try to be markup; one of them cannot be read."""
    test = insphere.open_source("digits:3", split="test")
    X = test.load().X[:80].astype(np.float64)
    X[7, 2, 2] = np.nan
    names = [f"{number}{HOSTILE}" for number in range(80)]
    types = [f"{name}{HOSTILE}" for name in test.types[:80]]
    return ArraySource(X, name=f"source{HOSTILE}", labels=test.labels[:80], types=types, ids=names)


def learned_from(source: ArraySource) -> ArraySource:
    """Return rows of it to fit on, whatever their labels: those of a fit are all normal."""
    rows = source.take(range(8, 48))
    return ArraySource(rows.load().X, name=rows.name, types=rows.types, ids=rows.ids)
