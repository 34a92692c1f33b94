"""Attributions by gradients of the score: through the scaled row, the encoder and the metric of the sphere."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.detectors.neural import AbstractNeuralDetector
from insphere.explain.score_graph import channels_last, network_input, score_function

Array = NDArray[np.float64]

_ROWS = 32


def integrated_gradients(detector: AbstractNeuralDetector, rows: NDArray[np.generic], baselines: Array, n_steps: int) -> Array:
    """Return what each value adds to the score on the straight way from a baseline to the row.

    Parameters
    ----------
    detector : AbstractNeuralDetector
    rows : ndarray, shape (n, height, width, channels) or (n, features)
        Raw rows.
    baselines : ndarray of float64, shaped as `rows`
        In scaled units.
    n_steps : int
        Gradients on the way, each in the middle of its step. The more, the nearer the sum of a row's attributions is to the difference
        of the two scores.

    Returns
    -------
    ndarray of float64, shaped as `rows`

    Source: Sundararajan 2017, eq. 3. Deviation: the midpoint rule instead of the right one, as it converges faster.
    """
    steps = (np.arange(n_steps) + 0.5) / n_steps
    return _along(detector, rows, baselines, steps.tolist())


def gradient_times_difference(detector: AbstractNeuralDetector, rows: NDArray[np.generic], baselines: Array) -> Array:
    """Return the gradient of the score at the row, times the row's difference from a baseline; shaped as `rows`.

    The first-order share of integrated gradients, at a fraction of their cost.
    """
    return _along(detector, rows, baselines, [1.0])


def _along(detector: AbstractNeuralDetector, rows: NDArray[np.generic], baselines: Array, places: list[float]) -> Array:
    """Return the difference between row and baseline times the mean gradient at `places` on the way (0 baseline, 1 row)."""
    score, preprocess = score_function(detector), detector.preprocess_
    parts = []
    for start in range(0, len(rows), _ROWS):
        x = network_input(detector, rows[start : start + _ROWS])
        baseline = _channels_first(baselines[start : start + _ROWS]).to(x)
        total = torch.zeros_like(x)
        for place in places:
            point = (baseline + place * (x - baseline)).detach().requires_grad_(True)
            total += torch.autograd.grad(score(point).sum(), point)[0]
        way, slope = (channels_last(part.detach().cpu().numpy()) for part in (x - baseline, total / len(places)))
        if preprocess.whitening is not None:  # each value before whitening answers for what it moves in all of those after it
            way = preprocess.unwhitened(way) - preprocess.unwhitened(np.zeros_like(way))
            slope = (slope.reshape(len(slope), -1) @ preprocess.whitening.astype(np.float64)).reshape(slope.shape)  # which is symmetric
        parts.append(way * slope)
    return np.concatenate(parts)


def score_of(detector: AbstractNeuralDetector, values: Array) -> Array:
    """Return the score of rows in scaled units, float64, shape (n,): of baselines, which no raw row needs to be equal to."""
    score = score_function(detector)
    device = next(detector.objective_.parameters()).device
    with torch.no_grad():
        parts = [score(_channels_first(values[start : start + _ROWS]).to(device)) for start in range(0, len(values), _ROWS)]
    return np.asarray(torch.cat(parts).cpu().numpy(), dtype=np.float64)


def _channels_first(values: Array) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(values)).float()
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x
