"""A sphere around wide vectors: whitened by a shrunk covariance first, since the signal often lies in directions of low variance."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from insphere.errors import ModelFileError
from insphere.scores.factors import inverse_cholesky

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class WhitenedSphere:
    """Distance of vectors to the centre of the normal ones, in the space where the normal ones have unit covariance.

    Parameters
    ----------
    center, scale : ndarray of float32, shape (d,)
        Mean and standard deviation of each value over the training vectors.
    whitening : ndarray of float16, shape (d, d)
        Lower triangular matrix L⁻¹ of the shrunk correlation L·Lᵀ; half precision is what a model file holds.

    Source: eq. 13 of Zhou 2021 after whitening; the shrinkage is Ledoit and Wolf's (2004).

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 5.0, 0.1]
    >>> sphere = WhitenedSphere.fit(vectors)
    >>> bool(sphere.distance(np.array([[0.0, 0.0, 1.0]]))[0] > 8)
    True
    """

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    whitening: NDArray[np.float16]

    @classmethod
    def fit(cls, vectors: NDArray[np.floating]) -> Self:
        """Return the sphere of training vectors (n, d), n at least 2."""
        values = vectors.astype(np.float64)
        center, spread = values.mean(axis=0), values.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0) + 1e-6
        covariance, _ = ledoit_wolf((values - center) / scale)
        d = covariance.shape[0]
        # A floor of rounding size only, for vectors that all lie on a plane: the shrinkage has raised what is small.
        whitening = inverse_cholesky(covariance + 1e-6 * np.eye(d))
        # In the memory layout that a model file gives it back in: a product's last bits depend on it.
        return cls(center.astype(np.float32), scale.astype(np.float32), np.ascontiguousarray(whitening, dtype=np.float16))

    def distance(self, vectors: NDArray[np.floating]) -> Array:
        """Return the distance of each vector (n, d) to the centre, float64, shape (n,); each row is computed alone."""
        away = (vectors.astype(np.float32) - self.center) / self.scale
        return np.array([np.sqrt(np.square((self._in_single @ row).astype(np.float64)).sum()) for row in away])

    @functools.cached_property
    def _in_single(self) -> NDArray[np.float32]:
        return self.whitening.astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `restore` needs."""
        return {"center": self.center, "scale": self.scale, "whitening": self.whitening}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], d: int) -> Self:
        """Return the sphere whose `arrays` were stored, of vectors of `d` values.

        Raises
        ------
        KeyError
            If an array is missing.
        ModelFileError
            If the arrays do not fit together.
        """
        expected = {"center": (d,), "scale": (d,), "whitening": (d, d)}
        for name, shape in expected.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ModelFileError(
                    f"The stored sphere's {name!r} of shape {arrays[name].shape} does not fit the rest; save the detector again."
                )
        return cls(arrays["center"].astype(np.float32), arrays["scale"].astype(np.float32), arrays["whitening"].astype(np.float16))
