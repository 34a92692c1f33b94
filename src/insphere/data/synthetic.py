"""Defects put on normal pictures, so that a detector can be tried on small marks before anybody has found a real one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from insphere.errors import DataError

AREA = (0.001, 0.02)
"""Least and largest share of the picture that a synthetic defect covers; of small pictures at least four pixels."""

LEAST_SIDE = 8
"""Pixels that each side of a picture must have."""

_LEAST_PIXELS = 4
_LEAST_CHANGE = 8.0  # grey levels, mean over the mask: less can't be told from the noise of a photo
_STANDS_OUT = 25.0  # grey levels between an object and its ground
_PLAIN = 0.9  # share of the picture's border that must be of one level to be a plain ground
_TRIES = 20

Shape = NDArray[np.float32]


@dataclass(frozen=True)
class SyntheticDefect:
    """A picture with a defect that was put on it.

    Attributes
    ----------
    picture : ndarray, shape (height, width, channels)
        Of the type of the normal picture.
    mask : ndarray of bool, shape (height, width)
        True where the defect is.
    kind : {"patch", "scratch", "spot", "scar"}
    """

    picture: NDArray[Any]
    mask: NDArray[np.bool_]
    kind: str


def put_defect(picture: NDArray[Any], other: NDArray[Any], rng: np.random.Generator) -> SyntheticDefect:
    """Return a normal picture with a defect of one of four kinds, equally likely, covering 0.1 to 2 % of it.

    A patch: a blot of another picture's texture, or of the picture's own from elsewhere. A scratch: a thin, bent line, lighter or darker.
    A spot, lighter or darker, with a soft edge. A scar: a turned strip of the picture's own texture, laid across. Where an object stands
    out from a plain ground, the defect's centre lies on the object.

    Parameters
    ----------
    picture, other : ndarray, shape (height, width, channels)
        Two normal pictures of one shape, pixels in 0..255.
    rng : numpy.random.Generator
        The only source of chance.

    Raises
    ------
    DataError
        If the shapes differ, are not those of pictures, or a side is below 8 pixels.

    Examples
    --------
    >>> grey = np.full((64, 64, 1), 120, dtype=np.uint8)
    >>> defect = put_defect(grey, grey, np.random.default_rng(0))
    >>> bool(0.001 <= defect.mask.mean() <= 0.02), bool((defect.picture != grey).any())
    (True, True)
    """
    if picture.ndim != 3 or picture.shape != other.shape or min(picture.shape[:2]) < LEAST_SIDE:
        raise DataError(
            f"Synthetic defects need two pictures of one shape (height, width, channels), each side at least 8 pixels, got {picture.shape}"
            f" and {other.shape}."
        )
    rows, columns = np.nonzero(object_in(picture))
    values = picture.astype(np.float32)
    for _ in range(_TRIES):
        kind = str(rng.choice(list(_KINDS)))
        chosen = int(rng.integers(len(rows)))
        found = _put(kind, values, other, (float(columns[chosen]), float(rows[chosen])), rng)
        if found is not None:
            return SyntheticDefect(_of_type(found[0], picture.dtype), found[1], kind)
    return _certain(values, picture.dtype, rng)


def put_defects(pictures: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return each picture with one defect, and the masks; patches come from other pictures of the same array.

    Parameters
    ----------
    pictures : ndarray, shape (n, height, width, channels)
        Normal pictures, pixels in 0..255.

    Returns
    -------
    pictures : ndarray, shape (n, height, width, channels)
    masks : ndarray of bool, shape (n, height, width)

    Examples
    --------
    >>> put_defects(np.zeros((3, 32, 32, 1)), np.random.default_rng(0))[1].shape
    (3, 32, 32)
    """
    others = rng.integers(len(pictures), size=len(pictures))
    defects = [put_defect(picture, pictures[other], rng) for picture, other in zip(pictures, others, strict=True)]
    if not defects:
        return pictures.copy(), np.empty((0, *pictures.shape[1:3]), dtype=bool)
    return np.stack([defect.picture for defect in defects]), np.stack([defect.mask for defect in defects])


