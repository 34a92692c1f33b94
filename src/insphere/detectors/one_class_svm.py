"""The one-class support vector machine with an RBF kernel: exact by libsvm, approximate for many rows, its parameters without labels."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import KFold
from sklearn.svm import OneClassSVM

from insphere.decision.health import Finding
from insphere.detectors.shallow import some_of
from insphere.metrics import auroc
from insphere.scores.kernels import Kernel, KernelExpansion, scale_gamma, squared_distances

Array = NDArray[np.float64]

GAMMAS = tuple(2.0**power for power in range(-10, 0))
"""The paper's grid of kernel scales (Ruff 2018, sec. 4.1)."""

NUS = (0.1, 0.01)
"""The paper's candidates for the share of training rows outside."""

_N_FOLDS = 4
_SELECTION_ROWS = 1000  # time grows with their square
_FURTHEST = 2.0**12  # times the scale rule: with gamma beyond that no two rows, or all, are alike


def fit_exact(X: Array, gamma: float, nu: float, tolerance: float = 1e-3) -> tuple[Array, float]:
    """Return the weight of each row and rho: a row scores Σ_i weight_i · k(x_i, x) − rho, negative outside.

    The weights lie in [0, 1 / (nu·n)] and sum to 1 (Schölkopf 2001, eq. 10). Those of libsvm are nu·n times as large, and so are its
    scores: they grow with the number of rows, and models of different numbers could not be compared.

    Examples
    --------
    >>> weights, rho = fit_exact(np.array([[0.0], [1.0], [2.0]]), gamma=1.0, nu=0.5)
    >>> float(weights.sum().round(6))
    1.0
    """
    if nu == 1:
        # All weights are at their bound and nothing fixes rho but that no row lies inside; libsvm would return infinity.
        weights = np.full(len(X), 1 / len(X))
        return weights, float(KernelExpansion(Kernel("rbf", gamma), X, weights)(X).max())
    machine = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu, tol=tolerance)
    machine.random_state = 0  # no parameter of this class, but fit draws a seed that libsvm ignores here from the global state
    machine.fit(X)
    weights = np.zeros(len(X))
    total = nu * len(X)
    weights[machine.support_] = machine.dual_coef_[0] / total
    return weights, float(machine.offset_[0]) / total


def fit_nystroem(X: Array, gamma: float, nu: float, n_landmarks: int, seed: int) -> tuple[KernelExpansion, float]:
    """Return the expansion and rho of a machine in the span of some landmarks; memory and time grow with n · n_landmarks, not n².

    The features are scikit-learn's `Nystroem`. Rejected: its `SGDOneClassSVM` on them, which reads the global random state, and whose
    rule for stopping ends long before rho has settled.

    Examples
    --------
    >>> expansion, rho = fit_nystroem(np.random.default_rng(0).normal(size=(300, 2)), 0.5, 0.1, 50, seed=0)
    >>> len(expansion.points)
    50
    """
    features = Nystroem(kernel="rbf", gamma=gamma, n_components=min(n_landmarks, len(X)), random_state=seed).fit(X)
    normal, rho = _fit_linear(features.transform(X), nu)
    points = np.ascontiguousarray(features.components_)
    return KernelExpansion(Kernel("rbf", gamma=gamma), points, np.asarray(features.normalization_.T @ normal)), rho


def _fit_linear(X: Array, nu: float) -> tuple[Array, float]:
    """Return w and rho that minimise ½‖w‖² − rho + mean(max(0, rho − ⟨w, x⟩)) / nu, the primal of the one-class machine.

    The hinge is rounded over a width that shrinks in steps, each started from the solution of the one before.
    """
    normal = X.mean(axis=0)
    scores = X @ normal
    solution = np.append(normal, np.quantile(scores, nu))
    # Rows that are all alike have no spread; any width then serves.
    spread = float(scores.std()) or 1.0
    for width in (0.1 * spread, 0.01 * spread, 0.001 * spread):

        def loss(parameters: Array, width: float = width) -> tuple[float, Array]:
            normal, rho = parameters[:-1], parameters[-1]
            missing = rho - X @ normal
            slope = np.clip(missing / width, 0, 1)
            hinge = np.where(missing >= width, missing - width / 2, width * slope**2 / 2)
            value = normal @ normal / 2 - rho + hinge.mean() / nu
            return float(value), np.append(normal - X.T @ slope / (nu * len(X)), slope.mean() / nu - 1)

        solution = minimize(loss, solution, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-7}).x
    return solution[:-1], float(solution[-1])


