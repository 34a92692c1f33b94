"""The fourth rule of what goes in and comes out: every graph answers as its detector does on what users feed it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import export_models
import insphere
from contract import fit_quietly
from export_models import fitted, rows_of_kind
from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import DETECTORS, detector_class
from insphere.export import export_onnx, graph

ROWS = ("unrounded", "far from zero", "nan", "infinite", "overflowing")
OF_VECTORS = tuple(name for name in DETECTORS if detector_class(name).takes_vectors)
GRAPHS = (*OF_VECTORS, "float images", "int8")  # pixels of whole numbers can't be any of these
QUICK = ("knn", "iforest", "vae-svdd", "ocsvm", "kde", "float images", "int8")

Exported = tuple[AbstractDetector, Any, NDArray[Any], float]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what exports a graph once: its detector, its session, rows to spoil, and how far scores may be from the detector's."""
    made: dict[str, Exported] = {}

    def make(name: str) -> Exported:
        if name in made:
            return made[name]
        if name in OF_VECTORS:
            detector, rows = fitted(name, "vectors"), rows_of_kind("vectors", seed=5).astype(np.float64)
        else:
            rows = (rows_of_kind("grey") / 255.0).astype(np.float32)
            detector = fit_quietly(insphere.VAE(epochs=1, device="cpu", random_state=0), rows)
        path: Path = tmp_path_factory.mktemp("graph") / "m.onnx"
        if name in OF_VECTORS:
            cost = export_models.exported(path, name, "vectors").quantisation
        else:
            cost = export_onnx(detector, path, int8=name == "int8", rows=rows if name == "int8" else None).quantisation
        made[name] = detector, graph.session(path.read_bytes()), rows[:20], 1e-4 if cost is None else 1.5 * cost.largest_difference
        return made[name]

    return make


def spoilt(rows: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return rows as users have them; all of them are of the kind."""
    rng, rows = np.random.default_rng(0), rows.copy()
    if kind == "unrounded":
        return rows * (1 + 1e-9 * rng.standard_normal(rows.shape)) if rows.ndim == 2 else rows
    if kind == "far from zero":
        return rows + (1.7e9 if rows.ndim == 2 else 3)
    flat = rows.reshape(len(rows), -1)
    places = rng.integers(0, flat.shape[1], len(flat))
    with np.errstate(over="ignore"):
        values = {"nan": np.nan, "infinite": rng.choice([-np.inf, np.inf], len(flat)), "overflowing": np.full(len(flat), 1e300)}[kind]
        flat[np.arange(len(flat)), places] = np.asarray(values).astype(flat.dtype)
    return rows


def asked(session: Any, rows: NDArray[Any]) -> list[NDArray[Any]]:
    given = session.get_inputs()[0]
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}[given.type]
    with np.errstate(over="ignore"):
        return list(session.run(None, {given.name: rows.astype(dtype)}))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in GRAPHS])
def test_graphs_answer_as_detectors_do_on_what_users_feed_them(name: str, kind: str, exported: Any) -> None:
    detector, session, rows, tolerance = exported(name)
    rows = spoilt(rows, kind)
    scores, p_values, flagged = asked(session, rows)
    smallest = 1 / (len(detector.decision_) + 1)
    if kind in ("nan", "infinite", "overflowing"):
        assert flagged.all() and p_values == pytest.approx(smallest) and (scores == np.inf).all()
        return
    expected = detector.anomaly_score(rows)
    size = np.maximum(np.abs(expected), detector.decision_.calibration.scores.std())
    assert (np.abs(scores - expected) <= tolerance * size).all()
    clear = np.abs(expected - detector.threshold_) > tolerance * size
    assert clear.any()
    np.testing.assert_array_equal(flagged[clear], detector.predict(rows)[clear] == -1)
    if name != "int8":  # which costs something, measured and stored at the export
        np.testing.assert_allclose(p_values, detector.p_value(rows), atol=1.5 * smallest)
