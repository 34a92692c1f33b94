"""Gaussian kernel densities: bandwidth without labels, and a density of many rows from few."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import KFold

from insphere.scores.kernels import Kernel, chunks, squared_distances
from insphere.scores.simplex_qp import minimise_on_simplex

Array = NDArray[np.float64]

BANDWIDTHS = tuple(2.0 ** (half / 2) for half in range(1, 11))
"""The paper's grid: 2^0.5, 2^1, …, 2^5 (Ruff 2018, sec. 4.1)."""

_N_FOLDS = 5
_FINEST = 2.0**-10  # of the features' spread: below it only repeated rows are told apart, whose likelihood has no maximum


@dataclasses.dataclass(frozen=True)
class GaussianDensity:
    """A mixture of Gaussians of one width: p(x) = Σ_j weight_j · N(x; point_j, bandwidth²·I).

    Parameters
    ----------
    points : ndarray, shape (m, d)
    weights : ndarray, shape (m,)
        Above 0, of sum 1.
    bandwidth : float
        Standard deviation of each Gaussian, in units of the features.

    Examples
    --------
    >>> GaussianDensity(np.zeros((1, 1)), np.ones(1), 1.0).log_density(np.zeros((1, 1))).round(4)
    array([-0.9189])
    """

    points: Array
    weights: Array
    bandwidth: float

    def log_density(self, X: Array, own: NDArray[np.int64] | None = None) -> Array:
        """Return log p of each row, in nats, shape (n,).

        Parameters
        ----------
        X : ndarray, shape (n, d)
        own : ndarray of int, shape (n,), optional
            The point that each row itself is; it is left out of the row's density, as a row says nothing about its own surroundings.
        """
        logs = np.empty(len(X))
        log_weights = np.log(self.weights)
        for part in chunks(len(X), len(self.points)):
            exponents = log_weights - squared_distances(X[part], self.points) / (2 * self.bandwidth**2)
            if own is not None:
                exponents[np.arange(len(exponents)), own[part]] = -np.inf
            logs[part] = _log_sum(exponents)
        if own is not None:
            logs -= np.log1p(-self.weights[own])
        return np.asarray(logs - X.shape[1] / 2 * math.log(2 * math.pi * self.bandwidth**2))


def cross_validated_bandwidth(X: Array, rng: np.random.Generator) -> float:
    """Return the bandwidth under which each fifth of the rows is likeliest given the other four.

    The candidates are `BANDWIDTHS`; while the best of them is the smallest or largest, the grid goes on in half octaves, because its
    values only fit features of the size of the paper's.

    Source: Ruff 2018, sec. 4.1 (five-fold likelihood, grid). Deviation: the grid goes on.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 1))
    >>> 0.1 < cross_validated_bandwidth(X, np.random.default_rng(0)) < 1
    True
    """
    order = rng.permutation(len(X))
    folds = KFold(min(_N_FOLDS, len(X)))
    # No exactness is needed to compare bandwidths: the fast distances will do.
    distances = [euclidean_distances(X[order[held_out]], X[order[kept]], squared=True) for kept, held_out in folds.split(order)]
    found: dict[float, float] = {}

    def likelihood(bandwidth: float) -> float:
        if bandwidth not in found:
            constant = X.shape[1] / 2 * math.log(2 * math.pi * bandwidth**2)
            per_fold = [_log_sum(-part / (2 * bandwidth**2)) - math.log(part.shape[1]) - constant for part in distances]
            found[bandwidth] = float(np.concatenate(per_fold).sum())
        return found[bandwidth]

    best: float = max(BANDWIDTHS, key=likelihood)
    spread = float(X.std())
    for edge, step in ((min(BANDWIDTHS), 2**-0.5), (max(BANDWIDTHS), 2**0.5)):
        while best == edge and edge > _FINEST * spread > 0:
            edge = edge * step
            best = max(best, edge, key=likelihood)
    return best


def reduced_density(X: Array, landmarks: Array, bandwidth: float) -> GaussianDensity:
    """Return the density on `landmarks` that is closest to the kernel density of all rows `X`.

    Closest in the kernel's feature space, where a density is the mean of its rows: that mean is projected on the landmarks (Nyström),
    with weights that are not negative and sum to one, so that the result stays a density down into the tails.

    Source: Chatalic 2022 (Nyström kernel mean embeddings); Girolami 2003 (the weights' constraints). Deviation: the two combined.

    Examples
    --------
    >>> X = np.repeat([[0.0], [10.0]], [30, 10], axis=0)
    >>> reduced_density(X, np.array([[0.0], [10.0]]), 1.0).weights.round(4)
    array([0.75, 0.25])
    """
    kernel = Kernel("rbf", gamma=1 / (2 * bandwidth**2))
    mean_kernel = np.zeros(len(landmarks))
    for part in chunks(len(X), len(landmarks)):
        mean_kernel += kernel(X[part], landmarks).sum(axis=0)
    weights = minimise_on_simplex(kernel(landmarks, landmarks), 2 * mean_kernel / len(X), 1.0)
    used = weights > 1e-3 / len(landmarks)  # the solver leaves dust where the exact weight is zero
    return GaussianDensity(np.ascontiguousarray(landmarks[used]), weights[used] / weights[used].sum(), bandwidth)


def _log_sum(exponents: Array) -> Array:
    """Return log Σ_j exp(exponent_j) of each row; −inf where all are."""
    largest = exponents.max(axis=1, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(exponents - shift).sum(axis=1)) + shift[:, 0])
