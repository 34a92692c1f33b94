"""One small fitted detector of every kind, for grey images, colour images and vectors, and its graph; made when first asked for."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import blobs, fit_quietly, pictures
from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import DETECTORS, detector_class, make
from insphere.export import ExportReport, export_onnx

NEURAL = ("vae-svdd", "vae", "cae", "cae-svdd", "dasvdd", "deep-svdd", "oc-nn", "transform-svdd")
KINDS = ("grey", "rgb", "vectors")
NAMES_AND_KINDS = [(name, kind) for name in DETECTORS for kind in KINDS if kind != "vectors" or detector_class(name).takes_vectors]


def rows_of_kind(kind: str, n_rows: int = 80, seed: int = 0) -> NDArray[Any]:
    if kind == "vectors":
        return blobs(n_rows, seed=seed).astype(np.float32)
    return pictures(n_rows, (9, 7, 1) if kind == "grey" else (9, 7, 3), seed=seed)


@functools.cache
def fitted(name: str, kind: str, **parameters: Any) -> AbstractDetector:
    brief: dict[str, Any] = {"epochs": 2, "device": "cpu"}
    own = brief if name in NEURAL else {"encoder": {"name": "cae", **brief}} if name == "hybrid" else {}
    if name == "fusion" and kind != "vectors":
        own = {"detectors": [{"name": "vae-svdd", **brief}, "knn"]}
    n_rows = 80 if detector_class(name).takes_vectors else 40  # pictures go through a network for each of the folds
    return fit_quietly(make(name, own | {"random_state": 0} | parameters), rows_of_kind(kind, n_rows))


def exported(path: Path, name: str, kind: str, *, rows: int | None = None) -> ExportReport:
    """Write the graph of a fitted detector and its certificate, compared on so many more rows of its kind; an export takes seconds."""
    original, report = _export(name, kind, rows)
    for file in original.iterdir():
        shutil.copy(file, path.with_name(file.name.replace("m.onnx", path.name)))
    return report


@functools.cache
def _export(name: str, kind: str, rows: int | None) -> tuple[Path, ExportReport]:
    folder = Path(tempfile.mkdtemp(prefix="graphs-"))
    atexit.register(shutil.rmtree, folder)
    return folder, export_onnx(fitted(name, kind), folder / "m.onnx", rows=None if rows is None else rows_of_kind(kind, rows))
