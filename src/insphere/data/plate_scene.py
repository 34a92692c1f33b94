"""A brushed metal plate on a mat, drawn as a camera would see it: the scene of the photos in `insphere.data.plates`."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

Floats = NDArray[np.float32]

DESIGN = (600, 800)
"""Height and width, in pixels, of the picture that all lengths of the scene are given for; other sizes scale them."""

SCREWS = ((-235.0, -150.0), (235.0, -150.0), (-235.0, 150.0), (235.0, 150.0))
"""Centres of the four screws, (across, down) from the plate's centre."""

SCREW_RADIUS = 17.0
HALF_WIDTH, HALF_HEIGHT = 280.0, 195.0
BORE_RADIUS = 62.0
BORE = (-70.0, 0.0)

PRINTS = ((75.0, -95.0, 200.0, -75.0), (75.0, -55.0, 150.0, -43.0), *((x, 60.0, x + 7.0, 110.0) for x in np.arange(60.0, 210.0, 15.0)))
"""Printed bars, (left, top, right, bottom) from the plate's centre."""

_METAL = np.array([0.64, 0.63, 0.61], dtype=np.float32)
_MAT = np.array([0.15, 0.16, 0.18], dtype=np.float32)
_INK = 0.72  # share of the light that ink takes away


@dataclass(frozen=True)
class Blank:
    """What all plates of one size have in common, in the plate's own frame, its centre in the middle of the picture.

    Attributes
    ----------
    x, y : ndarray of float32, shape (1, width) and (height, 1)
        Design lengths from the plate's centre.
    cover : ndarray of float32, shape (height, width)
        Share of each pixel that is metal: 0 outside the plate and in its bore.
    ink : ndarray of float32, shape (height, width)
        Share of each pixel that is printed.
    """

    x: Floats
    y: Floats
    cover: Floats
    ink: Floats


@dataclass
class Layers:
    """One plate before the photo is taken, in the plate's own frame; defects change it in place.

    Attributes
    ----------
    colour : ndarray of float32, shape (height, width, 3)
        Share of the light that comes back, 0 to 1.
    cover : ndarray of float32, shape (height, width)
        Share of each pixel that is plate.
    relief : ndarray of float32, shape (height, width)
        Height above the plate's face in design pixels; only its slopes are seen.
    """

    blank: Blank
    colour: Floats
    cover: Floats
    relief: Floats


@functools.lru_cache(maxsize=2)
def blank(height: int, width: int) -> Blank:
    """Return what all plates of one size have in common; the arrays are shared and not to be changed.

    Examples
    --------
    >>> blank(60, 80).cover.shape
    (60, 80)
    """
    scale = unit(height, width)
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / scale)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / scale)[:, None]
    rounding = 22.0
    beyond_x = np.maximum(np.abs(x) - HALF_WIDTH + rounding, 0)
    beyond_y = np.maximum(np.abs(y) - HALF_HEIGHT + rounding, 0)
    outline = _edge(rounding - np.hypot(beyond_x, beyond_y), scale)
    bore = _edge(np.hypot(x - BORE[0], y - BORE[1]) - BORE_RADIUS, scale)
    ink = np.zeros((height, width), dtype=np.float32)
    for left, top, right, bottom in PRINTS:
        ink += _edge(np.minimum(x - left, right - x), scale) * _edge(np.minimum(y - top, bottom - y), scale)
    ring = np.abs(np.hypot(x - BORE[0], y - BORE[1]) - 90.0)
    ink += _edge(3.5 - ring, scale)
    found = Blank(x, y, (outline * bore).astype(np.float32), np.clip(ink, 0, 1).astype(np.float32))
    for array in (found.x, found.y, found.cover, found.ink):
        array.flags.writeable = False
    return found


def unit(height: int, width: int) -> float:
    """Return how many pixels of the picture a design pixel is wide.

    Examples
    --------
    >>> unit(300, 400)
    0.5
    """
    return min(height / DESIGN[0], width / DESIGN[1])


