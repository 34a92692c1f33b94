"""The size, channels and type that images of a source are brought to, from their headers and what the user asks for."""

from collections.abc import Callable, Sequence

import numpy as np

from insphere.data.images import ImageHeader, ImageSpec
from insphere.validation import check_choice, check_integer

LONGEST_SIDE = 64
"""Longer side, in pixels, to which larger images are scaled when no size is asked for."""


def choose_spec(
    headers: Sequence[ImageHeader],
    *,
    image_size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    sized: Callable[[float, float], tuple[int, int]] | None = None,
    jpeg_draft: bool = False,
) -> ImageSpec:
    """Return the spec for images with these headers.

    One common size is kept, several give their median height and width; both are scaled so that the longer side is at most
    `LONGEST_SIDE`. Grey if every image is grey. "float32" if any image has 16 bits.

    Parameters
    ----------
    headers : sequence of ImageHeader
        At least one.
    image_size : int or (int, int), optional
        Asked-for size in pixels: side of a square, or (height, width).
    mode : {"auto", "grey", "rgb"}
        Asked-for channels.
    sized : callable, optional
        Gives height and width to bring images to from their common or median height and width, where no size is asked for; default:
        `small_size`.
    jpeg_draft : bool
        See `ImageSpec`.

    Examples
    --------
    >>> choose_spec([ImageHeader(100, 200, "grey"), ImageHeader(100, 220, "grey")])
    ImageSpec(height=30, width=64, channels=1, dtype='uint8')
    """
    check_choice("mode", mode, ("auto", "grey", "rgb"))
    kinds = {header.kind for header in headers}
    channels = {"grey": 1, "rgb": 3}.get(mode) or (3 if "rgb" in kinds else 1)
    size = (sized or small_size)(*natural_size(headers)) if image_size is None else check_image_size(image_size)
    return ImageSpec(*size, channels, "float32" if "grey16" in kinds else "uint8", jpeg_draft)


def natural_size(headers: Sequence[ImageHeader]) -> tuple[float, float]:
    """Return the common, or median, height and width of images with these headers.

    Examples
    --------
    >>> natural_size([ImageHeader(10, 20, "grey"), ImageHeader(12, 20, "grey")])
    (11.0, 20.0)
    """
    return float(np.median([header.height for header in headers])), float(np.median([header.width for header in headers]))


def small_size(height: float, width: float) -> tuple[int, int]:
    """Return the size scaled so that the longer side has `LONGEST_SIDE` pixels at most.

    Examples
    --------
    >>> small_size(600, 800), small_size(24, 40)
    ((48, 64), (24, 40))
    """
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def check_image_size(image_size: object) -> tuple[int, int]:
    """Return `image_size` as (height, width) in pixels: N means a square.

    Raises
    ------
    ParameterError
        If it is neither a whole number nor a pair of them, or one is below 1.

    Examples
    --------
    >>> check_image_size(32)
    (32, 32)
    """
    pair = tuple(image_size) if isinstance(image_size, tuple | list) and len(image_size) == 2 else (image_size, image_size)
    return check_integer("image_size", pair[0], at_least=1), check_integer("image_size", pair[1], at_least=1)


def lost_marks(natural: tuple[float, float], size: tuple[int, int]) -> int:
    """Return the number of pixels below which a mark vanishes when pictures are shrunk: it becomes less than a pixel; 1 if they are not.

    Parameters
    ----------
    natural, size : (height, width)
        In pixels, before and after.

    Examples
    --------
    >>> lost_marks((600, 800), (48, 64))
    12
    """
    return max(1, int(max(natural[0] / size[0], natural[1] / size[1])))
