"""The nearest normal examples of a row: pictures from the training source, or what the decoder makes of the stored training codes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from insphere.data import AbstractSource, ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.errors import DataError
from insphere.explain.scaling import scaled
from insphere.explain.score_graph import decode
from insphere.scores.sphere import LocalSphere, MahalanobisSphere

Array = NDArray[np.float64]

MAX_NORMALS = 2000
"""Normal examples of a source that neighbours are looked for among, at most; taken evenly over a longer source."""


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest normal examples of each of n rows, nearest first.

    Attributes
    ----------
    kind : {"example", "decoded"}
        Rows of a source of normal examples, or pictures that the decoder makes of the training codes that the model keeps.
    index : ndarray of int64, shape (n, k)
        Position of each in the source, or among the stored training codes.
    ids : tuple of tuple of str
        Names of the same; numbers where they have none.
    distance : ndarray of float64, shape (n, k)
        In the whitened code space, where the detector has one; else between codes, else between scaled rows.
    values : ndarray of float64, shape (n, k, height, width, channels) or (n, k, features), optional
        The examples in scaled units; None where the model keeps codes that nothing decodes.
    rows : ndarray, optional
        The same in raw units; None for decoded ones, which have no brightness of their own.
    """

    kind: str
    index: NDArray[np.int64]
    ids: Sequence[Sequence[str]]
    distance: Array
    values: Array | None = None
    rows: NDArray[Any] | None = None

    def row_to_json(self, row: int) -> list[dict[str, Any]]:
        """Return the neighbours of one row as JSON-able dicts."""
        return [
            {"kind": self.kind, "index": int(index), "id": name, "distance": float(distance)}
            for index, name, distance in zip(self.index[row], self.ids[row], self.distance[row], strict=True)
        ]


def find_neighbours(
    detector: AbstractDetector, rows: NDArray[Any], codes: Array | None, normals: AbstractSource | None, n_neighbors: int
) -> Neighbours | None:
    """Return the nearest normal examples of raw rows, or None where neither a source is given nor the model keeps any."""
    if normals is not None:
        return _nearest_examples(detector, rows, codes, normals, n_neighbors)
    if isinstance(detector, AbstractNeuralDetector) and isinstance(detector.sphere_, LocalSphere) and codes is not None:
        return _nearest_references(detector, detector.sphere_, codes, n_neighbors)
    return None


def _nearest_examples(
    detector: AbstractDetector, rows: NDArray[Any], codes: Array | None, normals: AbstractSource, n_neighbors: int
) -> Neighbours:
    positions = np.unique(np.linspace(0, len(normals) - 1, min(len(normals), MAX_NORMALS)).round().astype(np.int64))
    loaded = normals.take(positions).load()
    if not len(loaded.X):
        raise DataError(f"None of the {len(positions)} normal examples of {normals.name} can be read; give `normals` that can.")
    examples, positions = loaded.X, positions[loaded.index]
    places, own_places = _places(detector, examples, None), _places(detector, rows, codes)
    # One more than asked for, as a row that is itself among the examples must not be its own witness.
    n_found = min(n_neighbors + 1, len(examples))
    distance, found = NearestNeighbors(n_neighbors=n_found).fit(places).kneighbors(own_places)
    same = (examples[found] == rows[:, np.newaxis]).reshape(len(rows), n_found, -1).all(axis=2)
    order = np.argsort(same, axis=1, kind="stable")[:, : max(1, n_found - 1)]
    found, distance = np.take_along_axis(found, order, axis=1), np.take_along_axis(distance, order, axis=1)
    index = positions[found]
    names = normals.ids
    ids = tuple(tuple(str(item) if names is None else names[int(item)] for item in line) for line in index)
    nearest = examples[found]
    values = scaled(detector, nearest.reshape(-1, *rows.shape[1:])).reshape(nearest.shape)
    return Neighbours("example", index, ids, np.asarray(distance, dtype=np.float64), values, nearest)


def _nearest_references(detector: AbstractNeuralDetector, sphere: LocalSphere, codes: Array, n_neighbors: int) -> Neighbours:
    n_found = min(n_neighbors, len(sphere.references))
    whitened = (codes - sphere.center) @ sphere.whitening.T
    distance, found = NearestNeighbors(n_neighbors=n_found).fit(sphere.references).kneighbors(whitened)
    used, where = np.unique(found, return_inverse=True)
    decoded = decode(detector.objective_, np.linalg.solve(sphere.whitening, sphere.references[used].T).T + sphere.center)
    values = None if decoded is None else decoded[where.reshape(found.shape)]
    ids = tuple(tuple(str(item) for item in line) for line in found)
    return Neighbours("decoded", found.astype(np.int64), ids, np.asarray(distance, dtype=np.float64), values)


def _places(detector: AbstractDetector, rows: NDArray[Any], codes: Array | None) -> Array:
    """Return the points between which rows are compared."""
    if not isinstance(detector, AbstractNeuralDetector):
        return scaled(detector, rows).reshape(len(rows), -1)
    codes = codes_of(detector, rows) if codes is None else codes
    sphere = detector.sphere_
    return (codes - sphere.center) @ sphere.whitening.T if isinstance(sphere, MahalanobisSphere | LocalSphere) else codes


def codes_of(detector: AbstractNeuralDetector, rows: NDArray[Any]) -> Array:
    """Return the codes of raw rows."""
    return detector.codes(ArraySource(rows))
