"""Attributions by replacement: what the score loses when a part of the row is made normal. For every detector, gradients or not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector

Array = NDArray[np.float64]

_VARIANTS = 1024


def occlude_patches(detector: AbstractDetector, rows: NDArray[Any], replacements: NDArray[Any], patch: int) -> Array:
    """Return what the score loses, per pixel, when square patches are replaced, averaged over the patches that cover each pixel.

    Parameters
    ----------
    detector : AbstractDetector
        Asked for nothing but scores.
    rows, replacements : ndarray, shape (n, height, width, channels)
        Raw; of the same type.
    patch : int
        Side of the patches, in pixels; they overlap by half.

    Returns
    -------
    ndarray of float64, shape (n, height, width)
        Positive where the pixel speaks for an anomaly.

    Source: Zeiler 2014, sec. 3.2 (occlusion). Deviation: patches become the replacement instead of grey.
    """
    n_rows, height, width = rows.shape[:3]
    windows = list(_windows(height, width, patch))
    covered = np.zeros((height, width))
    for window in windows:
        covered[window] += 1
    losses = np.zeros((n_rows, height, width))
    for row in range(n_rows):
        variants = np.repeat(rows[row : row + 1], len(windows) + 1, axis=0)
        for number, window in enumerate(windows):
            variants[number][window] = replacements[row][window]
        scores = _scores(detector, variants)
        for number, window in enumerate(windows):
            losses[row][window] += (scores[-1] - scores[number]) / losses[row][window].size
    return losses / covered


def occlude_features(detector: AbstractDetector, rows: NDArray[Any], replacements: NDArray[Any]) -> Array:
    """Return what the score loses when one feature after the other is replaced; (n, features), positive ones speak for an anomaly."""
    losses = np.empty(rows.shape, dtype=np.float64)
    for row in range(len(rows)):
        variants = np.repeat(rows[row : row + 1], rows.shape[1] + 1, axis=0)
        np.fill_diagonal(variants, replacements[row])
        scores = _scores(detector, variants)
        losses[row] = scores[-1] - scores[:-1]
    return losses


def _scores(detector: AbstractDetector, variants: NDArray[Any]) -> Array:
    batches = detector.score_batches(ArraySource(variants), batch_size=_VARIANTS)
    return np.concatenate([batch.anomaly_score for batch in batches])


def _windows(height: int, width: int, patch: int) -> Iterator[tuple[slice, slice]]:
    """Yield patches in steps of half a side, those at the edges cut off, so that every pixel lies in as many."""
    step = max(1, patch // 2)
    for top in range(step - patch, height, step):
        for left in range(step - patch, width, step):
            yield slice(max(0, top), top + patch), slice(max(0, left), left + patch)
