"""What kind an opened image is, and what of it will not be in its array."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_MODES = ("1", "L", "LA", "La", "F")
_COLOURED = 24  # levels between the strongest and the weakest of red, green and blue, of 255


def remarks(image: "Image", *, to_grey: bool, deep: bool = False) -> dict[str, int]:
    """Return what of a decoded image is not in its array: see `insphere.data.images.decode_telling`.

    Parameters
    ----------
    image : Image
    to_grey : bool
        Whether the array is grey.
    deep : bool
        Whether it had more bits than are kept, before it was decoded.
    """
    found = {"colour": int(to_grey and has_colour(image)), "depth": int(deep), "pages": _n_pages(image) - 1}
    return {kind: amount for kind, amount in found.items() if amount > 0}


def _n_pages(image: "Image") -> int:
    """Return the number of pages or frames; one where those after the first are damaged, which the first does not mind."""
    place = image.tell()
    try:
        n_pages = int(getattr(image, "n_frames", 1))
        image.seek(place)
    # Pillow's readers raise almost any type on damaged bytes.
    except Exception:
        return 1
    return n_pages


def is_grey(image: "Image") -> bool:
    """Return whether an image is grey by its mode or, if it has a palette, by every entry of it."""
    if image.mode != "P":
        return image.mode in _GREY_MODES
    # The one case in which more than the header is read: Pillow gives some palettes only after decoding.
    entries = np.array(image.getpalette("RGB") or [0, 0, 1]).reshape(-1, 3)
    return bool((entries == entries[:, :1]).all())


def has_colour(image: "Image") -> bool:
    """Return whether some pixel is not grey by more than what compression adds."""
    if is_deep(image) or image.mode == "F" or is_grey(image):
        return False
    pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    return bool((pixels.max(axis=2) - pixels.min(axis=2) > _COLOURED).any())


def is_deep_colour(image: "Image") -> bool:
    """Return whether an image that is not decoded yet has more than the 8 bits a colour that Pillow reads."""
    arguments = [str(part) for tile in getattr(image, "tile", ()) for part in tile[3:]]
    return image.mode in ("RGB", "RGBA", "LA") and any("16" in text or "12" in text for text in arguments)


def is_deep(image: "Image") -> bool:
    """Return whether an image is grey with more than 8 bits."""
    return image.mode == "I" or image.mode.startswith("I;16")
