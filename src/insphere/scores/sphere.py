"""Geometry of the decision: how far a code lies from the sphere's centre.

All computations are in float64 and treat each row alone, so a distance never depends on the rows that came with it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from insphere.errors import ModelFileError, TrainingError
from insphere.scores.neighbours import Neighbours
from insphere.validation import check_choice

Array = NDArray[np.float64]

MAX_REFERENCES = 20_000
"""Training codes that the local and the angular geometry keep at most."""

LEAST_SHARE = 0.1
"""Share of the rows of the fullest of several centres that a centre must have to be kept."""

LEAST_LENGTH = 1e-12
"""What the length of a code counts as at least where it is brought to one."""


class AbstractSphere(ABC):
    """A fitted data-enclosing region in the space of codes.

    Attributes
    ----------
    center : ndarray of float64, shape (latent_dim,)
        The centre c* of the sphere.
    """

    kind: ClassVar[str]
    center: Array

    @abstractmethod
    def distance(self, codes: Array) -> Array:
        """Return the distance of each code (n, latent_dim) to the sphere's centre, float64, shape (n,)."""

    @abstractmethod
    def training_distance(self, codes: Array) -> Array:
        """Return the distances of the training codes, none of which counts as its own neighbour."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """Return the arrays that `restore_sphere` needs."""


class EuclideanSphere(AbstractSphere):
    """Distance to the centre in the norm of the code space.

    Source: Zhou 2021, eq. 13. Deviation: none.

    Examples
    --------
    >>> EuclideanSphere(np.zeros(2)).distance(np.array([[3.0, 4.0]]))
    array([5.])
    """

    kind = "euclidean"

    def __init__(self, center: Array) -> None:
        self.center = center

    def distance(self, codes: Array) -> Array:
        return _row_norm(codes - self.center)

    def training_distance(self, codes: Array) -> Array:
        return self.distance(codes)

    def arrays(self) -> dict[str, Array]:
        return {"center": self.center}


class MahalanobisSphere(AbstractSphere):
    """Distance to the centre in units of the training codes' spread: an ellipsoid in the code space.

    Parameters
    ----------
    center : ndarray, shape (latent_dim,)
    whitening : ndarray, shape (latent_dim, latent_dim)
        Matrix W with W·cov·Wᵀ = I, see `fit_whitening`.

    Examples
    --------
    >>> MahalanobisSphere(np.zeros(2), np.diag([1.0, 0.5])).distance(np.array([[0.0, 4.0]]))
    array([2.])
    """

    kind = "mahalanobis"

    def __init__(self, center: Array, whitening: Array) -> None:
        self.center, self.whitening = center, whitening

    def distance(self, codes: Array) -> Array:
        return _row_norm(_transform(codes - self.center, self.whitening))

    def training_distance(self, codes: Array) -> Array:
        return self.distance(codes)

    def arrays(self) -> dict[str, Array]:
        return {"center": self.center, "whitening": self.whitening}


class LocalSphere(AbstractSphere):
    """Mean distance to the nearest training codes in the whitened space: a sphere around every training code.

    Parameters
    ----------
    center : ndarray, shape (latent_dim,)
    whitening : ndarray, shape (latent_dim, latent_dim)
    references : ndarray, shape (m, latent_dim)
        Whitened training codes.
    n_neighbors : int
        Neighbours to average over; fewer where there are fewer references.
    own : ndarray of int64, shape (n,), optional
        The reference that each of the n training codes is, −1 for one that was left out; None where every code is the reference of its
        position.

    Examples
    --------
    >>> sphere = LocalSphere(np.zeros(1), np.eye(1), np.array([[0.0], [1.0], [10.0]]), n_neighbors=2)
    >>> sphere.distance(np.array([[0.5]]))
    array([0.5])
    """

    kind = "local"

    def __init__(self, center: Array, whitening: Array, references: Array, n_neighbors: int, own: NDArray[np.int64] | None = None) -> None:
        self.center, self.whitening, self.references, self.n_neighbors = center, whitening, references, n_neighbors
        self._neighbours = Neighbours(references)
        self._own = np.arange(len(references)) if own is None else own

    def distance(self, codes: Array) -> Array:
        nearest = self._neighbours.distances(_transform(codes - self.center, self.whitening), self.n_neighbors)
        return np.asarray(nearest.mean(axis=1))

    def training_distance(self, codes: Array) -> Array:
        nearest = self._neighbours.distances(_transform(codes - self.center, self.whitening), self.n_neighbors, self._own)
        # A single code has no neighbour: it is at its own place.
        return np.asarray(nearest.mean(axis=1)) if nearest.shape[1] else np.zeros(len(codes))

    def arrays(self) -> dict[str, Array]:
        return {
            "center": self.center,
            "whitening": self.whitening,
            "references": self.references,
            "n_neighbors": np.array([self.n_neighbors], dtype=np.float64),
        }


class AngularSphere(AbstractSphere):
    """One minus the mean cosine between a code and the training codes nearest by angle: a cap of the unit sphere around each of them.

    For codes whose direction says what they are and whose length says how surely, as those that centres are told apart by.

    Parameters
    ----------
    references : ndarray, shape (m, latent_dim)
        Training codes at length one.
    n_neighbors : int
    own : ndarray of int64, shape (n,), optional
        As for `LocalSphere`.

    Source: the similarity to training codes in Tack 2020 (CSI), eq. 6. Deviation: the mean of several, without the code's length.

    Examples
    --------
    >>> sphere = AngularSphere(np.array([[1.0, 0.0], [0.0, 1.0]]), n_neighbors=1)
    >>> sphere.distance(np.array([[9.0, 0.0], [0.0, -0.5]])).round(6).tolist()
    [0.0, 1.0]
    """

    kind = "angular"

    def __init__(self, references: Array, n_neighbors: int, own: NDArray[np.int64] | None = None) -> None:
        self.center, self.references, self.n_neighbors = np.zeros(references.shape[1]), references, n_neighbors
        self._neighbours = Neighbours(references)
        self._own = np.arange(len(references)) if own is None else own

    def distance(self, codes: Array) -> Array:
        return _mean_half_square(self._neighbours.distances(unit_length(codes), self.n_neighbors))

    def training_distance(self, codes: Array) -> Array:
        return _mean_half_square(self._neighbours.distances(unit_length(codes), self.n_neighbors, self._own))

    def arrays(self) -> dict[str, Array]:
        return {"center": self.center, "references": self.references, "n_neighbors": np.array([self.n_neighbors], dtype=np.float64)}


class SeveralSpheres(AbstractSphere):
    """Distance to the nearest of several centres, each in its own units where there are whitenings.

    Parameters
    ----------
    centers : ndarray, shape (m, latent_dim)
    whitenings : ndarray, shape (m, latent_dim, latent_dim), optional
        Of each centre, as for `MahalanobisSphere`; None measures in the norm of the code space.

    Attributes
    ----------
    center : ndarray of float64, shape (latent_dim,)
        The mean of the centres, which no distance is measured from.

    Examples
    --------
    >>> SeveralSpheres(np.array([[0.0, 0.0], [9.0, 0.0]])).distance(np.array([[3.0, 4.0], [9.0, 1.0]]))
    array([5., 1.])
    """

    kind = "several"

    def __init__(self, centers: Array, whitenings: Array | None = None) -> None:
        self.center, self.centers, self.whitenings = centers.mean(axis=0), centers, whitenings
        self._members: list[EuclideanSphere | MahalanobisSphere] = (
            [EuclideanSphere(center) for center in centers]
            if whitenings is None
            else [MahalanobisSphere(center, whitening) for center, whitening in zip(centers, whitenings, strict=True)]
        )

    def distance(self, codes: Array) -> Array:
        return np.asarray(np.min([member.distance(codes) for member in self._members], axis=0))

    def training_distance(self, codes: Array) -> Array:
        return self.distance(codes)

    def arrays(self) -> dict[str, Array]:
        return {"center": self.center, "centers": self.centers} | ({} if self.whitenings is None else {"whitenings": self.whitenings})


Geometry = Literal["local", "mahalanobis", "euclidean"]
"""Names of the geometries of a sphere around a centre of codes."""

AnyGeometry = Literal["angular", "local", "mahalanobis", "euclidean"]
"""Names of the geometries that `fit_sphere` knows."""


def fit_sphere(geometry: str, codes: Array, center: Array | None, *, n_neighbors: int, rng: np.random.Generator) -> AbstractSphere:
    """Fit a sphere to the training codes.

    Parameters
    ----------
    geometry : {"euclidean", "mahalanobis", "local", "angular"}
    codes : ndarray, shape (n, latent_dim)
        Codes of the proper training rows.
    center : ndarray, shape (latent_dim,), optional
        The centre that training ended with; None takes the mean of `codes`.
    n_neighbors : int
        Only for "local" and "angular".
    rng : numpy.random.Generator
        Chooses the references where there are more than `MAX_REFERENCES` codes.

    Raises
    ------
    ParameterError
        If the geometry is unknown.
    TrainingError
        If a code is not finite.

    Examples
    --------
    >>> fit_sphere("euclidean", np.array([[0.0], [2.0]]), None, n_neighbors=5, rng=np.random.default_rng(0)).center
    array([1.])
    """
    check_choice("geometry", geometry, get_args(AnyGeometry))
    _check_finite(codes)
    center = codes.mean(axis=0) if center is None else center
    if geometry == "euclidean":
        return EuclideanSphere(center)
    whitening = np.eye(codes.shape[1]) if geometry == "angular" else fit_whitening(codes)
    if geometry == "mahalanobis":
        return MahalanobisSphere(center, whitening)
    kept, own = np.arange(len(codes)), None
    if len(codes) > MAX_REFERENCES:
        kept = np.sort(rng.choice(len(codes), MAX_REFERENCES, replace=False))
        own = np.full(len(codes), -1)
        own[kept] = np.arange(MAX_REFERENCES)
    if geometry == "angular":
        return AngularSphere(unit_length(codes[kept]), n_neighbors, own)
    return LocalSphere(center, whitening, _transform(codes[kept] - center, whitening), n_neighbors, own)


def fit_several_spheres(geometry: str, codes: Array, start: Array, *, keep: bool) -> SeveralSpheres:
    """Fit spheres around several centres to the training codes, each to those nearest to it.

    Parameters
    ----------
    geometry : {"euclidean", "mahalanobis"}
    codes : ndarray, shape (n, latent_dim)
        Codes of the proper training rows.
    start : ndarray, shape (m, latent_dim)
        The centres that training ended with; those are left out that next to none of these codes is nearest to, see `filled_centers`.
    keep : bool
        Whether these are the centres, or the means of the codes nearest to them.

    Notes
    -----
    "mahalanobis" whitens by the covariance of a centre's own codes. Where these are fewer than two a dimension, that of all codes about
    their own centres is more to go by, and takes its place.

    Raises
    ------
    TrainingError
        If a code is not finite.

    Examples
    --------
    >>> fit_several_spheres("euclidean", np.array([[0.0], [2.0], [9.0]]), np.array([[0.0], [8.0]]), keep=False).centers.tolist()
    [[1.0], [9.0]]
    """
    check_choice("geometry", geometry, ("euclidean", "mahalanobis"))
    _check_finite(codes)
    start = filled_centers(start, codes)
    nearest = nearest_of(start, codes)
    groups = [codes[nearest == number] for number in range(len(start))]
    centers = start if keep else np.stack([group.mean(axis=0) for group in groups])
    if geometry == "euclidean":
        return SeveralSpheres(centers)
    pooled = fit_whitening(np.concatenate([group - group.mean(axis=0) for group in groups]))
    least = 2 * codes.shape[1]
    return SeveralSpheres(centers, np.stack([fit_whitening(group) if len(group) >= least else pooled for group in groups]))


def filled_centers(centers: Array, codes: Array) -> Array:
    """Return those centres that at least a tenth as many codes are nearest to as to the one with the most.

    Examples
    --------
    >>> filled_centers(np.array([[0.0], [8.0], [99.0]]), np.array([[1.0], [7.0]]))
    array([[0.],
           [8.]])
    """
    rows = np.bincount(nearest_of(centers, codes), minlength=len(centers))
    return np.asarray(centers[rows >= LEAST_SHARE * rows.max()])


def nearest_of(centers: Array, codes: Array) -> NDArray[np.int64]:
    """Return the position of the centre that each code is nearest to, shape (n,).

    Examples
    --------
    >>> nearest_of(np.array([[0.0], [8.0]]), np.array([[1.0], [7.0]]))
    array([0, 1])
    """
    return np.asarray(np.argmin([_row_norm(codes - center) for center in centers], axis=0))


def restore_sphere(kind: str, arrays: Mapping[str, NDArray[Any]]) -> AbstractSphere:
    """Return the sphere whose `kind` and `arrays()` were stored.

    Raises
    ------
    KeyError
        If an array is missing.
    ModelFileError
        If the arrays do not fit together.
    """
    check_choice("geometry", kind, (*get_args(AnyGeometry), SeveralSpheres.kind))
    _check_shapes(arrays)
    if kind == SeveralSpheres.kind:
        return SeveralSpheres(arrays["centers"], arrays.get("whitenings"))
    if kind == "euclidean":
        return EuclideanSphere(arrays["center"])
    if kind == "mahalanobis":
        return MahalanobisSphere(arrays["center"], arrays["whitening"])
    if kind == "angular":
        return AngularSphere(arrays["references"], max(1, int(arrays["n_neighbors"][0])))
    return LocalSphere(arrays["center"], arrays["whitening"], arrays["references"], max(1, int(arrays["n_neighbors"][0])))


def fit_whitening(codes: Array) -> Array:
    """Return the symmetric matrix W = cov^(-1/2) of the shrunken covariance of the training codes.

    Without shrinkage, as many codes as dimensions would all lie equally far from each other and from the centre once whitened, and
    every new code farther; and unused latent dimensions, which carry rounding noise, would be raised to the level of the others.

    Source: Ledoit 2004 (the shrinkage). Deviation: none.

    Examples
    --------
    >>> bool(np.allclose(fit_whitening(np.array([[-2.0], [2.0]])), 0.5))
    True
    """
    from sklearn.covariance import ledoit_wolf  # here, as only fits need it, and it brings much along

    covariance, _ = ledoit_wolf(codes)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    largest = float(eigenvalues[-1])
    if largest <= 0:
        return np.eye(codes.shape[1])
    # A floor of rounding size only: the shrinkage has already raised what is small, unless all codes lie on a line.
    scales = 1 / np.sqrt(np.maximum(eigenvalues, 1e-12 * largest))
    whitening: Array = (vectors * scales) @ vectors.T
    return whitening


def _check_finite(codes: Array) -> None:
    if not np.isfinite(codes).all():
        raise TrainingError(
            "The codes of some training rows are not finite: training has diverged. Try a smaller learning rate (`lr`) or"
            " training={'gradient_clip': 1.0}, and check the rows for extreme values."
        )


def _check_shapes(arrays: Mapping[str, NDArray[Any]]) -> None:
    n_dims = max(1, arrays["center"].size)
    n_centers = len(arrays.get("centers", ()))
    shapes = {"center": (n_dims,), "whitening": (n_dims, n_dims), "n_neighbors": (1,), "whitenings": (n_centers, n_dims, n_dims)}
    for name, array in arrays.items():
        n_rows = max(1, array.size // n_dims)
        if array.shape != shapes.get(name, (n_rows, n_dims)) or not np.isfinite(array).all():
            raise ModelFileError(f"The stored sphere's {name!r} of shape {array.shape} does not fit the rest; save the detector again.")


def _transform(codes: Array, matrix: Array) -> Array:
    # einsum without BLAS sums each row in the same order, however many rows there are.
    return np.asarray(np.einsum("nd,ed->ne", codes, matrix, optimize=False))


def unit_length(codes: Array) -> Array:
    """Return codes brought to length one; zero stays zero.

    Examples
    --------
    >>> unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return np.asarray(codes / np.maximum(_row_norm(codes), LEAST_LENGTH)[:, np.newaxis])


def _mean_half_square(distances: Array) -> Array:
    """Return the mean of d²/2, which is one minus a cosine between codes of length one; zero of none."""
    return np.asarray(np.square(distances).mean(axis=1) / 2) if distances.shape[1] else np.zeros(len(distances))


def _row_norm(rows: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows, optimize=False)))
