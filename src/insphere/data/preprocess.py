"""Scaling of rows before a detector sees them: fitted on training rows only, stored with the model."""

import dataclasses
import functools
import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from insphere.errors import ParameterError
from insphere.validation import check_choice

Scaling = Literal["auto", "none", "unit", "standard", "robust", "gcn", "gcn-unit", "whiten"]
"""Names of the scalings: see `fit_preprocess`."""

MOST_WHITENED = 4096
"""Values of a row at most that are whitened: the matrix, 64 MiB then, is a part of the model file."""

CLIP = 1e4
"""Scaled values are kept within ±CLIP, so that a broken sensor's 1e30 gives a large score instead of an overflow."""

_LIMITS = {4: 1e15, 8: 1e120}
"""Largest value, by bytes per value, whose square can still be summed over many rows and pixels without an overflow."""

_CHUNK = 4096
_WHITENED_VALUES = 2**26  # that the covariance is taken from: of more rows, evenly spaced ones
_QUARTILE_VALUES = 2**26
_FLOOR = 1e-6  # of the variance in a direction, in units of the mean one: where features add up exactly, rounding is all there is


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """A fitted scaling: optional contrast normalisation of each row, then ``(x - offset) / scale``, clipped; then arcsinh or whitening.

    Attributes
    ----------
    scaling : str
        Which rule was fitted: a `Scaling` but "auto".
    offset, scale : ndarray of float64, shape (1,), (channels,) or (features,)
        Constants of the affine map; they broadcast along the last axis.
    mean : ndarray of float64, shape (values of a row,), optional
        What is subtracted before a row is whitened.
    whitening : ndarray of float32, shape (values of a row, values of a row), optional
        Symmetric matrix that a row, as one vector, is multiplied by; None where nothing is whitened. The matrix is that of single
        precision, in which a model file holds it.
    """

    scaling: str
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    mean: NDArray[np.float64] | None = None
    whitening: NDArray[np.float32] | None = None

    def apply(self, x: Any) -> Any:
        """Return the scaled rows as an array of the same kind.

        Parameters
        ----------
        x : numpy array or torch tensor of floating type, shape (n, height, width, channels) or (n, features)

        Notes
        -----
        Only operators and methods that numpy and PyTorch share are used: training, scoring and exact tests run the same lines.
        """
        x = bounded(x)
        if self.scaling in ("gcn", "gcn-unit"):
            x = contrast_normalise(x)
        offset, scale = self.offset, self.scale
        if not isinstance(x, np.ndarray):
            offset, scale = x.new_tensor(offset), x.new_tensor(scale)
        else:
            offset, scale = offset.astype(x.dtype), scale.astype(x.dtype)
        scaled = ((x - offset) / scale).clip(-CLIP, CLIP)
        if self.scaling == "robust":
            return np.arcsinh(scaled) if isinstance(scaled, np.ndarray) else _arcsinh(scaled)
        return scaled if self.whitening is None else self._whitened(scaled)

    def _whitened(self, x: Any) -> Any:
        flat = x.reshape(x.shape[0], -1)
        if isinstance(x, np.ndarray):
            # A product for each row, so that a row's values don't depend on those beside it.
            centred = flat - np.asarray(self.mean, dtype=x.dtype)
            white = (centred[:, np.newaxis, :] @ np.asarray(self.whitening, dtype=x.dtype))[:, 0]
        else:
            white = (flat - x.new_tensor(self.mean)) @ x.new_tensor(self.whitening)
        return white.clip(-CLIP, CLIP).reshape(x.shape)

    def unapplied(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw rows whose scaled values, within the clip, are `values`; contrast that was taken from a row is not given back."""
        linear = np.sinh(values) if self.scaling == "robust" else self.unwhitened(values)
        return np.asarray(linear * self.scale + self.offset, dtype=np.float64)

    def unwhitened(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values before whitening from those after it; the same where nothing is whitened."""
        if self.whitening is None:
            return values
        mean = 0.0 if self.mean is None else self.mean
        return np.asarray(values.reshape(len(values), -1) @ self._unwhitening + mean).reshape(values.shape)

    @functools.cached_property
    def _unwhitening(self) -> NDArray[np.float64]:
        return np.linalg.inv(np.asarray(self.whitening, dtype=np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays that there are, by the names of the attributes."""
        named = {"offset": self.offset, "scale": self.scale, "mean": self.mean, "whitening": self.whitening}
        return {name: array for name, array in named.items() if array is not None}

    def equals(self, other: "Preprocess") -> bool:
        """Return whether another scaling does exactly the same."""
        own, others = self.arrays(), other.arrays()
        return (
            self.scaling == other.scaling and own.keys() == others.keys() and all(np.array_equal(own[name], others[name]) for name in own)
        )


def _arcsinh(x: Any) -> Any:
    """Return the inverse hyperbolic sine of a tensor, by functions that runtimes of graphs have in double precision too."""
    return x.sign() * (x.abs() + (x * x + 1).sqrt()).log()


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
    scaling : {"auto", "none", "unit", "standard", "robust", "gcn", "gcn-unit", "whiten"}
        "unit" maps the range (0..255 for uint8 images, else the training minimum and maximum, per feature for vectors) to [0, 1];
        "standard" gives each channel or feature mean 0 and variance 1; "robust" takes the median and the range between the quartiles
        instead, and then the inverse hyperbolic sine, which is a logarithm far out: for heavy tails; "gcn" normalises each row's
        contrast; "gcn-unit" does so too and maps the training range to [0, 1] (Ruff 2018); "whiten" standardises and then gives the
        training rows, all pixels or features together, a covariance near the identity, see `_whitening`; "auto" is "gcn" for images and
        "standard" for vectors.

    Raises
    ------
    ParameterError
        If the name is unknown, or rows to be whitened have more than `MOST_WHITENED` values.

    Examples
    --------
    >>> fit_preprocess(np.zeros((2, 4, 4, 1), np.uint8), "unit").scale
    array([255.])
    """
    check_choice("scaling", scaling, get_args(Scaling))
    is_image = X.ndim == 4
    if scaling == "auto":
        scaling = "gcn" if is_image else "standard"
    if scaling in ("none", "gcn"):
        offset, scale = np.zeros(1), np.ones(1)
    elif scaling in ("standard", "whiten"):
        offset, scale = _moments(X)
    elif scaling == "robust":
        offset, scale = _quartiles(X)
    elif scaling == "unit" and is_image and X.dtype == np.uint8:
        offset, scale = np.zeros(1), np.full(1, 255.0)
    else:
        low, high = _value_range(X, per_column=not is_image, contrast=scaling == "gcn-unit")
        offset, scale = low, high - low
    fitted = Preprocess(scaling, offset, np.where(scale > 0, scale, 1.0))
    if scaling != "whiten":
        return fitted
    mean, whitening = _whitening(fitted, X)
    return dataclasses.replace(fitted, mean=mean, whitening=whitening)


def _whitening(standard: Preprocess, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the mean of standardised training rows, as vectors, and the inverse symmetric root of their covariance.

    The covariance S is shrunk to (1 − s)·S + s·m·I with m the mean variance and s as Ledoit and Wolf (2004) estimate it; values that are
    constant are left as they are. Of all matrices that whiten, the symmetric one changes rows the least (ZCA), so that a whitened feature
    still belongs to its feature, and a whitened picture is one.
    """
    from sklearn.covariance import ledoit_wolf

    d = math.prod(X.shape[1:])
    if d > MOST_WHITENED:
        shape = " × ".join(map(str, X.shape[1:]))
        smaller = "bring images to a smaller size (--image-size), or " if X.ndim == 4 else ""
        raise ParameterError(
            f'`scaling="whiten"` takes rows of at most {MOST_WHITENED} values, got {d} ({shape}); {smaller}take scaling="standard".'
        )
    n_most = max(2, _WHITENED_VALUES // d)
    chosen = X if len(X) <= n_most else X[np.linspace(0, len(X) - 1, n_most).round().astype(np.int64)]
    rows = standard.apply(chosen.astype(np.float64)).reshape(len(chosen), d)
    mean = rows.mean(axis=0)
    rows -= mean
    varied = rows.std(axis=0) > 1e-12
    matrix = np.eye(d)
    if len(rows) > 1 and varied.any():
        covariance, _ = ledoit_wolf(rows[:, varied], assume_centered=True)
        variances, directions = np.linalg.eigh(covariance)
        roots = np.sqrt(np.maximum(variances, _FLOOR * variances.mean()))
        matrix[np.ix_(varied, varied)] = (directions / roots) @ directions.T
    return mean, matrix.astype(np.float32)


def _value_range(X: NDArray[Any], *, per_column: bool, contrast: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axes = (0,) if per_column else tuple(range(X.ndim))
    lows, highs = [], []
    for start in range(0, len(X), _CHUNK):
        chunk = bounded(X[start : start + _CHUNK]).astype(np.float64)
        chunk = contrast_normalise(chunk) if contrast else chunk
        lows.append(chunk.min(axis=axes))
        highs.append(chunk.max(axis=axes))
    return np.atleast_1d(np.min(lows, axis=0)), np.atleast_1d(np.max(highs, axis=0))


def _moments(X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axes = tuple(range(X.ndim - 1))
    n_values = X.size / X.shape[-1]
    total, square = np.zeros(X.shape[-1]), np.zeros(X.shape[-1])
    for start in range(0, len(X), _CHUNK):
        total += bounded(X[start : start + _CHUNK]).sum(axis=axes, dtype=np.float64)
    mean = total / n_values
    for start in range(0, len(X), _CHUNK):
        square += ((bounded(X[start : start + _CHUNK]) - mean) ** 2).sum(axis=axes)
    deviation = np.sqrt(square / n_values)
    # A column whose spread is rounding noise around its mean is constant: dividing by that noise would blow it up. Relative to the mean
    # alone, because a column in farads varies by 1e-12.
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)


def _quartiles(X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of each channel or feature, and the range between its quartiles.

    Where more than half of the values are equal, that range says nothing of the others: it is a tenth of the standard deviation at least.
    Of very many rows, evenly spaced ones are looked at.
    """
    _, deviation = _moments(X)
    n_most = max(2, _QUARTILE_VALUES // max(1, math.prod(X.shape[1:])))
    chosen = X if len(X) <= n_most else X[np.linspace(0, len(X) - 1, n_most).round().astype(np.int64)]
    values = bounded(chosen).reshape(-1, X.shape[-1]).astype(np.float64)
    low, middle, high = np.percentile(values, (25, 50, 75), axis=0)
    return middle, np.where(deviation > 0, np.maximum(high - low, 0.1 * deviation), 0.0)


def bounded(x: Any) -> Any:
    """Return rows, of any shape, with no value so large that squares of it cannot be summed: 1e15 in single and 1e120 in double precision.

    Examples
    --------
    >>> bounded(np.array([-1e200, 2.0])).tolist()
    [-1e+120, 2.0]
    """
    limit = _LIMITS.get(x.dtype.itemsize)
    return x if limit is None else x.clip(-limit, limit)
