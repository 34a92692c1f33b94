"""Image formats that others add: a suffix and a function that decodes, from an installed package or from the environment.

A package offers them as entry points in the group ``insphere.decoders``, the name being the suffix; for a file of one's own,
``INSPHERE_DECODERS=".dots=my_module:decode"`` does the same (several with commas between them).
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from insphere.errors import DataError, ParameterError
from insphere.extensions import imported, installed

if TYPE_CHECKING:
    from PIL.Image import Image

GROUP = "insphere.decoders"
VARIABLE = "INSPHERE_DECODERS"


def decoders() -> dict[str, str]:
    """Return the suffix and ``module:name`` of each decoder of others; nothing is imported.

    Examples
    --------
    >>> decoders()
    {}

    Raises
    ------
    ParameterError
        If the environment variable is of another form.
    """
    named = [word.partition("=") for word in os.environ.get(VARIABLE, "").split(",") if word.strip()]
    for suffix, equals, target in named:
        if not equals or not suffix.strip() or ":" not in target:
            raise ParameterError(
                f"{VARIABLE} must be SUFFIX=module:function, several with commas between them, got {suffix + equals + target!r}."
            )
    own = {suffix.strip(): target.strip() for suffix, _, target in named}
    return {_suffix(name): target for name, target in (installed(GROUP) | own).items()}


def _suffix(name: str) -> str:
    return name.lower() if name.startswith(".") else f".{name.lower()}"


def decoded(data: bytes) -> "tuple[Image | None, str]":
    """Return an image that one of the decoders of others reads, None where none does, and why each that was asked does not.

    A decoder takes the bytes of a file and returns an array, uint8 or uint16, of shape (height, width) or (height, width, 3), or a Pillow
    image; it raises ValueError for bytes that are not of its format.

    Raises
    ------
    DataError
        If what it returns is not an image.
    """
    reasons = []
    for target in dict.fromkeys(decoders().values()):
        decode = imported(target)
        try:
            found = decode(data)
        except Exception as error:  # of another format, or damaged: code of others raises almost anything
            reasons.append(f"{target}: {error}" if isinstance(error, ValueError) else f"{target}: {type(error).__name__}: {error}")
            continue
        return _as_image(found, target), ""
    return None, "; ".join(reasons)


def _as_image(found: Any, target: str) -> "Image":
    from PIL import Image

    if isinstance(found, Image.Image):
        return found
    pixels = np.asarray(found)
    grey = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
    if grey or (pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8):
        return Image.fromarray(pixels)
    raise DataError(
        f"the decoder {target} returned {pixels.dtype} of shape {pixels.shape}; it must return uint8 or uint16 of shape (height, width),"
        " uint8 of shape (height, width, 3), or a Pillow image."
    )