def make_plate(
    rng: np.random.Generator, height: int, width: int, *, missing: tuple[int, ...] = (), unprinted: Floats | None = None
) -> Layers:
    """Return a plate with its own brushing and its screws turned as they happen to be.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the brushing and the screws; the same number of draws whatever is missing.
    height, width : int
        Pixels.
    missing : tuple of int
        Screws, numbered as `SCREWS`, that are not there: their threaded holes are.
    unprinted : ndarray of float32, shape (height, width), optional
        Share of the ink that is missing at each pixel.
    """
    base = blank(height, width)
    brushing = 0.035 * _stretched(rng, height, width, 40) + 0.03 * _stretched(rng, height, width, 9)
    ink = base.ink if unprinted is None else base.ink * (1 - unprinted)
    colour = (_METAL * (1 + brushing - _INK * ink)[:, :, None]).astype(np.float32)
    relief = ndimage.uniform_filter(base.cover, max(1, round(5 * unit(height, width)))) * 5
    layers = Layers(base, colour, base.cover.copy(), relief)
    for number, (across, down) in enumerate(SCREWS):
        turn = rng.uniform(0, math.pi)
        shade = rng.uniform(0.85, 1.1)
        _put_screw(layers, across, down, turn, 0.0 if number in missing else shade)
    return layers