def object_in(picture: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where an object stands out from a plain ground, shape (height, width); everywhere, where none does.

    The ground is plain where nine tenths of the picture's border lie within 25 grey levels of the border's median; what differs from it
    by more is the object, if it is 2 to 95 % of the picture.

    Examples
    --------
    >>> picture = np.zeros((20, 20, 1))
    >>> picture[5:15, 5:15] = 200
    >>> int(object_in(picture).sum()), int(object_in(picture[5:15, 5:15]).sum())
    (100, 100)
    """
    grey = picture.astype(np.float32).mean(axis=2)
    breadth = max(1, min(grey.shape) // 32)
    inner = np.zeros(grey.shape, dtype=bool)
    inner[breadth:-breadth, breadth:-breadth] = True
    level = float(np.median(grey[~inner]))
    # Opened, because single pixels that differ are noise.
    differs = ndimage.binary_opening(np.abs(grey - level) > _STANDS_OUT, np.ones((2, 2)))
    is_plain = (~differs[~inner]).mean() >= _PLAIN
    return differs if is_plain and 0.02 <= differs.mean() <= 0.95 else np.ones_like(differs)


def _put(
    kind: str, values: NDArray[np.float32], other: NDArray[Any], centre: tuple[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Return the picture with a defect and its mask; None where it came out too small, too large or invisible."""
    height, width = values.shape[:2]
    least = max(AREA[0], _LEAST_PIXELS / (height * width))
    area = height * width * math.exp(rng.uniform(math.log(least), math.log(max(AREA[1], least))))
    cover, instead = _KINDS[kind](values, other, centre, area, rng)
    mask = cover > 0.3
    largest = max(AREA[1], 2 * least)
    if not least <= mask.mean() <= largest:
        return None
    changed = np.clip(values + cover[:, :, None] * (instead - values), 0, 255)
    visible = float(np.abs(changed - values).mean(axis=2)[mask].mean()) >= _LEAST_CHANGE
    return (changed, mask) if visible else None


def _patch(
    values: NDArray[np.float32], other: NDArray[Any], centre: tuple[float, float], area: float, rng: np.random.Generator
) -> tuple[Shape, NDArray[np.float32]]:
    stretch, turn = math.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0, math.pi)
    radius = math.sqrt(area / math.pi)
    around = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    uneven = radius * (1 + rng.normal(0, 0.12, 24))
    points = np.c_[uneven * stretch * np.cos(around), uneven / stretch * np.sin(around)] @ _turned(turn) + centre
    source = other.astype(np.float32) if rng.random() < 0.5 else values
    return _drawn(values.shape, points, filled=True), np.roll(source, _far(values.shape, rng), axis=(0, 1))


def _scratch(
    values: NDArray[np.float32], other: NDArray[Any], centre: tuple[float, float], area: float, rng: np.random.Generator
) -> tuple[Shape, NDArray[np.float32]]:
    height, width = values.shape[:2]
    thickness = max(1.0, rng.uniform(1, 2.5) * max(height, width) / 256)
    length = min(area / thickness, 0.6 * max(height, width))
    angles = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.25, 6))
    steps = np.c_[np.cos(angles), np.sin(angles)] * length / 6
    path = np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
    cover = _drawn(values.shape, path - path.mean(axis=0) + centre, filled=False, thickness=thickness)
    return cover, _shifted(values, cover, rng.uniform(25, 70), rng)


