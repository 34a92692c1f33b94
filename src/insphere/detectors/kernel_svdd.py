"""SVDD: the smallest hypersphere around most rows, in the feature space of a kernel (Tax 2004; Zhou 2021, sec. 2.2)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding
from insphere.detectors.file_schema import stored, stored_weights
from insphere.detectors.one_class_svm import choose_parameters, fit_exact
from insphere.detectors.shallow import AbstractShallowDetector, Array, some_of
from insphere.fields import AtLeastTwo, NotNegative, Positive, Share
from insphere.scores.kernels import Degree, Kernel, KernelExpansion, KernelName, scale_gamma
from insphere.scores.simplex_qp import minimise_on_simplex
from insphere.seeding import generator
from insphere.validation import check_number

_MOST_ROWS = {"rbf": 20_000, "polynomial": 2_000, "linear": 20_000}
_TOLERANCE = 1e-7  # on squared distances, by which the KKT conditions may be missed
_DUST = 1e-6  # share of the bound below which a weight is the interior-point solver's way of writing zero


@dataclasses.dataclass(frozen=True)
class KernelSphere:
    """A hypersphere in a kernel's feature space.

    Attributes
    ----------
    center : KernelExpansion
        c = Σ_i alpha_i·φ(x_i) over the support vectors.
    squared_norm : float
        ‖c‖².
    squared_radius : float
        R², in the kernel's units.

    Examples
    --------
    >>> sphere, _ = fit_kernel_sphere(np.array([[0.0], [2.0]]), Kernel("linear"), nu=0.5)
    >>> sphere.score(np.array([[1.0], [4.0]])).round(6)
    array([-1.,  8.])
    """

    center: KernelExpansion
    squared_norm: float
    squared_radius: float

    def squared_distance(self, X: Array) -> Array:
        """Return ‖φ(x) − c‖² of each row: k(x, x) − 2·Σ_i alpha_i·k(x_i, x) + ‖c‖²."""
        return self.center.kernel.diagonal(X) - 2 * self.center(X) + self.squared_norm

    def score(self, X: Array) -> Array:
        """Return s(x) = ‖φ(x) − c‖² − R² of each row: negative inside, positive outside."""
        return self.squared_distance(X) - self.squared_radius


def fit_kernel_sphere(X: Array, kernel: Kernel, nu: float, solver: str = "auto") -> tuple[KernelSphere, Array]:
    """Return the smallest sphere around the rows with slack, and the weight alpha of each row.

    The dual (eq. 9) is max Σ_i alpha_i·k(x_i, x_i) − Σ_ij alpha_i·alpha_j·k(x_i, x_j) subject to Σ alpha_i = 1 and
    0 ≤ alpha_i ≤ gamma, with the paper's slack bound gamma = 1 / (nu·n). Where k(x, x) is the same for all rows its first sum is
    constant, and what remains is the dual of the one-class support vector machine.

    Parameters
    ----------
    X : ndarray, shape (n, d)
    kernel : Kernel
    nu : float
        Share of rows outside at most, in (0, 1].
    solver : {"auto", "qp"}
        "auto" is libsvm for "rbf" and a quadratic programme solved by interior points for the other kernels; "qp" is that for all.

    Source: Zhou 2021, eqs. 7–10. Deviation: R² is the average over all unbounded support vectors instead of one.

    Raises
    ------
    TrainingError
        If the quadratic programme does not converge.

    Examples
    --------
    >>> fit_kernel_sphere(np.array([[0.0], [2.0]]), Kernel("linear"), nu=0.5)[1].round(6)
    array([0.5, 0.5])
    """
    bound = 1 / (nu * len(X))
    if solver == "auto" and kernel.name == "rbf":
        # Within libsvm weights sum to nu·n, and its rule for stopping is meant for a gradient as many times larger.
        alphas, _ = fit_exact(X, kernel.gamma, nu, tolerance=_TOLERANCE / bound)
    else:
        alphas = minimise_on_simplex(kernel(X, X), kernel.diagonal(X), bound)
        alphas = np.where(alphas <= _DUST * min(bound, 1.0), 0.0, alphas)
    alphas = alphas / alphas.sum()
    support = alphas > 0
    center = KernelExpansion(kernel, np.ascontiguousarray(X[support]), alphas[support])
    unsized = KernelSphere(center, center.squared_norm(), 0.0)
    return dataclasses.replace(unsized, squared_radius=_squared_radius(unsized.squared_distance(X), alphas, bound)), alphas


def _squared_radius(squared_distances: Array, alphas: Array, bound: float) -> float:
    """Return R² (eq. 10) as the average over unbounded support vectors, which lie on the sphere."""
    bounded = alphas >= bound * (1 - _DUST)
    on_sphere = (alphas > 0) & ~bounded
    if on_sphere.any():
        return float(squared_distances[on_sphere].mean())
    # None lies on it: any sphere between the furthest row inside and the nearest outside is optimal.
    outside = float(squared_distances[bounded].min())
    inside = alphas == 0
    return (outside + float(squared_distances[inside].max())) / 2 if inside.any() else outside


@dataclasses.dataclass(eq=False, repr=False)
class SVDD(AbstractShallowDetector):
    """Support vector data description: the score is the squared distance to the centre of a kernel hypersphere, minus its squared radius.

    With the RBF kernel it ranks rows exactly as `OCSVM` of the same gamma and nu does.

    Parameters
    ----------
    kernel : {"rbf", "polynomial", "linear"}
        "linear" is the plain sphere around the rows.
    nu : float
        Share of training rows outside the sphere at most, in (0, 1]; the paper's slack bound gamma is 1 / (nu·n).
    gamma : "auto", "scale" or float
        Kernel scale (not the paper's gamma), above 0; "scale" is 1 / (n_features · variance), "auto" for "rbf" the label-free choice
        that `insphere.OCSVM` makes, for the other kernels "scale".
    degree : int
        Of the polynomial kernel (gamma·⟨x, y⟩ + coef0)^degree, 1 to 10.
    coef0 : float
        Of the polynomial kernel, at least 0.
    max_rows : int, optional
        Rows that the sphere is fitted to at most; of more, a random choice. None: 20,000, and 2,000 for "polynomial", whose quadratic
        programme may take time cubic in the rows.
    scaling, pca, target_fpr, trim, calibration, random_state
        As in `insphere.OCSVM`.

    Source: Tax 2004; Zhou 2021, eqs. 7–10. Deviation: see `fit_kernel_sphere`.

    Attributes
    ----------
    sphere_ : KernelSphere
        Centre as weights alpha on support vectors, and R².
    radius_ : float
        As in all detectors, the 95th percentile of the training scores; the sphere's own boundary is score 0.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> detector = SVDD("linear", random_state=0).fit(X)
    >>> detector.anomaly_score(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])) > 0
    array([False,  True])
    """

    name = "svdd"

    kernel: KernelName = "rbf"
    nu: Share = 0.05
    _: dataclasses.KW_ONLY
    gamma: Literal["auto", "scale"] | Positive = "auto"
    degree: Degree = 3
    coef0: NotNegative = 1.0
    max_rows: AtLeastTwo | None = None

    def _kernel(self, gamma: float) -> Kernel:
        return Kernel(self.kernel, gamma, self.degree, self.coef0)

    def _fit_features(self, features: Array) -> tuple[Array, list[Finding]]:
        apart = self._independent(features)
        gamma, findings = scale_gamma(apart) if isinstance(self.gamma, str) else float(self.gamma), []
        if self.gamma == "auto" and self.kernel == "rbf":
            gamma, _, finding = choose_parameters(apart, generator(self.seed_, "kernel parameters"), (float(self.nu),))
            findings.append(finding)
        n_most = _MOST_ROWS[self.kernel] if self.max_rows is None else self.max_rows
        fitted_to = features[some_of(len(features), n_most, generator(self.seed_, "rows of the sphere"))]
        self.sphere_, alphas = fit_kernel_sphere(fitted_to, self._kernel(gamma), float(self.nu))
        n_support = int((alphas > 0).sum())
        text = f"{n_support} of {len(fitted_to)} rows are support vectors of the sphere ({len(features)} training rows)."
        return self._score_features(features), [*findings, Finding("support vectors", "ok", n_support / len(fitted_to), text)]

    def _score_features(self, features: Array) -> Array:
        return self.sphere_.score(features)

    def _settled(self) -> dict[str, Any]:
        return super()._settled() | {"gamma": self.sphere_.center.kernel.gamma}

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        sphere = self.sphere_
        header = {"gamma": sphere.center.kernel.gamma, "squared_norm": sphere.squared_norm, "squared_radius": sphere.squared_radius}
        return header, {"sphere/support_vectors": sphere.center.points, "sphere/alphas": sphere.center.weights}

    def _restore_features(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_features: int) -> None:
        gamma, norm, radius = (check_number(name, header[name]) for name in ("gamma", "squared_norm", "squared_radius"))
        points = stored(arrays, "sphere/support_vectors", (None, n_features))
        center = KernelExpansion(self._kernel(gamma), points, stored_weights(arrays, "sphere/alphas", len(points)))
        self.sphere_ = KernelSphere(center, norm, radius)