def select_parameters(X: Array, rng: np.random.Generator, nus: Sequence[float] = NUS) -> tuple[float, float, float]:
    """Return the gamma and nu that best tell held-out normal rows from rows recombined of them, and how well (AUROC).

    Each quarter of the rows is held out in turn; an artificial outlier takes about half of its features from one held-out row and the
    rest from another. It is as plausible as they are feature by feature, and false only in how features go together, which is what a
    kernel of the right scale sees: with gamma too small every row looks alike, with gamma too large every new row looks foreign. While
    the best gamma is the smallest or largest of the paper's grid, the grid goes on by factors of two. Where even the best pair cannot
    tell rows apart beyond chance (independent features, a single feature), the scale rule 1 / (d · variance) decides.

    Rejected: outliers drawn uniformly from the bounding box, which in many dimensions any gamma rejects, and the largest gamma that
    still accepts held-out rows; both lost much more against the best of the grid. Labels are never used; the published choice, on a
    tenth of the test labels (Ruff 2018), is a leak.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(-1, 1, size=(200, 1))
    >>> gamma, nu, auc = select_parameters(np.hstack([x, x**2]) * 3, np.random.default_rng(0))
    >>> gamma > 0.1, auc > 0.6
    (True, True)
    """
    default = scale_gamma(X), max(nus), 0.5
    if X.shape[1] < 2 or len(X) < 2 * _N_FOLDS:
        return default
    shuffled = X[rng.permutation(len(X))]
    folds = [_fold(shuffled, rng, kept, held_out) for kept, held_out in KFold(_N_FOLDS).split(shuffled)]
    scale = default[0]
    low, high = min(GAMMAS), max(GAMMAS)
    # Features of another size than the paper's: the grid moves with the scale rule.
    shift = 1.0 if low <= scale <= high else 2.0 ** round(math.log2(scale / math.sqrt(low * high)))
    best = max((_best_nu(folds, gamma * shift, nus) for gamma in GAMMAS), key=_separation)
    for edge, factor in ((high * shift, 2.0), (low * shift, 0.5)):
        while best[0] == edge and 1 / _FURTHEST < edge / scale < _FURTHEST:
            edge = edge * factor
            best = max(best, _best_nu(folds, edge, nus), key=_separation)
    # Three standard deviations of an AUROC without information.
    by_chance = 0.5 + 3 * math.sqrt((2 * len(X) + 1) / (12 * len(X) ** 2))
    return best if best[2] > by_chance else default


def choose_parameters(X: Array, rng: np.random.Generator, nus: Sequence[float]) -> tuple[float, float, Finding]:
    """Return what `select_parameters` finds on at most 1000 of the rows, and how well it does in words."""
    gamma, nu, separation = select_parameters(X[some_of(len(X), _SELECTION_ROWS, rng)], rng, nus)
    text = f"gamma {gamma:.4g} and nu {nu:g} tell held-out normal rows from recombined ones with AUROC {separation:.2f}."
    return gamma, nu, Finding("kernel parameters", "ok", separation, text)


def recombine(rows: Array, rng: np.random.Generator) -> Array:
    """Return rows of which each takes a random half of its features from one row and the rest from another.

    Examples
    --------
    >>> recombine(np.array([[0.0, 0.0], [1.0, 1.0]]), np.random.default_rng(0)).sum(axis=1)
    array([1., 1.])
    """
    n_rows, n_features = rows.shape
    partner = np.roll(np.arange(n_rows), 1 + int(rng.integers(n_rows - 1)))  # never the row itself
    ranks = rng.random(rows.shape).argsort(axis=1)
    return np.where(ranks < n_features // 2, rows, rows[partner])


def _fold(X: Array, rng: np.random.Generator, kept: NDArray[np.int64], held_out: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the kept rows, and squared distances to them of the held-out rows and of as many artificial outliers."""
    normal = X[held_out]
    return X[kept], squared_distances(np.concatenate([normal, recombine(normal, rng)]), X[kept])


def _best_nu(folds: Sequence[tuple[Array, Array]], gamma: float, nus: Sequence[float]) -> tuple[float, float, float]:
    """Return (gamma, nu, mean AUROC over the folds) for the best nu."""
    candidates = []
    for nu in nus:
        areas = []
        for kept, distances in folds:
            weights, rho = fit_exact(kept, gamma, nu)
            support = weights > 0
            likeness = np.exp(-gamma * distances[:, support]) @ weights[support] / rho
            # To three digits: far below the threshold all rows are equally foreign, and an order among them means nothing.
            areas.append(auroc(np.repeat([0, 1], len(distances) // 2), -likeness.round(3)).value)
        candidates.append((gamma, nu, float(np.mean(areas))))
    return max(candidates, key=_separation)


def _separation(candidate: tuple[float, float, float]) -> float:
    return candidate[2]