def _spot(
    values: NDArray[np.float32], other: NDArray[Any], centre: tuple[float, float], area: float, rng: np.random.Generator
) -> tuple[Shape, NDArray[np.float32]]:
    rows, columns = np.ogrid[: values.shape[0], : values.shape[1]]
    radius, stretch = math.sqrt(area / math.pi), math.exp(rng.uniform(-0.3, 0.3))
    distance = np.hypot((columns - centre[0]) / stretch, (rows - centre[1]) * stretch)
    edge = max(1.0, 0.3 * radius)
    cover = np.clip((radius - distance) / edge + 0.5, 0, 1).astype(np.float32)
    return cover, _shifted(values, cover, rng.uniform(20, 60), rng)


def _scar(
    values: NDArray[np.float32], other: NDArray[Any], centre: tuple[float, float], area: float, rng: np.random.Generator
) -> tuple[Shape, NDArray[np.float32]]:
    height, width = values.shape[:2]
    aspect = rng.uniform(3, 6)
    breadth = math.sqrt(area / aspect)
    corners = np.array([[-aspect, -1], [aspect, -1], [aspect, 1], [-aspect, 1]]) * breadth / 2
    down, across = _far(values.shape, rng)
    rows, columns = np.ogrid[:height, :width]
    lying = values[(columns + down) % height, (rows + across) % width]
    return _drawn(values.shape, corners @ _turned(rng.uniform(0, math.pi)) + centre, filled=True), lying


_KINDS: dict[str, Callable[..., tuple[Shape, NDArray[np.float32]]]] = {
    "patch": _patch,
    "scratch": _scratch,
    "spot": _spot,
    "scar": _scar,
}


def _certain(values: NDArray[np.float32], dtype: np.dtype[Any], rng: np.random.Generator) -> SyntheticDefect:
    """Return a spot in the middle half of the picture, which is visible on every picture and never too large."""
    height, width = values.shape[:2]
    area = max(_LEAST_PIXELS, height * width * math.sqrt(AREA[0] * AREA[1]))
    centre = (float(rng.uniform(0.25, 0.75) * width), float(rng.uniform(0.25, 0.75) * height))
    rows, columns = np.ogrid[:height, :width]
    inside = np.hypot(columns - centre[0], rows - centre[1]) <= math.sqrt(area / math.pi)
    spot = np.where(inside, np.float32(1), np.float32(0))
    changed = values + spot[:, :, None] * (_shifted(values, spot, 40.0, rng) - values)
    return SyntheticDefect(_of_type(changed, dtype), inside, "spot")


def _turned(angle: float) -> NDArray[np.float64]:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def _far(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Return how far, (down, across) in pixels, to fetch texture from: a sixth of the picture at least, and round its edges."""
    height, width = shape[:2]
    return int(rng.integers(height // 6, height - height // 6)), int(rng.integers(width // 6, width - width // 6))


def _shifted(values: NDArray[np.float32], cover: Shape, amount: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the picture lighter or darker by `amount` grey levels, a little less in some colours; the other way where no room is left."""
    level = float((values.mean(axis=2) * cover).sum() / max(float(cover.sum()), 1e-6))
    lighter = level < amount or (level <= 255 - amount and rng.random() < 0.5)
    colours = rng.uniform(0.7, 1, values.shape[2])
    return np.asarray(values + (1 if lighter else -1) * amount * colours, dtype=np.float32)


def _drawn(shape: tuple[int, ...], points: NDArray[np.float64], *, filled: bool, thickness: float = 1.0) -> Shape:
    """Return the share of each pixel that a polygon, or a line through the points (across, down), covers."""
    height, width = shape[:2]
    finer = 4 if max(height, width) <= 512 else 2
    canvas = Image.new("L", (width * finer, height * finer))
    path = [(float(x), float(y)) for x, y in (points + 0.5) * finer]
    if filled:
        ImageDraw.Draw(canvas).polygon(path, fill=255)
    else:
        ImageDraw.Draw(canvas).line(path, fill=255, width=max(1, round(thickness * finer)), joint="curve")
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)


def _of_type(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    values = np.clip(values, 0, 255)
    return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype)
