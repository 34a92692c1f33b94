"""A heat-map laid over its image."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from insphere.errors import DataError
from insphere.validation import check_number

HEAT_COLORS = "inferno"
"""Colour map of heat: its brightness alone tells the order, so it reads the same with any colour vision, and in grey print."""

_STRONGEST = 0.75  # share of the colour where the heat is highest; the image stays visible


def overlay(image: NDArray[Any], heatmap: NDArray[Any], *, maximum: float | None = None) -> NDArray[np.uint8]:
    """Return an image with its heat-map laid over it.

    Parameters
    ----------
    image : ndarray, shape (height, width, channels) or (height, width)
        Pixels in 0..255; three channels are RGB, of others the first is shown grey.
    heatmap : ndarray, shape (height, width)
        Heat, at least 0; where it is 0 the image is as it was.
    maximum : float, optional
        Heat that gets the brightest colour, at least 0. Default: the highest of this heat-map; give `Explanation.heat_limit` to compare
        images.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    DataError
        If the sizes differ, or the heat-map has a value that is negative or not finite.

    Examples
    --------
    >>> overlay(np.full((1, 2, 1), 100, np.uint8), np.array([[0.0, 1.0]])).tolist()
    [[[100, 100, 100], [214, 216, 148]]]
    """
    shown = as_rgb(image)
    if heatmap.shape != shown.shape[:2]:
        raise DataError(f"The heat-map must have the image's height and width {shown.shape[:2]}, got shape {heatmap.shape}.")
    if not np.isfinite(heatmap).all() or (heatmap < 0).any():
        raise DataError("The heat-map must have finite values of at least 0.")
    limit = float(heatmap.max()) if maximum is None else check_number("maximum", maximum, at_least=0)
    heat = np.clip(heatmap / limit, 0.0, 1.0) if limit > 0 else np.zeros(heatmap.shape)
    colors = 255.0 * colormaps[HEAT_COLORS](heat)[:, :, :3]
    strength = _STRONGEST * heat[:, :, np.newaxis]
    return np.rint((1 - strength) * shown + strength * colors).astype(np.uint8)


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (height, width) or (height, width, channels) with pixels in 0..255 as uint8 RGB.

    Examples
    --------
    >>> as_rgb(np.array([[[300.0], [-1.0]]])).tolist()
    [[[255, 255, 255], [0, 0, 0]]]
    """
    if image.ndim not in (2, 3) or not image.size:
        raise DataError(f"An image must have the shape (height, width) or (height, width, channels), got {image.shape}.")
    pixels = image[:, :, np.newaxis] if image.ndim == 2 else image
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(np.asarray(pixels, dtype=np.float64)), 0, 255)).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
