"""Scaling of rows before a detector sees them: fitted on training rows only, stored with the model."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.validation import check_choice

SCALINGS = ("auto", "none", "unit", "standard", "gcn", "gcn-unit")
"""Names of the scalings: see `fit_preprocess`."""

CLIP = 1e4
"""Scaled values are kept within ±CLIP, so that a broken sensor's 1e30 gives a large score instead of an overflow."""

_LIMITS = {4: 1e15, 8: 1e120}
"""Largest value, by bytes per value, whose square can still be summed over many rows and pixels without an overflow."""

_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """A fitted scaling: optional contrast normalisation of each row, then ``(x - offset) / scale``, clipped.

    Attributes
    ----------
    scaling : str
        Which rule was fitted: "none", "unit", "standard" or "gcn".
    offset, scale : ndarray of float64, shape (1,), (channels,) or (features,)
        Constants of the affine map; they broadcast along the last axis.
    """

    scaling: str
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, x: Any) -> Any:
        """Return the scaled rows as an array of the same kind.

        Parameters
        ----------
        x : numpy array or torch tensor of floating type, shape (n, height, width, channels) or (n, features)

        Notes
        -----
        Only operators and methods that numpy and PyTorch share are used: training, scoring and exact tests run the same lines.
        """
        x = _bounded(x)
        if self.scaling in ("gcn", "gcn-unit"):
            x = contrast_normalise(x)
        offset, scale = self.offset, self.scale
        if not isinstance(x, np.ndarray):
            offset, scale = x.new_tensor(offset), x.new_tensor(scale)
        else:
            offset, scale = offset.astype(x.dtype), scale.astype(x.dtype)
        return ((x - offset) / scale).clip(-CLIP, CLIP)


def contrast_normalise(x: Any) -> Any:
    """Return each row minus its mean, divided by its mean absolute deviation (global contrast normalisation, L1 norm).

    A row without contrast becomes all zeros.

    Source: Ruff 2018, sec. 4.1. Deviation: the mean instead of the sum of absolute deviations, a constant factor.

    Examples
    --------
    >>> contrast_normalise(np.array([[0.0, 2.0], [5.0, 5.0]]))
    array([[-1.,  1.],
           [ 0.,  0.]])
    """
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    deviation = abs(centred).mean(axis=axes, keepdims=True)
    # Below this, what is left is the rounding of the mean: a flat row must not become amplified rounding noise.
    varied = deviation > 1e-6 * abs(x).mean(axis=axes, keepdims=True)
    return centred * varied / (deviation + ~varied)


def fit_preprocess(X: NDArray[Any], scaling: str = "auto") -> Preprocess:
    """Fit a scaling on the training rows.

    Parameters
    ----------
    X : ndarray, shape (n, height, width, channels) or (n, features)
        Training rows, uint8 or floating.
    scaling : {"auto", "none", "unit", "standard", "gcn", "gcn-unit"}
        "unit" maps the range (0..255 for uint8 images, else the training minimum and maximum, per feature for vectors) to [0, 1];
        "standard" gives each channel or feature mean 0 and variance 1; "gcn" normalises each row's contrast; "gcn-unit" does so too
        and maps the training range to [0, 1] (Ruff 2018); "auto" is "gcn" for images and "standard" for vectors.

    Raises
    ------
    ParameterError
        If the name is unknown.

    Examples
    --------
    >>> fit_preprocess(np.zeros((2, 4, 4, 1), np.uint8), "unit").scale
    array([255.])
    """
    check_choice("scaling", scaling, SCALINGS)
    is_image = X.ndim == 4
    if scaling == "auto":
        scaling = "gcn" if is_image else "standard"
    if scaling in ("none", "gcn"):
        offset, scale = np.zeros(1), np.ones(1)
    elif scaling == "standard":
        offset, scale = _moments(X)
    elif scaling == "unit" and is_image and X.dtype == np.uint8:
        offset, scale = np.zeros(1), np.full(1, 255.0)
    else:
        low, high = _value_range(X, per_column=not is_image, contrast=scaling == "gcn-unit")
        offset, scale = low, high - low
    return Preprocess(scaling, offset, np.where(scale > 0, scale, 1.0))


def _value_range(X: NDArray[Any], *, per_column: bool, contrast: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axes = (0,) if per_column else tuple(range(X.ndim))
    lows, highs = [], []
    for start in range(0, len(X), _CHUNK):
        chunk = _bounded(X[start : start + _CHUNK]).astype(np.float64)
        chunk = contrast_normalise(chunk) if contrast else chunk
        lows.append(chunk.min(axis=axes))
        highs.append(chunk.max(axis=axes))
    return np.atleast_1d(np.min(lows, axis=0)), np.atleast_1d(np.max(highs, axis=0))


def _moments(X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axes = tuple(range(X.ndim - 1))
    n_values = X.size / X.shape[-1]
    total, square = np.zeros(X.shape[-1]), np.zeros(X.shape[-1])
    for start in range(0, len(X), _CHUNK):
        total += _bounded(X[start : start + _CHUNK]).sum(axis=axes, dtype=np.float64)
    mean = total / n_values
    for start in range(0, len(X), _CHUNK):
        square += ((_bounded(X[start : start + _CHUNK]) - mean) ** 2).sum(axis=axes)
    deviation = np.sqrt(square / n_values)
    # A column whose spread is rounding noise around its mean is constant: dividing by that noise would blow it up. Relative to the mean
    # alone, because a column in farads varies by 1e-12.
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)


def _bounded(x: Any) -> Any:
    limit = _LIMITS.get(x.dtype.itemsize)
    return x if limit is None else x.clip(-limit, limit)
