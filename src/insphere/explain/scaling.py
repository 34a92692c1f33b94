"""Between the units of raw rows and the scaled units in which a detector compares."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.preprocess import Preprocess
from insphere.detectors.base import AbstractDetector

Array = NDArray[np.float64]


def preprocess_of(detector: AbstractDetector) -> Preprocess | None:
    """Return the fitted scaling of a detector or, of a hybrid, of its encoder, of a fusion that of its first part that has one; or None."""
    for part in (detector, getattr(detector, "encoder_", None), *getattr(detector, "detectors_", ())):
        preprocess = getattr(part, "preprocess_", None)
        if isinstance(preprocess, Preprocess):
            return preprocess
    return None


def scaled(detector: AbstractDetector, rows: NDArray[Any]) -> Array:
    """Return raw rows in scaled units, float64."""
    preprocess = preprocess_of(detector)
    values = rows.astype(np.float64)
    return values if preprocess is None else np.asarray(preprocess.apply(values), dtype=np.float64)


def unscaled(detector: AbstractDetector, values: Array, rows: NDArray[Any]) -> Array:
    """Return scaled values in raw units, float64; brightness and contrast that scaling took from a row are those of its row in `rows`.

    Parameters
    ----------
    detector : AbstractDetector
    values : ndarray of float64, shaped as `rows`
        In scaled units, such as a reconstruction.
    rows : ndarray
        The raw rows that the values stand beside.
    """
    preprocess = preprocess_of(detector)
    if preprocess is None:
        return values
    raw = preprocess.unapplied(values)
    if preprocess.scaling not in ("gcn", "gcn-unit"):
        return raw
    axes = tuple(range(1, rows.ndim))
    mean = rows.mean(axis=axes, keepdims=True, dtype=np.float64)
    deviation = np.abs(rows - mean).mean(axis=axes, keepdims=True)
    return np.asarray(raw * deviation + mean, dtype=np.float64)


def as_rows_like(values: Array, rows: NDArray[Any]) -> NDArray[Any]:
    """Return raw values in the type of `rows`, whole numbers rounded and kept in their range, so that the detector takes them."""
    if not np.issubdtype(rows.dtype, np.integer):
        return values.astype(rows.dtype)
    limits = np.iinfo(rows.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(rows.dtype)
