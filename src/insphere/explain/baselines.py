"""What a row is compared with: the normal row that it could have been."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.errors import ExplainError
from insphere.explain.heat import smooth
from insphere.explain.neighbours import Neighbours
from insphere.explain.scaling import preprocess_of

Array = NDArray[np.float64]

_BLUR_SHARE = 8  # of the longer side


@dataclasses.dataclass(frozen=True)
class Witnesses:
    """What is at hand to compare rows with, all in scaled units, shaped as `values`.

    Attributes
    ----------
    values : ndarray of float64, shape (n, height, width, channels) or (n, features)
        The rows themselves.
    reconstructions : ndarray, optional
    neighbours : Neighbours, optional
    """

    values: Array
    reconstructions: Array | None
    neighbours: Neighbours | None


def make_baselines(detector: AbstractDetector, rows: NDArray[Any], witnesses: Witnesses, kind: str) -> Array:
    """Return a baseline for each row, in scaled units, shaped as `rows`.

    Parameters
    ----------
    detector : AbstractDetector
    rows : ndarray
        Raw rows.
    witnesses : Witnesses
    kind : {"auto", "reconstruction", "neighbour", "blur", "typical"}
        The row's reconstruction; its nearest normal example; the image with nothing smaller than an eighth of its side left; the training
        mean of each feature. "auto" takes the first of these that there is (for vectors the neighbour before the reconstruction).

    Raises
    ------
    ExplainError
        If there is none of the kind.
    """
    made = {
        "reconstruction": lambda: witnesses.reconstructions,
        "neighbour": lambda: _nearest(witnesses.neighbours),
        "blur": lambda: _blurred(witnesses.values),
        "typical": lambda: _typical(detector, rows),
    }
    kinds = [kind]
    if kind == "auto":
        kinds = ["reconstruction", "neighbour", "blur"] if rows.ndim == 4 else ["neighbour", "reconstruction", "typical"]
    for name in kinds:
        baseline = made[name]()
        if baseline is not None:
            return baseline
    raise ExplainError(
        f"There is no baseline {kind!r} for these rows and this detector; give `normals` (--normals), the source of its training rows,"
        " or choose another `baseline`."
    )


def _nearest(neighbours: Neighbours | None) -> Array | None:
    return None if neighbours is None or neighbours.values is None else np.ascontiguousarray(neighbours.values[:, 0])


def _blurred(values: Array) -> Array | None:
    if values.ndim != 4:
        return None
    blurred = smooth(np.moveaxis(values, -1, 1), max(values.shape[1:3]) / _BLUR_SHARE)
    return np.ascontiguousarray(np.moveaxis(blurred, 1, -1))


def _typical(detector: AbstractDetector, rows: NDArray[Any]) -> Array | None:
    """Return zeros, the training mean, where the scaling is one that makes it so."""
    preprocess = preprocess_of(detector)
    return np.zeros(rows.shape) if preprocess is not None and preprocess.scaling in ("standard", "whiten") else None
