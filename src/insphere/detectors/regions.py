"""Regions of interest: which part of every picture a detector looks at."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import IMAGE_SUFFIXES
from insphere.errors import DataError, ParameterError

_INSIDE = 127  # grey levels of a region's image above which a pixel is inside
_RULE = "an image file, or (top, left, bottom, right) as shares of height and width with 0 <= top < bottom <= 1 and so for left"


def check_region(name: str, roi: Any) -> None:
    """Raise `ParameterError` unless a region is none, a path, or a box; no file is read.

    Examples
    --------
    >>> check_region("roi", (0.1, 0.0, 0.9, 1.0))
    """
    if isinstance(roi, str | os.PathLike):
        if not os.fspath(roi).lower().endswith(IMAGE_SUFFIXES):
            raise ParameterError(
                f"`{name}` must be {_RULE}, got {roi!r}, which does not end as an image does ({', '.join(IMAGE_SUFFIXES[:3])}, …)."
            )
        return
    if roi is None:
        return
    try:
        top, left, bottom, right = (float(value) for value in roi)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"`{name}` must be {_RULE}, got {roi!r}.") from error
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        raise ParameterError(f"`{name}` must be {_RULE}, got {roi!r}.")


def region_at(roi: Any, height: int, width: int) -> NDArray[np.bool_] | None:
    """Return which pixels of a picture of that size are inside a region; None where all are.

    Raises
    ------
    DataError
        If the region's image cannot be read, or nothing of the picture is inside.

    Examples
    --------
    >>> region_at((0.0, 0.5, 1.0, 1.0), 1, 4).tolist()
    [[False, False, True, True]]
    """
    if roi is None:
        return None
    if isinstance(roi, str | os.PathLike):
        inside = _drawn(roi, height, width)
    else:
        top, left, bottom, right = (float(value) for value in roi)
        rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        inside = ((rows >= top) & (rows < bottom))[:, np.newaxis] & ((columns >= left) & (columns < right))
    if not inside.any():
        raise DataError(f"Nothing of the pictures lies in the region of interest {roi!r}; draw it white on black, or give a larger box.")
    return inside


def _drawn(path: str | os.PathLike[str], height: int, width: int) -> NDArray[np.bool_]:
    from insphere.data import ImageSpec, decode

    try:
        pixels = decode(os.fspath(path), ImageSpec(height, width, 1, "float32"))
    except (OSError, DataError) as error:
        raise DataError(f"The region of interest {os.fspath(path)} cannot be read as an image: {error}") from error
    return np.asarray(pixels[..., 0] > _INSIDE)
