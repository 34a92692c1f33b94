"""Kernels and sums of kernels: what the detectors that live in a kernel's feature space are stored as.

Each pair of rows is computed alone, without BLAS, so that no score depends on the rows that came with it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from insphere.fields import Declared, NotNegative, Positive
from insphere.validation import Within

Array = NDArray[np.float64]

KernelName = Literal["rbf", "polynomial", "linear"]
Degree = Annotated[int, Within(at_least=1, at_most=10)]
"""Names of the kernels: see `Kernel`."""

_CHUNK_VALUES = 2**22
"""Kernel values held at once, 32 MiB: whatever the number of rows, memory does not grow."""


@dataclasses.dataclass(frozen=True)
class Kernel(Declared):
    """A kernel: an inner product of two rows after a feature map that is never written out.

    Parameters
    ----------
    name : {"rbf", "polynomial", "linear"}
        exp(−gamma·‖x − y‖²), (gamma·⟨x, y⟩ + coef0)^degree, or ⟨x, y⟩.
    gamma : float
        Scale, above 0; not used by "linear".
    degree : int
        Only for "polynomial", 1 to 10.
    coef0 : float
        Only for "polynomial", at least 0, so that the kernel is positive semidefinite.

    Examples
    --------
    >>> Kernel("polynomial", gamma=1.0, degree=2, coef0=1.0)(np.array([[1.0]]), np.array([[2.0]]))
    array([[9.]])
    """

    name: KernelName = "rbf"
    gamma: Positive = 1.0
    degree: Degree = 3
    coef0: NotNegative = 1.0

    def __call__(self, X: Array, points: Array) -> Array:
        """Return the kernel of each row of `X` with each of `points`, shape (n, m)."""
        if self.name == "rbf":
            return np.asarray(np.exp(-self.gamma * squared_distances(X, points)))
        return self._of_products(np.einsum("nd,md->nm", X, points, optimize=False))

    def diagonal(self, X: Array) -> Array:
        """Return the kernel of each row with itself, shape (n,)."""
        if self.name == "rbf":
            return np.ones(len(X))
        return self._of_products(np.einsum("nd,nd->n", X, X, optimize=False))

    def _of_products(self, products: Array) -> Array:
        return products if self.name == "linear" else np.asarray((self.gamma * products + self.coef0) ** self.degree)


@dataclasses.dataclass(frozen=True)
class KernelExpansion:
    """A function f(x) = Σ_j weight_j · k(point_j, x), the inner product of a row with a vector of the feature space.

    Parameters
    ----------
    kernel : Kernel
    points : ndarray, shape (m, n_features)
    weights : ndarray, shape (m,)

    Examples
    --------
    >>> expansion = KernelExpansion(Kernel("linear"), np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, 3.0]))
    >>> expansion(np.array([[1.0, 1.0]])), expansion.squared_norm()
    (array([5.]), 13.0)
    """

    kernel: Kernel
    points: Array
    weights: Array

    def __call__(self, X: Array) -> Array:
        """Return f of each row, shape (n,)."""
        values = np.empty(len(X))
        for part in chunks(len(X), len(self.points)):
            values[part] = np.einsum("nm,m->n", self.kernel(X[part], self.points), self.weights, optimize=False)
        return values

    def squared_norm(self) -> float:
        """Return ‖f‖² in the feature space: Σ_ij weight_i · weight_j · k(point_i, point_j)."""
        return float(self(self.points) @ self.weights)


def squared_distances(X: Array, points: Array) -> Array:
    """Return ‖x − y‖² for each row x and each point y, shape (n, m), from differences: nothing cancels between near rows.

    Examples
    --------
    >>> squared_distances(np.array([[1e9]]), np.array([[1e9 + 1]]))
    array([[1.]])
    """
    return np.asarray(cdist(X, points, "sqeuclidean"))


def chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices that cut a matrix of `n_rows` by `n_columns` into parts of a bounded size.

    Examples
    --------
    >>> list(chunks(3, 2**22))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    step = max(1, _CHUNK_VALUES // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def scale_gamma(X: NDArray[Any]) -> float:
    """Return 1 / (n_features · variance), the scale at which a kernel sees neither one row nor all rows as alike.

    Examples
    --------
    >>> scale_gamma(np.array([[-2.0], [2.0]]))
    0.25
    """
    variance = float(X.var())
    return 1.0 / (X.shape[1] * variance) if variance > 0 else 1.0