def take_photo(rng: np.random.Generator, layers: Layers, mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the photo of a plate and where its mask lies in it: position, turn, distance, light, focus and noise differ each time.

    Returns
    -------
    photo : ndarray of uint8, shape (height, width, 3)
        sRGB.
    mask : ndarray of bool, shape (height, width)
    """
    height, width = mask.shape
    scale = unit(height, width)
    turn, zoom = math.radians(float(np.clip(rng.normal(0, 1.6), -4, 4))), rng.uniform(0.975, 1.025)
    shift = rng.uniform(-16, 16, 2) * scale
    light = rng.uniform(0, 2 * math.pi)
    lit = np.clip(layers.colour * (1 + _slopes(layers.relief, light, scale))[:, :, None], 0, 1)
    seen = np.dstack([lit, layers.cover])
    drawn = Image.fromarray(np.rint(seen * 255).astype(np.uint8), "RGBA")
    onto = _onto(turn, zoom, shift, (height, width))
    turned = drawn.transform(drawn.size, Image.Transform.AFFINE, onto, Image.Resampling.BILINEAR)
    plate: Floats = np.asarray(turned, dtype=np.float32) / np.float32(255)
    where = Image.fromarray(mask.astype(np.uint8) * 255).transform(drawn.size, Image.Transform.AFFINE, onto, Image.Resampling.NEAREST)
    cover = plate[:, :, 3:]
    mat = _mat(rng, height, width) * (1 - 0.6 * _shadow(cover[:, :, 0], light, scale))[:, :, None]
    scene = cover * plate[:, :, :3] * _glare(rng, layers.blank)[:, :, None] + (1 - cover) * mat
    return _exposed(rng, np.asarray(scene * _lighting(rng, layers.blank), dtype=np.float32), scale), np.asarray(where) > 127


def _edge(inside: Floats, scale: float) -> Floats:
    """Return the share of a pixel that is inside, from the distance to the edge in design pixels, positive inside."""
    return np.asarray(np.clip(inside * scale + 0.5, 0, 1), dtype=np.float32)


def _stretched(rng: np.random.Generator, height: int, width: int, length: int) -> Floats:
    """Return noise of standard deviation about 1 that is `length` times as long across as down."""
    coarse = rng.standard_normal((height, width // length + 3), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _smooth(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Return noise of standard deviation about 1 that changes over a `cells`-th of the width."""
    coarse = rng.standard_normal((max(2, cells * height // width), cells), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _put_screw(layers: Layers, across: float, down: float, turn: float, shade: float) -> None:
    """Draw a slotted screw, or with `shade` 0 the threaded hole under it."""
    base = layers.blank
    scale = unit(*layers.cover.shape)
    rows = np.abs(base.y[:, 0] - down) < 26
    columns = np.abs(base.x[0] - across) < 26
    place = np.ix_(rows, columns)
    x, y = base.x[:, columns] - across, base.y[rows] - down
    radius = np.hypot(x, y)
    head = _edge(SCREW_RADIUS - radius, scale)
    countersink = _edge(SCREW_RADIUS + 4 - radius, scale)
    colour = layers.colour[place] * (1 - 0.35 * countersink)[:, :, None]
    if shade:
        slot = _edge(2.6 - np.abs(x * math.sin(turn) - y * math.cos(turn)), scale) * _edge(SCREW_RADIUS - 1 - radius, scale)
        face = shade * (0.62 + 0.12 * np.cos(np.arctan2(y, x) * 2 - turn)) * (1 - 0.75 * slot)
        layers.relief[place] += 4 * np.clip(1 - (radius / SCREW_RADIUS) ** 2, 0, 1)
    else:
        face = 0.10 + 0.10 * np.cos(radius * 1.3) ** 2 * (radius > 8)
    layers.colour[place] = colour * (1 - head)[:, :, None] + (head * face)[:, :, None]


def _slopes(relief: Floats, light: float, scale: float) -> Floats:
    """Return how much brighter each pixel is for facing the light, about -0.4 to 0.4."""
    down, across = np.gradient(relief)
    return np.asarray(np.clip(-0.3 * scale * (across * math.cos(light) + down * math.sin(light)), -0.45, 0.45), dtype=np.float32)


def _onto(turn: float, zoom: float, shift: NDArray[np.float64], size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    """Return Pillow's affine coefficients, from a place in the photo to one in the plate's frame."""
    middle_y, middle_x = size[0] / 2, size[1] / 2
    cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
    x, y = middle_x + float(shift[0]), middle_y + float(shift[1])
    return cos, sin, middle_x - cos * x - sin * y, -sin, cos, middle_y + sin * x - cos * y


def _mat(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Return the woven mat under the plate, shape (height, width, 3), which lies differently each time."""
    base = blank(height, width)
    phase = rng.uniform(0, 2 * math.pi, 2)
    weave = 0.12 * np.sin(base.x * 0.9 + phase[0]) * np.sin(base.y * 0.9 + phase[1])
    grey = 1 + weave + 0.08 * _smooth(rng, height, width, 9) + 0.10 * _smooth(rng, height, width, max(2, width // 3))
    return np.asarray(_MAT * grey[:, :, None], dtype=np.float32)


def _shadow(cover: Floats, light: float, scale: float) -> Floats:
    """Return the plate's soft shadow on the mat, 0 to 1: the plate moved away from the light and blurred."""
    away = (-6 * scale * math.cos(light), -6 * scale * math.sin(light))
    image = Image.fromarray(np.rint(np.clip(cover, 0, 1) * 255).astype(np.uint8))
    moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, -away[0], 0, 1, -away[1]))
    return np.asarray(moved.filter(ImageFilter.BoxBlur(5 * scale)), dtype=np.float32) / np.float32(255)


def _glare(rng: np.random.Generator, base: Blank) -> Floats:
    """Return the bright band that a lamp makes across brushed metal."""
    centre, slant, breadth = rng.uniform(-260, 260), rng.uniform(-0.35, 0.35), rng.uniform(90, 190)
    return np.asarray(1 + rng.uniform(0.08, 0.3) * np.exp(-(((base.x - centre + slant * base.y) / breadth) ** 2)), dtype=np.float32)


def _lighting(rng: np.random.Generator, base: Blank) -> Floats:
    """Return brightness and colour of the light, shape (height, width, 3): stronger to one side, weaker in the corners."""
    side, fall = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.22)
    warmth = rng.normal(0, 0.02)
    slope = fall * (base.x * math.cos(side) + base.y * math.sin(side)) / 400
    vignette = 1 - 0.14 * ((base.x / 400) ** 2 + (base.y / 400) ** 2)
    brightness = rng.uniform(0.8, 1.15) * (1 + slope) * vignette
    return np.asarray(brightness[:, :, None] * np.array([1 + warmth, 1.0, 1 - warmth]), dtype=np.float32)


def _exposed(rng: np.random.Generator, scene: Floats, scale: float) -> NDArray[np.uint8]:
    """Return what the sensor makes of a scene: a little out of focus, with noise that grows with the light."""
    height, width = scene.shape[:2]
    sharp = Image.fromarray(np.rint(np.clip(scene, 0, 1) * 255).astype(np.uint8))
    # The blur of a lens out of focus is flat, not a bell.
    soft = np.asarray(sharp.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.8) * scale)), dtype=np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    tint = rng.standard_normal((height // 2 + 1, width // 2 + 1, 3), dtype=np.float32)  # colour is measured at fewer places than light
    noise = grain + 0.6 * tint.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.rint(np.clip(soft + rng.uniform(0.8, 1.6) * noise * np.sqrt(0.6 + soft / 90), 0, 255)).astype(np.uint8)


def draw_line(shape: tuple[int, int], points: NDArray[np.float64], thickness: float) -> Floats:
    """Return the share of each pixel that a line through `points` covers; points (n, 2) and thickness in design pixels, from the centre."""
    height, width = shape
    scale, finer = unit(height, width), 2
    canvas = Image.new("L", (width * finer, height * finer))
    middle = np.array([width, height]) / 2
    path = [tuple(point) for point in (points * scale + middle) * finer]
    ImageDraw.Draw(canvas).line(path, fill=255, width=max(1, round(thickness * scale * finer)), joint="curve")
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
