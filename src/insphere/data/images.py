"""Encoded images to arrays: one stated rule for grey, colour, palette, transparency, 16 bits, orientation and size.

Pillow is imported inside the functions, because the command line must start fast even when no image is read.
"""

import io
import os
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insphere.data.decoders import decoded, decoders
from insphere.data.image_kinds import is_deep, is_deep_colour, is_grey, remarks
from insphere.errors import DataError, ParameterError
from insphere.validation import check_choice, check_integer

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_478_485
"""Most pixels (height times width) an image may have to be decoded; Pillow's own limit."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", *decoders())

# Formats are named one by one so that Pillow never tries one that starts another program (EPS calls Ghostscript).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ORIENTATION_TAG = 0x0112
# Value of the EXIF tag -> Pillow's `Transpose` member that turns the stored pixels upright.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


Encoded = bytes | str | os.PathLike[str] | IO[bytes]


@dataclass(frozen=True)
class ImageSpec:
    """Height, width, channels and type that every image of a source is brought to; stored with a model as JSON.

    Parameters
    ----------
    height, width : int
        Pixels, at least 1.
    channels : int
        1 (grey) or 3 (RGB) for image files; arrays may have any number.
    dtype : {"uint8", "float32", "float64"}
        Values are in 0..255 in all; the floating types keep the fractions of 16-bit images (value / 257).
    jpeg_draft : bool
        Whether JPEG files are decoded at the smallest of 1/8, 1/4, 1/2 and all of their size that is not below `height` and `width`, from
        which they are then brought to it: faster for large photos, with pixels, and so scores, that differ a little. It is a part of the
        specification, so a model scores files as it was fitted on them.

    Raises
    ------
    ParameterError
        If a field breaks its rule.

    Examples
    --------
    >>> ImageSpec(24, 40, 1).shape
    (24, 40, 1)
    """

    height: int
    width: int
    channels: int
    dtype: str = "uint8"
    jpeg_draft: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        check_integer("height", self.height, at_least=1)
        check_integer("width", self.width, at_least=1)
        check_integer("height * width", int(self.height) * int(self.width), at_most=MAX_PIXELS)
        check_integer("channels", self.channels, at_least=1)
        check_choice("dtype", self.dtype, ("uint8", "float32", "float64"))
        if not isinstance(self.jpeg_draft, bool):
            raise ParameterError(f"`jpeg_draft` must be True or False, got {self.jpeg_draft!r}.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (height, width, channels) of one image."""
        return (self.height, self.width, self.channels)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict; ``ImageSpec(**fields)`` reads it back."""
        # Without what is not asked for, so that older versions read the files of models that do without it.
        return {name: value for name, value in asdict(self).items() if name != "jpeg_draft" or value}


class ImageHeader(NamedTuple):
    """What the header of an image says: upright size in pixels and kind ("grey", "grey16" or "rgb").

    Examples
    --------
    >>> ImageHeader(24, 40, "grey").width
    40
    """

    height: int
    width: int
    kind: str


def probe(data: Encoded) -> ImageHeader:
    """Read the header (and palette) only and return the upright height, width and kind of an image.

    Parameters
    ----------
    data : bytes, path or binary file
        The encoded image.

    Raises
    ------
    DataError
        If it is not an image in a format that is read, or it has more than `MAX_PIXELS` pixels.

    Examples
    --------
    >>> probe(b"P5 3 2 255 " + bytes(6))
    ImageHeader(height=2, width=3, kind='grey')
    """
    from PIL import Image

    try:
        with _open(data) as image:
            # The base class's method: the PNG one would decode all pixels in search of a trailing EXIF chunk.
            orientation = _orientation(lambda: Image.Image.getexif(image))
            width, height = _stored_size(image)
            kind = "grey16" if is_deep(image) else "grey" if is_grey(image) else "rgb"
    except DataError:
        raise
    except Exception as error:
        raise _undecodable(error) from error
    return ImageHeader(width, height, kind) if orientation >= 5 else ImageHeader(height, width, kind)


def header_of(image: "Image") -> ImageHeader:
    """Return the header of an image that Pillow has opened: its size as it is, and its kind."""
    kind = "grey16" if is_deep(image) else "grey" if is_grey(image) else "rgb"
    return ImageHeader(image.size[1], image.size[0], kind)


def decode(data: Encoded, spec: ImageSpec) -> NDArray[Any]:
    """Decode an image and bring it to `spec`.

    Turned upright by its EXIF orientation (unreadable EXIF counts as upright); transparency is laid over white; of animations
    and multi-page files the first picture is read; colour to grey is ITU-R 601; sizes are changed by Pillow's bilinear filter
    with antialiasing, from a fraction of a JPEG file's size where `spec.jpeg_draft` says so.
    16-bit grey is divided by 257 (so 0..255), rounded if `spec.dtype` is "uint8". 16-bit colour is read with 8 bits.

    Parameters
    ----------
    data : bytes, path or binary file
        The encoded image.
    spec : ImageSpec
        What to bring it to.

    Returns
    -------
    ndarray of shape (height, width, channels)
        Values in 0..255 of type `spec.dtype`.

    Raises
    ------
    DataError
        If it is not an image, is truncated or damaged, holds floating-point pixels or has more than `MAX_PIXELS` pixels.

    Examples
    --------
    >>> decode(b"P5 2 1 255 " + bytes([0, 255]), ImageSpec(1, 2, 1)).ravel().tolist()
    [0, 255]
    """
    return decode_telling(data, spec)[0]


def decode_telling(data: Encoded, spec: ImageSpec) -> tuple[NDArray[Any], dict[str, int]]:
    """Decode as `decode` does, and tell what of the image is not in the array.

    Returns
    -------
    array : ndarray of shape (height, width, channels)
    remarks : dict
        "pages": how many pages or frames follow the first; "colour": 1 where colours became grey; "depth": 1 where grey or colours had
        more bits than are kept. What is not the case is not there.

    Raises
    ------
    DataError
        As `decode`.
    """
    try:
        with _open(data) as image:
            deep = is_deep_colour(image) or (spec.dtype == "uint8" and is_deep(image))
            if spec.jpeg_draft:
                _draft(image, spec)
            pixels = bring_to(_turned_upright(image), spec)
            return pixels, remarks(image, to_grey=spec.channels == 1, deep=deep)
    except DataError:
        raise
    # Pillow's readers raise almost any type on damaged bytes (SyntaxError, struct.error, IndexError, zlib.error, MemoryError, ...).
    except Exception as error:
        raise _undecodable(error) from error


def _draft(image: "Image", spec: ImageSpec) -> None:
    """Have a JPEG image decoded at a fraction of its size that is not below that of `spec`; others stay as they are."""
    height, width = (spec.width, spec.height) if _orientation(image.getexif) >= 5 else (spec.height, spec.width)
    image.draft(None, (width, height))


def decode_upright(data: Encoded) -> "Image":
    """Decode an image and turn it upright by its EXIF orientation; its size and kind stay as they are.

    Raises
    ------
    DataError
        If it is not an image, is truncated or damaged, or has more than `MAX_PIXELS` pixels.

    Examples
    --------
    >>> decode_upright(b"P5 2 1 255 " + bytes(2)).size
    (2, 1)
    """
    try:
        with _open(data) as image:
            return _turned_upright(image).copy()
    except DataError:
        raise
    except Exception as error:  # as in `decode_telling`
        raise _undecodable(error) from error


def bring_to(image: "Image", spec: ImageSpec) -> NDArray[Any]:
    """Return a decoded, upright image as an array of `spec`'s shape and type.

    Raises
    ------
    DataError
        If the image holds floating-point pixels or `spec` has neither 1 nor 3 channels.
    """
    from PIL import Image

    if spec.channels not in (1, 3):
        raise DataError(f"image files are read with 1 or 3 channels, but {spec.channels} are asked for; give the images as an array.")
    if image.mode == "F":
        raise DataError("the image has floating-point pixels of unknown range; convert it to 8 or 16 bits, or give it as an array.")
    if is_deep(image):
        return _bring_deep_to(image, spec)
    mode = "L" if spec.channels == 1 else "RGB"
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (spec.width, spec.height):
        image = image.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.array(image, dtype=spec.dtype).reshape(spec.shape)


def bring_array_to(X: NDArray[np.uint8], spec: ImageSpec) -> NDArray[Any]:
    """Return uint8 images of shape (n, height, width, 1 or 3) brought to `spec`.

    Examples
    --------
    >>> bring_array_to(np.zeros((5, 8, 8, 1), np.uint8), ImageSpec(4, 4, 3)).shape
    (5, 4, 4, 3)
    """
    if X.shape[1:] == spec.shape:
        return X.astype(spec.dtype, copy=False)
    from PIL import Image

    brought = np.empty((len(X), *spec.shape), dtype=spec.dtype)
    for row, pixels in zip(brought, X, strict=True):
        row[:] = bring_to(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), spec)
    return brought


def _open(data: Encoded) -> "Image":
    """Open an image without decoding it; refuse it if it has too many pixels."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data) if isinstance(data, bytes | bytearray) else data, formats=_FORMATS)
    except UnidentifiedImageError as error:
        others, why_not = decoded(_content(data)) if decoders() else (None, "")
        if others is not None:
            return _of_bounded_size(others)
        if _begins_as_tiff(data):
            raise DataError(
                "is a TIFF whose kind of pixels is not read (64-bit floating-point, for example); convert it to 8 or 16 bits, or give it as"
                " an array."
            ) from error
        told = f"; {why_not}" if why_not else ""
        raise DataError(f"is not an image in a format that is read (PNG, JPEG, BMP, GIF, TIFF, WebP, PPM{told}).") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"has more pixels than the limit of {MAX_PIXELS:,}; scale it down.") from error
    return _of_bounded_size(image)


