"""From differences and attributions to heat-maps."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from insphere.errors import ExplainError
from insphere.explain.neighbours import Neighbours

Array = NDArray[np.float64]

_SMOOTHING_SHARE = 40  # of the longer side


def smoothing_for(height: int, width: int, asked: float | None) -> float:
    """Return the standard deviation, in pixels, to smooth heat-maps with."""
    return max(height, width) / _SMOOTHING_SHARE if asked is None else asked


def smooth(heatmaps: Array, deviation: float) -> Array:
    """Return heat-maps (…, height, width) smoothed by a Gaussian of that standard deviation, in pixels; mirrored at the edges.

    Examples
    --------
    >>> smooth(np.ones((1, 4, 4)), 2.0).round(6).max()
    np.float64(1.0)
    """
    return heatmaps if deviation == 0 else np.asarray(gaussian_filter(heatmaps, deviation, axes=(-2, -1), mode="reflect"))


def squared_difference(values: Array, others: Array) -> Array:
    """Return the squared difference of images, averaged over channels: (…, height, width)."""
    return np.asarray(((values - others) ** 2).mean(axis=-1))


def difference_heat(values: Array, reconstructions: Array | None, neighbours: Neighbours | None, deviation: float) -> Array:
    """Return how far each spot is from all that the detector would have there instead.

    The squared difference from the row's own reconstruction and that from its nearest normal examples, both smoothed, multiplied, and
    the square root of it: only what neither the code nor any normal neighbour accounts for is hot. Of several neighbours the one that
    fits best counts, spot by spot. Where there is only one of the two, that one alone.

    Parameters
    ----------
    values : ndarray of float64, shape (n, height, width, channels)
        The rows in scaled units, as all others here.
    reconstructions : ndarray of float64, shaped as `values`, optional
    neighbours : Neighbours, optional
    deviation : float
        Standard deviation of the smoothing, in pixels.

    Returns
    -------
    ndarray of float64, shape (n, height, width)
        In squared scaled units.

    Raises
    ------
    ExplainError
        If there is neither a reconstruction nor a neighbour with a picture.
    """
    parts = []
    if reconstructions is not None:
        parts.append(smooth(squared_difference(values, reconstructions), deviation))
    if neighbours is not None and neighbours.values is not None:
        parts.append(smooth(squared_difference(values[:, np.newaxis], neighbours.values), deviation).min(axis=1))
    if not parts:
        raise ExplainError(
            "This detector has neither a decoder nor pictures of normal examples to compare with; give `normals` (--normals), the source"
            " of its training rows, or use method='occlusion'."
        )
    return parts[0] if len(parts) == 1 else np.sqrt(parts[0] * parts[1])


def attribution_heat(attributions: Array, deviation: float) -> Array:
    """Return how much each pixel matters to the score, for or against: the size of its attribution, summed over channels and smoothed."""
    return smooth(np.abs(attributions.sum(axis=-1)), deviation)
