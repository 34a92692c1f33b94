"""Golden rows: what a graph is compared with its detector on, and what its file holds for whoever receives it."""

import base64
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from insphere.data import AbstractSource, ImageSpec
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import as_rows
from insphere.detectors.scoring import Rows
from insphere.detectors.telling import tell, warn_unreadable
from insphere.errors import DataError
from insphere.explain.scaling import preprocess_of
from insphere.export.comparing import TOLERANCE
from insphere.export.graph import ScoringGraph, category_codes, library_answers, spread

MOST_ROWS = 256
"""Rows of a source that are compared at most, evenly spaced."""

_STORED_ROWS, _STORED_BYTES = 8, 400_000
_STARTS, _STEPS = 4, 48
_LARGE, _STEPS_OF_LARGE = 2**15, 8  # values of a row from which each step takes long

_SECONDS = 1.7e9  # since 1970, as of 2023: where single precision has steps of 128
_LARGEST = 1e30


def golden_rows(detector: AbstractDetector, graph: ScoringGraph) -> NDArray[Any]:
    """Return made-up rows: odd ones, far ones, and ones on the way from there to what scores as normal.

    A model file holds no training rows, so rows that look normal to the model are found by walking down the slope of its score. Vectors
    are float64, as users have them: a graph in single precision is compared on rows that it has to round.
    """
    rng = np.random.default_rng(0)
    spec = detector.image_spec_
    odd = _odd_vectors(detector, rng) if spec is None else _odd_images(spec, *_value_range(detector), rng)
    return np.concatenate([odd, _descent(detector, graph, odd[:_STARTS])])


def rows_of(detector: AbstractDetector, rows: Rows) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return at most `MOST_ROWS` readable rows of a source, evenly spaced, unrounded, and their labels if known.

    Raises
    ------
    DataError
        If the rows do not fit the detector, or none can be read.
    """
    source: AbstractSource = detector.open(rows)
    if len(source) > MOST_ROWS:
        source = source.take(np.linspace(0, len(source) - 1, MOST_ROWS).round().astype(np.int64))
    loaded = source.load()
    if not len(loaded.X):
        raise DataError(f"None of the rows of {source.name} can be read; give rows to compare the graph on that the detector can score.")
    tell(source)
    warn_unreadable(loaded.errors, len(source), "were not compared")
    X, n_raw = as_rows(loaded.X), detector.input_.shape[0]
    if detector.input_.imputer is not None:  # what comes back from the source is filled; the graph fills for itself
        X = np.where(_was_missing(detector, X), np.nan, X[:, :n_raw])
    return X, None if source.labels is None else source.labels[loaded.index]


def pack(detector: AbstractDetector, X: NDArray[Any], dtype: str, *, exact: bool) -> dict[str, Any]:
    """Return a few of the rows, from the lowest score to the highest, with the library's answers, as JSON for the graph's metadata.

    They are rounded to the graph's `dtype` before they are scored, so that the answers are those to the very rows that are stored.

    The rows are as `packed` writes them. The tolerance is null for a graph that is not to be `exact`.
    """
    n_most = max(1, min(_STORED_ROWS, _STORED_BYTES // max(1, X[0].nbytes)))
    X = X.astype(dtype)
    batch = library_answers(detector, X)
    codes = category_codes(detector.decision_.n_categories, np.arange(len(X)))
    order = np.argsort(batch.anomaly_score, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(X) - 1, min(n_most, len(X))).round().astype(np.int64))]
    return {
        **packed(X[chosen]),
        **({} if codes is None else {"category": codes[chosen].tolist()}),
        "anomaly_score": batch.anomaly_score[chosen].tolist(),
        "p_value": batch.p_value[chosen].tolist(),
        "is_anomaly": batch.is_anomaly[chosen].tolist(),
        "tolerance": TOLERANCE if exact else None,
        "spread": spread(detector),
    }


def packed(X: NDArray[Any]) -> dict[str, Any]:
    """Return rows as JSON: ``rows`` is base64 of zlib of the values in C order; `dtype` and `shape` tell how to read them."""
    values = np.ascontiguousarray(X)
    data = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")
    return {"dtype": str(values.dtype), "shape": list(values.shape), "rows": data}


def unpacked(record: Mapping[str, Any]) -> NDArray[Any]:
    """Return the rows that `packed` wrote.

    Raises
    ------
    KeyError, TypeError, ValueError, zlib.error
        If the record is damaged.
    """
    content = zlib.decompress(base64.b64decode(record["rows"]))
    return np.frombuffer(content, record["dtype"]).reshape(record["shape"])


def _was_missing(detector: AbstractDetector, X: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which features of filled rows had been missing."""
    imputer, n_raw = detector.input_.imputer, detector.input_.shape[0]
    missing = np.zeros((len(X), n_raw), dtype=np.bool_)
    if imputer is not None:
        missing[:, list(imputer.columns)] = X[:, n_raw:] > 0
    return missing


