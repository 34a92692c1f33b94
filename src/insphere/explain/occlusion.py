"""Attributions by replacement: what the score loses when a part of the row is made normal. For every detector, gradients or not."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector

Array = NDArray[np.float64]

MOST_ALONE = 1024
"""Features up to which each is replaced alone."""

_VARIANTS = 1024
_VALUES_AT_ONCE = 2**24
_VALUES_A_ROW, _FEWEST = 2**20, 32  # of the variants of one row at a time: a million, but as many variants as these at least


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
    """Return what the score loses when features are replaced; (n, features), positive ones speak for an anomaly.

    Up to `MOST_ALONE` features, one after the other. Of more, so that the work does not grow with the square of their number, groups of
    neighbouring ones, each of which shares its loss among its features; then smaller groups within the eighth of them that loses or gains
    most, and so on down to single features.
    """
    losses = np.empty(rows.shape, dtype=np.float64)
    for row, replacement, own in zip(rows, replacements, losses, strict=True):
        if len(row) <= MOST_ALONE:
            own[:] = _losses(detector, row, replacement, np.arange(len(row)).reshape(-1, 1))
            continue
        n_groups = max(_FEWEST, min(MOST_ALONE, _VALUES_A_ROW // len(row)))
        features, size = np.arange(len(row)), len(row)
        while size > 1:
            groups = np.array_split(features, min(n_groups, len(features)))
            together = _losses(detector, row, replacement, groups)
            for group, loss in zip(groups, together, strict=True):
                own[group] = loss / len(group)
            size = len(groups[0])
            features = np.concatenate([groups[number] for number in np.argsort(-np.abs(together), kind="stable")[: n_groups // 8]])
    return losses


def _losses(detector: AbstractDetector, row: NDArray[Any], replacement: NDArray[Any], parts: Sequence[NDArray[np.int64]] | Any) -> Array:
    """Return what the score of a row loses when each of some parts of its features is replaced."""
    scores = []
    n_at_once = max(1, _VALUES_AT_ONCE // len(row))
    for start in range(0, len(parts) + 1, n_at_once):
        chosen = parts[start : start + n_at_once]
        n_rows = min(n_at_once, len(parts) + 1 - start)  # the last of all is the row as it is
        variants = np.repeat(row[np.newaxis], n_rows, axis=0)
        for variant, part in zip(variants, chosen, strict=False):
            variant[part] = replacement[part]
        scores.append(_scores(detector, variants))
    found = np.concatenate(scores)
    return np.asarray(found[-1] - found[:-1])


def _scores(detector: AbstractDetector, variants: NDArray[Any]) -> Array:
    batches = detector.score_batches(ArraySource(variants), batch_size=_VARIANTS, hashed=False)
    return np.concatenate([batch.anomaly_score for batch in batches])


def _windows(height: int, width: int, patch: int) -> Iterator[tuple[slice, slice]]:
    """Yield patches in steps of half a side, those at the edges cut off, so that every pixel lies in as many."""
    step = max(1, patch // 2)
    for top in range(step - patch, height, step):
        for left in range(step - patch, width, step):
            yield slice(max(0, top), top + patch), slice(max(0, left), left + patch)
