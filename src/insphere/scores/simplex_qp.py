"""The quadratic programme of SVDD and of reduced densities: over weights that sum to one, each between zero and a bound."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg.lapack import dpstrf

from insphere.errors import TrainingError

Array = NDArray[np.float64]

TOLERANCE = 1e-10
"""Tolerance of the solver on gap and feasibility, after scaling the matrix to a largest diagonal of one."""


def minimise_on_simplex(gram: Array, linear: Array, upper: float) -> Array:
    """Return the weights a that minimise aᵀGa − linearᵀa subject to Σa = 1 and 0 ≤ a ≤ upper.

    Parameters
    ----------
    gram : ndarray, shape (n, n)
        G, positive semidefinite: inner products of n rows.
    linear : ndarray, shape (n,)
    upper : float
        At least 1/n, else no weights sum to one.

    Raises
    ------
    TrainingError
        If the solver does not converge.

    Notes
    -----
    The matrix is replaced by its pivoted Cholesky factor G = F·Fᵀ and the variables y = Fᵀa: with a kernel of low rank (linear, or
    polynomial in few features) the interior-point step costs n·rank² instead of n³, and rounding cannot make G indefinite.

    Examples
    --------
    >>> minimise_on_simplex(np.diag([1.0, 3.0]), np.zeros(2), 1.0).round(6)
    array([0.75, 0.25])
    """
    import clarabel  # here, so that only those who solve wait for it

    largest = float(np.diag(gram).max())
    scale = largest if largest > 0 else 1.0
    factor = _pivoted_cholesky(gram / scale)
    n_rows, rank = factor.shape
    # Weights are of size 1/n: solve for n times them, so that the solver's tolerances mean the same for any number of rows.
    quadratic = sparse.block_diag([sparse.csc_matrix((n_rows, n_rows)), 2 * sparse.identity(rank)], format="csc")
    objective = np.concatenate([-linear * (n_rows / scale), np.zeros(rank)])
    identity = sparse.identity(n_rows)
    constraints = sparse.bmat(
        [[np.ones((1, n_rows)), None], [factor.T, -sparse.identity(rank)], [-identity, None], [identity, None]], format="csc"
    )
    bounds = np.concatenate([[n_rows], np.zeros(rank + n_rows), np.full(n_rows, upper * n_rows)])
    cones = [clarabel.ZeroConeT(1 + rank), clarabel.NonnegativeConeT(2 * n_rows)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1  # sums in one order, so that fitting twice gives the same weights
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
    solution = clarabel.DefaultSolver(sparse.triu(quadratic, format="csc"), objective, constraints, bounds, cones, settings).solve()
    if str(solution.status) not in ("Solved", "AlmostSolved"):
        raise TrainingError(
            f"The quadratic programme of {n_rows} rows did not converge (clarabel: {solution.status})."
            " Scale the features, lower the kernel's degree, or raise nu."
        )
    weights = np.clip(np.array(solution.x[:n_rows]) / n_rows, 0.0, upper)
    return np.asarray(weights / weights.sum())


def _pivoted_cholesky(gram: Array) -> Array:
    """Return F with F·Fᵀ = G up to rounding, shape (n, rank)."""
    lower, pivots, rank, _ = dpstrf(gram, tol=1e-13 * len(gram), lower=1)
    factor = np.empty((len(gram), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor
