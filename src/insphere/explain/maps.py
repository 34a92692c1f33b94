"""Heat-maps that detectors give with their scores, drawn over the pictures at their own size.

Such a map is in units of held-out normal pictures: 1 is the level that the highest place of a normal picture exceeds with a probability of
`target_fpr` at most. Colours and contours follow these units, so that they mean the same in every picture.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from insphere.data import AbstractSource, ImageSource, ImageSpec
from insphere.data.images import bring_to, decode_upright
from insphere.data.stores import reason
from insphere.errors import DataError
from insphere.explain.overlays import as_rgb, overlay

LEVEL = 1.0
"""Where the contour of a map is drawn."""

CALM, STRIKING = 0.7, 1.8
"""Values of a map up to which nothing is coloured, and from which on the colour is the brightest."""

CONTOUR_COLOR, MASK_COLOR = (0, 229, 255), (255, 255, 255)
"""RGB of the contour of a map (cyan) and of a mask (white, dashed)."""

_LINES_PER_SIDE = 300  # a line is as thick as that part of the longer side

PictureOf = Callable[[int], NDArray[np.uint8]]


def at_size(heatmap: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Return a map brought to a picture's size in pixels, straight between the middles of its places.

    Examples
    --------
    >>> at_size(np.array([[0.0, 1.0]]), 1, 4).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    values = Image.fromarray(np.asarray(heatmap, dtype=np.float32))
    return np.asarray(values.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def draw_map(picture: NDArray[Any], heatmap: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Return a picture with its map laid over it, the contour of `LEVEL` in cyan and that of its mask in dashed white.

    Parameters
    ----------
    picture : ndarray, shape (height, width) or (height, width, channels)
        Pixels in 0..255.
    heatmap : ndarray, shape (map height, map width)
        Of any size; it is brought to the picture's.
    mask : ndarray of bool, shape (height, width), optional
        True where the picture is known to be defective.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    DataError
        If the mask is of another size than the picture, or the map has a value that is not finite.

    Examples
    --------
    >>> draw_map(np.full((1, 4), 9, np.uint8), np.array([[0.4, 0.7]])).tolist()
    [[[9, 9, 9], [9, 9, 9], [9, 9, 9], [9, 9, 9]]]
    """
    shown = as_rgb(picture)
    height, width = shown.shape[:2]
    if mask is not None and mask.shape != (height, width):
        raise DataError(f"The mask must have the picture's height and width {(height, width)}, got shape {mask.shape}.")
    heat = at_size(heatmap, height, width)
    if not np.isfinite(heat).all():
        raise DataError("The heat-map must have finite values.")
    drawn, coloured = shown.copy(), heat > CALM
    if coloured.any():  # the others stay as they are, and most of a photo is calm
        drawn[coloured] = overlay(shown[coloured][np.newaxis], heat[coloured][np.newaxis] - CALM, maximum=STRIKING - CALM)[0]
    thickness = max(1, round(max(height, width) / _LINES_PER_SIDE))
    drawn[_edge(heat >= LEVEL, thickness)] = CONTOUR_COLOR
    if mask is not None:
        down, right = np.indices((height, width), sparse=True)
        dashes = ((down + right) // (4 * thickness)) % 2 == 0
        drawn[_edge(mask, thickness) & dashes] = MASK_COLOR
    return drawn


@contextmanager
def opened_pictures(source: AbstractSource) -> Iterator[PictureOf]:
    """Give the function that returns the picture at a position: RGB, uint8, of image files at their own upright size.

    The function raises `DataError` if the picture cannot be read.
    """
    if not isinstance(source, ImageSource):
        yield lambda position: as_rgb(source.take([position]).load().X[0])
        return
    with source.opened() as open_row:

        def picture_of(position: int) -> NDArray[np.uint8]:
            try:
                with open_row(position) as file:
                    image = decode_upright(file.read())
                return np.asarray(bring_to(image, ImageSpec(image.size[1], image.size[0], 3)))
            except Exception as error:  # as for a row: damaged bytes do anything to a reader
                raise DataError(reason(error)) from error

        yield picture_of


def _edge(inside: NDArray[np.bool_], thickness: int) -> NDArray[np.bool_]:
    """Return the places inside from which one outside is at most `thickness` pixels away, up, down, left or right."""
    padded = np.pad(inside, thickness, mode="edge")  # the border of the picture does not count as an edge
    height, width = inside.shape
    core = inside.copy()
    for down, right in ((0, thickness), (2 * thickness, thickness), (thickness, 0), (thickness, 2 * thickness)):
        core &= padded[down : down + height, right : right + width]
    return inside & ~core
