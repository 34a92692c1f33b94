"""Masks: images that say which pixels of a picture are defective."""

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import decode_upright
from insphere.validation import check_integer

_MIDDLE = 127  # of 255


def decode_mask(data: bytes) -> NDArray[np.bool_]:
    """Decode a mask, at its own upright size.

    A pixel is marked where it is not black, in any colour or class number, of any depth; in JPEG and WebP, which blur edges, where
    it is brighter than the middle. What is transparent is not marked.

    Returns
    -------
    ndarray of bool, shape (height, width)
        True where the picture is defective.

    Raises
    ------
    DataError
        As `insphere.data.decode`.

    Examples
    --------
    >>> decode_mask(b"P5 3 1 255 " + bytes([0, 1, 255])).tolist()
    [[False, True, True]]
    """
    from PIL import Image

    image = decode_upright(data)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    if image.mode[0] in "IF":  # one number a pixel, of more than 8 bits
        return np.asarray(np.asarray(image) > 0)
    is_lossy = data[:2] == b"\xff\xd8" or data[8:12] == b"WEBP"
    return np.asarray(np.asarray(image.convert("RGB")).max(axis=2) > (_MIDDLE if is_lossy else 0))


def mask_at_size(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Return a mask at another size: a pixel is marked where any part of it was, so that no small defect vanishes.

    Examples
    --------
    >>> mask_at_size(np.array([[True, False, False, False]]), 1, 2).tolist()
    [[True, False]]
    """
    from PIL import Image

    check_integer("height", height, at_least=1)
    check_integer("width", width, at_least=1)
    if mask.shape == (height, width):
        return mask
    shares = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(np.asarray(shares) > 0)
