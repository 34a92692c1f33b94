"""What can be wrong with a plate: scratches, stains, missing parts and dents, each with its exact mask."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from insphere.data.plate_scene import (
    BORE,
    BORE_RADIUS,
    HALF_HEIGHT,
    HALF_WIDTH,
    SCREW_RADIUS,
    SCREWS,
    Layers,
    blank,
    draw_line,
    make_plate,
    unit,
)

Mask = NDArray[np.bool_]

_LEAST_AREA = 0.0012  # of the picture, so that 0.1 % are left where the camera is far


def good(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate with nothing wrong and an empty mask."""
    return make_plate(rng, height, width), np.zeros((height, width), dtype=bool)


def scratched(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate with a few scratches next to each other: a bright groove with a dark side."""
    layers = make_plate(rng, height, width)
    start, turn = _place(rng, margin=60), rng.uniform(0, 2 * math.pi)
    length, bend = rng.uniform(150, 300), rng.normal(0, 0.12)
    mask = np.zeros((height, width), dtype=bool)
    strength = rng.uniform(0.16, 0.4)
    n_strokes, stroke = int(rng.integers(1, 4)), 0
    while stroke < n_strokes or mask.mean() < _LEAST_AREA:
        aside = np.array([-math.sin(turn), math.cos(turn)]) * 9.0 * stroke
        angles = turn + bend * np.arange(9) + rng.normal(0, 0.05, 9)
        steps = np.c_[np.cos(angles), np.sin(angles)] * length / 9 * rng.uniform(0.6, 1)
        path = start + aside + np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
        thickness = rng.uniform(1.6, 2.8)
        groove, burr = draw_line((height, width), path, thickness), draw_line((height, width), path + 1.5, thickness)
        on = layers.cover > 0.5
        layers.colour *= (1 + (strength * groove - 0.8 * strength * burr * (1 - groove)) * on)[:, :, None]
        mask |= (np.maximum(groove, burr) > 0.25) & on
        stroke += 1
    return layers, mask


def stained(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate with a stain of oil or rust: an uneven blot, darker at its rim."""
    layers = make_plate(rng, height, width)
    base = layers.blank
    radius = rng.uniform(20, 46)
    across, down = _place(rng, margin=radius + 12)
    x, y = base.x - across, base.y - down
    angle = np.arctan2(y, x)
    lobes = sum(rng.normal(0, 0.14 / order) * np.cos(order * angle + rng.uniform(0, 2 * math.pi)) for order in range(2, 6))
    depth = radius * (1 + lobes) - np.hypot(x, y)
    blot = np.clip(depth / 4, 0, 1)
    rim = np.exp(-((depth - 5) ** 2) / 18)
    tint = np.array([0.55, 0.8, 1.0]) if rng.random() < 0.5 else np.array([0.9, 0.95, 1.0])
    strength = rng.uniform(0.14, 0.34)
    layers.colour *= (1 - strength * (blot * 0.7 + rim * 0.5)[:, :, None] * tint * (layers.cover > 0.5)[:, :, None]).astype(np.float32)
    return layers, (depth > 0) & (layers.cover > 0.5)


def incomplete(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate that lacks a screw, some of its print, or a corner."""
    base = blank(height, width)
    kind = rng.integers(3)
    if kind == 0:
        number = int(rng.integers(len(SCREWS)))
        across, down = SCREWS[number]
        return make_plate(rng, height, width, missing=(number,)), np.hypot(base.x - across, base.y - down) <= SCREW_RADIUS
    if kind == 1:
        return _unprinted(rng, height, width)
    return _broken(rng, height, width)


def dented(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate with a dent: nothing but slopes that face the light or turn away from it."""
    layers = make_plate(rng, height, width)
    base = layers.blank
    radius, stretch, turn = rng.uniform(20, 38), rng.uniform(1, 1.5), rng.uniform(0, math.pi)
    across, down = _place(rng, margin=radius * stretch + 8)
    x, y = base.x - across, base.y - down
    along, beside = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    distance = np.hypot(along / stretch, beside) / radius
    depth = rng.uniform(14, 26)
    layers.relief -= (depth * np.clip(1 - distance**2, 0, 1) ** 2).astype(np.float32)
    return layers, (distance < 0.9) & (layers.cover > 0.5)


DEFECTS: dict[str, Callable[[np.random.Generator, int, int], tuple[Layers, Mask]]] = {
    "scratch": scratched,
    "stain": stained,
    "missing": incomplete,
    "dent": dented,
}
"""Drawing functions by the name of the defect's folder."""


def _unprinted(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate with a gap in the row of printed bars, and the gap's bars as the mask."""
    base = blank(height, width)
    n_bars = int(rng.integers(2, 5))
    left = 60.0 + 15.0 * int(rng.integers(0, 10 - n_bars)) - 4
    gap = (base.x > left) & (base.x < left + 15 * n_bars) & (base.y > 50) & (base.y < 120)
    layers = make_plate(rng, height, width, unprinted=gap.astype(np.float32))
    return layers, gap & (base.ink > 0.5)


def _broken(rng: np.random.Generator, height: int, width: int) -> tuple[Layers, Mask]:
    """Return a plate with a corner broken off along a ragged line."""
    layers = make_plate(rng, height, width)
    base = layers.blank
    sign_x, sign_y = rng.choice([-1, 1], 2)
    cut, lean = rng.uniform(36, 62), rng.uniform(0.7, 1.4)
    ragged = 3 * np.sin(base.x * rng.uniform(0.15, 0.3)) + 2 * np.sin(base.y * rng.uniform(0.2, 0.5))
    beyond = lean * (sign_x * base.x - HALF_WIDTH) + (sign_y * base.y - HALF_HEIGHT) / lean + cut + ragged
    left_over = np.clip(0.5 - beyond * unit(height, width), 0, 1)
    gone = (beyond > 0) & (layers.cover > 0.5)
    rim = np.exp(-((beyond + 3) ** 2) / 8)
    layers.colour *= (1 + 0.25 * rim)[:, :, None].astype(np.float32)
    layers.cover *= left_over.astype(np.float32)
    return layers, gone


def _place(rng: np.random.Generator, *, margin: float) -> NDArray[np.float64]:
    """Return a place on the plate, (across, down) from its centre, `margin` design pixels from its edges and not in the bore."""
    while True:
        place = rng.uniform([-HALF_WIDTH + margin, -HALF_HEIGHT + margin], [HALF_WIDTH - margin, HALF_HEIGHT - margin])
        if math.hypot(place[0] - BORE[0], place[1] - BORE[1]) > BORE_RADIUS + margin / 2:
            return place