def _of_bounded_size(image: "Image") -> "Image":
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"has {width:,} x {height:,} pixels, more than the limit of {MAX_PIXELS:,}; scale it down.")
    return image


def _content(data: Encoded) -> bytes:
    """Return all bytes of an encoded image."""
    if isinstance(data, str | os.PathLike):
        with open(data, "rb") as file:
            return file.read()
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    data.seek(0)
    return data.read()


def _begins_as_tiff(data: Encoded) -> bool:
    if isinstance(data, str | os.PathLike):
        with open(data, "rb") as file:
            first = file.read(4)
    elif isinstance(data, bytes | bytearray):
        first = bytes(data[:4])
    else:
        data.seek(0)
        first = data.read(4)
    return first in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _orientation(read_exif: Any) -> int:
    """Return the EXIF orientation 1..8, 1 (upright) if there is none or it cannot be read."""
    try:
        value = read_exif().get(_ORIENTATION_TAG, 1)
    # Damaged EXIF does not make the pixels unreadable; every viewer shows such a photo as it is stored.
    except Exception:
        return 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned_upright(image: "Image") -> "Image":
    """Return an opened image with its pixels decoded and upright."""
    from PIL import Image

    image.load()
    method = _UPRIGHT.get(_orientation(image.getexif))
    return image.transpose(Image.Transpose[method]) if method else image


def _stored_size(image: "Image") -> tuple[int, int]:
    """Return (width, height) before the image is turned upright; of TIFF files some versions of Pillow give it after."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags.get(256, image.size[0])), int(tags.get(257, image.size[1])))


def _bring_deep_to(image: "Image", spec: ImageSpec) -> NDArray[Any]:
    """Return a grey image of more than 8 bits as an array of `spec`'s shape and type."""
    from PIL import Image

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"has pixel values {values.min()}..{values.max()}, outside the 16 bits 0..65535; convert it to 8 or 16 bits.")
    # 65535 = 255 * 257, so full scale stays full scale.
    pixels = (values / 257).astype(np.float32)
    if image.size != (spec.width, spec.height):
        pixels = np.asarray(Image.fromarray(pixels).resize((spec.width, spec.height), Image.Resampling.BILINEAR))
    if spec.dtype == "uint8":
        pixels = np.rint(pixels).clip(0, 255)
    return np.repeat(pixels[:, :, np.newaxis], spec.channels, axis=2).astype(spec.dtype)


def _undecodable(error: Exception) -> DataError:
    return DataError(f"cannot be decoded: {str(error).rstrip('.') or type(error).__name__}.")
