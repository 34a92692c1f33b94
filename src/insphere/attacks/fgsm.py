"""The fast gradient sign method: every pixel one step of the same size, each in the direction that raises a loss."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.errors import DataError
from insphere.validation import check_integer


def fgsm(images: NDArray[np.uint8], gradient: NDArray[Any], epsilon: int) -> NDArray[np.uint8]:
    """Return images changed by at most `epsilon` levels a pixel so that what `gradient` is of rises.

    Parameters
    ----------
    images : ndarray of uint8
        Pixels in 0..255.
    gradient : ndarray, same shape
        Gradient of a loss in the pixels; its sign counts only. Where it is zero the pixel stays.
    epsilon : int
        Step in pixel levels, in 0..255: the attack's epsilon times 255. As pixels are whole numbers, no rounding follows.

    Returns
    -------
    ndarray of uint8, same shape
        Pixels in 0..255.

    Raises
    ------
    DataError
        If the images are not uint8, or the gradient has another shape or NaN in it.
    ParameterError
        If `epsilon` is out of range.

    Notes
    -----
    Source: Goodfellow 2015, eq. in sec. 4. Deviation: none.

    Examples
    --------
    >>> fgsm(np.array([[3, 250, 7]], dtype=np.uint8), np.array([[-0.5, 2.0, 0.0]]), 8)
    array([[  0, 255,   7]], dtype=uint8)
    """
    check_integer("epsilon", epsilon, at_least=0, at_most=255)
    if images.dtype != np.uint8:
        raise DataError(f"An attack changes images in whole levels from 0 to 255, so they must be uint8, got {images.dtype}.")
    if gradient.shape != images.shape or np.isnan(gradient).any():
        raise DataError(f"`gradient` must have a number for every pixel, shape {images.shape}, got shape {gradient.shape} or NaN in it.")
    step = epsilon * np.sign(gradient).astype(np.int16)
    attacked: NDArray[np.uint8] = (images.astype(np.int16) + step).clip(0, 255).astype(np.uint8)
    return attacked
