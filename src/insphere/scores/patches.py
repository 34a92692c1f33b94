"""A memory of normal patches: how far the vector of each place lies from the nearest one remembered."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.errors import ModelFileError

_CANDIDATES = 30_000
_PROJECTED = 32


@dataclasses.dataclass(frozen=True, eq=False)
class PatchMemory:
    """Vectors of normal places, thinned out so that they cover what is normal evenly.

    Parameters
    ----------
    scale : ndarray of float32, shape (d,)
        Spread of each value over all places of all training pictures, by which vectors are divided.
    references : ndarray of float32, shape (m, d)
        In units of `scale`.

    Source: PatchCore (Roth 2022): greedy k-centre selection in a random projection, distance to the nearest. Deviation: values are
    standardised; candidates are a random choice of at most 30,000 places; no re-weighting by the neighbours' density.
    """

    scale: NDArray[np.float32]
    references: NDArray[np.float32]

    @classmethod
    def fit(cls, places: NDArray[np.float32], n_references: int, rng: np.random.Generator) -> Self:
        """Return the memory of pictures' places (n, height, width, d)."""
        d = places.shape[-1]
        rows = places.reshape(-1, d)
        spread = rows.std(axis=0)
        scale = np.where(spread > 0, spread, 1).astype(np.float32) + np.float32(1e-6)
        candidates = rows[np.sort(rng.permutation(len(rows))[:_CANDIDATES])] / scale
        projected = candidates @ (rng.standard_normal((d, min(d, _PROJECTED))) / _PROJECTED**0.5).astype(np.float32)
        kept = [0]
        distances = np.full(len(candidates), np.inf, dtype=np.float32)
        while len(kept) < min(n_references, len(candidates)):
            away = projected - projected[kept[-1]]
            np.minimum(distances, np.einsum("nd,nd->n", away, away), out=distances)
            kept.append(int(distances.argmax()))
        return cls(scale, np.ascontiguousarray(candidates[kept]))

    def distance(self, places: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the distance of each place's vector to the nearest reference, float32, shape (n, height, width).

        One picture after the other, so that a picture's distances don't depend on those beside it.
        """
        squares = np.square(self.references).sum(axis=1)
        found = np.empty(places.shape[:3], dtype=np.float32)
        for number, picture in enumerate(places):
            rows = picture.reshape(-1, picture.shape[-1]).astype(np.float32) / self.scale
            nearest = (squares - 2 * rows @ self.references.T).min(axis=1) + np.square(rows).sum(axis=1)
            found[number] = np.sqrt(np.maximum(nearest, 0)).reshape(picture.shape[:2])
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `restore` needs."""
        return {"scale": self.scale, "references": self.references}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], d: int) -> Self:
        """Return the memory whose `arrays` were stored, of vectors of `d` values.

        Raises
        ------
        KeyError
            If an array is missing.
        ModelFileError
            If the arrays do not fit together.
        """
        scale, references = arrays["scale"], arrays["references"]
        fits = scale.shape == (d,) and references.ndim == 2 and references.shape[1] == d and len(references) > 0
        if not fits or not (np.isfinite(scale).all() and np.isfinite(references).all()):
            raise ModelFileError("The stored memory of patches does not fit the stored network; save the detector again.")
        return cls(scale.astype(np.float32), references.astype(np.float32))
