"""A small set of photos that the program makes itself: metal plates, some with scratches, stains, missing parts or dents.

A first run needs photos with defects and their masks, and none can come along: this makes them from a seed.
"""

import functools
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insphere.data.image_sizes import check_image_size
from insphere.errors import DataError
from insphere.output_file import make_folder, replacing
from insphere.seeding import generator, resolve_seed
from insphere.validation import check_integer

PLATE_DEFECTS = ("scratch", "stain", "missing", "dent")
"""Names of the defects, which are the names of their folders."""

PLATE_SIZE = (600, 800)
"""Height and width of the photos, in pixels."""

_QUALITY = 92
_LEAST_SIDE = 64


@dataclass(frozen=True)
class PlateName:
    """One photo of the set: its part ("train" or "test"), "good" or a defect, and its number.

    Examples
    --------
    >>> PlateName("test", "dent", 7).photo, PlateName("test", "dent", 7).mask
    ('test/dent/007.jpg', 'ground_truth/dent/007_mask.png')
    """

    part: str
    kind: str
    number: int

    @property
    def photo(self) -> str:
        """Path of the photo in the set's folder."""
        return f"{self.part}/{self.kind}/{self.number:03d}.jpg"

    @property
    def mask(self) -> str | None:
        """Path of its mask, None for a good plate."""
        return None if self.kind == "good" else f"ground_truth/{self.kind}/{self.number:03d}_mask.png"


def write_plates(
    folder: str | os.PathLike[str],
    *,
    n_train: int = 100,
    n_good: int = 24,
    n_each: int = 9,
    seed: int = 0,
    image_size: int | tuple[int, int] = PLATE_SIZE,
) -> Path:
    """Write the photos and their masks as a folder in the layout of MVTec AD, and return the folder.

    ``train/good``, ``test/good`` and ``test/<defect>`` hold JPEG photos, ``ground_truth/<defect>/<name>_mask.png`` says which pixels are
    defective (255). Light, position and turn of the plate, its brushing and its screws differ from photo to photo. A defect covers 0.1 to
    2 % of the picture. The same seed and size give the same pixels with the same versions of NumPy, SciPy and Pillow; how many others are
    made changes no photo.

    Parameters
    ----------
    folder : path
        New or empty, or with nothing but photos of such a set under the same names, which are written again.
    n_train : int
        Good photos to learn from.
    n_good, n_each : int
        Good photos to test on, and photos of each of the four kinds of defect.
    seed : int
        In [0, 2**31).
    image_size : int or (int, int)
        Side of a square, or (height, width), in pixels, at least 64.

    Raises
    ------
    DataError
        If the folder holds other files.
    ParameterError
        If a number breaks its rule.
    OutputError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = write_plates(place, n_train=1, n_good=1, n_each=1, image_size=64)
    ...     sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*mask.png"))[:2]
    ['ground_truth/dent/000_mask.png', 'ground_truth/missing/000_mask.png']
    """
    size = _checked_size(image_size)
    seed = resolve_seed(seed)
    names = plate_names(n_train, n_good, n_each)
    target = make_folder(folder)
    _check_own(target, names)
    for name in names:
        for path in (name.photo, name.mask):
            if path is not None:
                make_folder((target / path).parent)
    for name, photo, mask in _encoded(names, seed, size):
        with replacing(target / name.photo) as file:
            file.write(photo)
        if name.mask is not None:
            with replacing(target / name.mask) as file:
                file.write(mask)
    return target


def plate_names(n_train: int = 100, n_good: int = 24, n_each: int = 9) -> tuple[PlateName, ...]:
    """Return the names of all photos of a set, training photos first.

    Examples
    --------
    >>> len(plate_names())
    160
    """
    for name, number in (("n_train", n_train), ("n_good", n_good), ("n_each", n_each)):
        check_integer(name, number, at_least=0, at_most=999)
    counts = [("train", "good", n_train), ("test", "good", n_good), *(("test", kind, n_each) for kind in PLATE_DEFECTS)]
    return tuple(PlateName(part, kind, number) for part, kind, count in counts for number in range(count))


def draw_plate(
    name: PlateName, *, seed: int = 0, image_size: int | tuple[int, int] = PLATE_SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return one photo of the set, before it becomes a JPEG, and its mask.

    Returns
    -------
    photo : ndarray of uint8, shape (height, width, 3)
    mask : ndarray of bool, shape (height, width)
        True where the plate is defective.

    Examples
    --------
    >>> photo, mask = draw_plate(PlateName("test", "stain", 0), image_size=(150, 200))
    >>> photo.shape, bool(mask.any())
    ((150, 200, 3), True)
    """
    from insphere.data.plate_defects import DEFECTS, good
    from insphere.data.plate_scene import take_photo

    height, width = _checked_size(image_size)
    rng = generator(seed, f"plate {name.part}/{name.kind}/{name.number}")
    layers, mask = (good if name.kind == "good" else DEFECTS[name.kind])(rng, height, width)
    return take_photo(rng, layers, mask)


class EncodedPlate(NamedTuple):
    """One photo as JPEG and its mask as PNG, no bytes for a good plate."""

    name: PlateName
    photo: bytes
    mask: bytes


@functools.lru_cache(maxsize=2)
def plate_photos(part: str) -> tuple[EncodedPlate, ...]:
    """Return the photos of one part of the standard set (seed 0, 800 x 600); they are made once a process."""
    return tuple(_encoded([name for name in plate_names() if name.part == part], 0, PLATE_SIZE))


def _encoded(names: Sequence[PlateName], seed: int, size: tuple[int, int]) -> Iterator[EncodedPlate]:
    """Yield each photo encoded; each is drawn by its own generator, so threads may share the work."""
    from PIL import Image

    def encode(name: PlateName) -> EncodedPlate:
        photo, mask = draw_plate(name, seed=seed, image_size=size)
        jpeg, png = io.BytesIO(), io.BytesIO()
        Image.fromarray(photo).save(jpeg, "JPEG", quality=_QUALITY)
        if name.mask is not None:
            Image.fromarray(mask.astype(np.uint8) * 255).save(png, "PNG")
        return EncodedPlate(name, jpeg.getvalue(), png.getvalue())

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(encode, names)


def _checked_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = check_image_size(image_size)
    return check_integer("height", height, at_least=_LEAST_SIDE), check_integer("width", width, at_least=_LEAST_SIDE)


def _check_own(folder: Path, names: tuple[PlateName, ...]) -> None:
    """Raise `DataError` if the folder holds what is not of this set: it would be learned from, or measured, with it."""
    own = {path for name in names for path in (name.photo, name.mask)}
    others = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    others = [path for path in others if path not in own]
    if others:
        raise DataError(f"the folder {folder} holds other files, such as {others[0]}; give a new or empty folder for the photos.")