def _odd_images(spec: ImageSpec, low: Any, high: Any, rng: np.random.Generator) -> NDArray[Any]:
    """Return coarse and fine noise, ramps, flat images and specks."""
    height, width, channels = spec.shape
    vertical, horizontal = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[:, None]
    coarse = rng.random((4, -(-height // 4), -(-width // 4), channels)).repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    spot = np.zeros(spec.shape)
    spot[height // 2, width // 2] = 1
    patterns = [np.broadcast_to(pattern, spec.shape) for pattern in (vertical, horizontal, vertical * horizontal, spot, *np.eye(2)[0])]
    noise = [rng.random(spec.shape), 0.5 + 0.02 * rng.standard_normal(spec.shape), (rng.random(spec.shape) < 0.05).astype(float)]
    images: NDArray[Any] = low + (high - low) * np.clip(np.stack([*coarse, *patterns, *noise]), 0, 1)
    return (images.round() if spec.dtype == "uint8" else images).astype(spec.dtype)


def _odd_vectors(detector: AbstractDetector, rng: np.random.Generator) -> NDArray[Any]:
    """Return rows around what the scaling takes as the middle, at many distances from it."""
    offset, scale = _middle(detector)
    n_features = detector.input_shape_[0]
    distances = np.array([1.0, 0.3, 3.0, 1.0, 0.0, 10.0, 100.0, 1e6, 1e12, 1.0, 0.1, 2.0])
    rows: NDArray[Any] = offset + scale * rng.standard_normal((len(distances), n_features)) * distances[:, None]
    rows = np.concatenate([rows, rows[:3] + _SECONDS, np.full((1, n_features), _LARGEST), np.full((1, n_features), -_LARGEST)])
    return rows.clip(-_LARGEST, _LARGEST)[:, : detector.input_.shape[0]]


def _descent(detector: AbstractDetector, graph: ScoringGraph, start: NDArray[Any]) -> NDArray[Any]:
    """Return rows met while walking from `start` down the slope of the score; none where the score has no slope (trees)."""
    low, high = _value_range(detector)
    step = (high - low) / 40
    x = torch.tensor(np.asarray(start, dtype=np.float64), requires_grad=True)
    met = []
    walker = torch.optim.Adam([x], lr=1.0)
    n_steps = _STEPS if start[0].size < _LARGE else _STEPS_OF_LARGE
    for number in range(n_steps):
        rows = x if graph.imputed is None else graph.imputed(x)
        scores = graph.score_rows(rows.float() if graph.rounding > 1e-9 else rows)
        if not scores.requires_grad:
            break
        (x.grad,) = torch.autograd.grad(scores.sum(), x)
        x.grad.nan_to_num_(0.0, 0.0, 0.0)
        # The optimiser's step is one unit per value; a unit is a fortieth of the values' range, by column for vectors.
        before = x.detach().clone()
        walker.step()
        with torch.no_grad():
            x.copy_(before + (x - before) * torch.as_tensor(step if x.ndim == 4 else step[: x.shape[1]]))
            if detector.image_spec_ is not None:
                x.clamp_(float(np.min(low)), float(np.max(high)))
        if math.log2(number + 1).is_integer() or number == n_steps - 1:
            met.append(x.detach().numpy().copy())
    if not met:
        return start[:0]
    rows = np.concatenate(met)
    spec = detector.image_spec_
    return rows if spec is None else (rows.round() if spec.dtype == "uint8" else rows).astype(spec.dtype)


def _value_range(detector: AbstractDetector) -> tuple[Any, Any]:
    """Return lowest and highest value of an input: of pixels, or, where that is not known, two units of the scaling about its middle."""
    spec = detector.image_spec_
    if spec is not None and (spec.dtype == "uint8" or detector.from_files_):
        return 0.0, 255.0
    offset, scale = _middle(detector)
    return offset - 2 * scale, offset + 2 * scale


def _middle(detector: AbstractDetector) -> tuple[Any, Any]:
    """Return what the scaling takes as the middle and as the unit of an input; 0 and 1 where nothing is scaled."""
    preprocess = preprocess_of(detector)
    return (0.0, 1.0) if preprocess is None else (preprocess.offset, preprocess.scale)
