"""Into how many windows a large picture is cut before a network looks at it."""

import math
from collections.abc import Sequence
from typing import Any

from insphere.errors import ParameterError

AUTO = "auto"
"""Windows are chosen by the size of the pictures."""

MOST = 8
"""Rows, and columns, of windows at most."""

_MOST_CHOSEN = 4  # times the side of a window, along the geometric mean of the picture's sides, that are chosen at most
_RULE = f'none, "auto", or rows and columns of windows, 1..{MOST} each, as (2, 3) or "2x3"'

Tiles = tuple[int, int]


def check_tiles(name: str, tiles: Any) -> None:
    """Raise `ParameterError` unless the value of a parameter may be tiles.

    Examples
    --------
    >>> check_tiles("tiles", "2x3")
    >>> check_tiles("tiles", (0, 3))
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: `tiles` must be none, "auto", or rows and columns of windows, 1..8 each, as (2, 3) or "2x3", got (0, 3).
    """
    if tiles is not None and tiles != AUTO:
        _asked(tiles, name)


def tiles_for(tiles: Any, height: float, width: float, side: int) -> Tiles:
    """Return rows and columns of windows for pictures of a size; (1, 1) where they are not cut.

    "auto" chooses as many as there are windows of `side` × `side` pixels in the picture, four by four at most, so that pictures are shrunk
    as little as may be; of a picture that is brought to what was chosen it chooses the same again.

    Examples
    --------
    >>> tiles_for(None, 1200, 1600, 320), tiles_for("auto", 1200, 1600, 320), tiles_for("auto", 300, 400, 320), tiles_for("2x3", 9, 9, 320)
    ((1, 1), (3, 5), (1, 1), (2, 3))
    """
    if tiles is None:
        return 1, 1
    if tiles != AUTO:
        return _asked(tiles)
    times = min(_MOST_CHOSEN, max(1, round(math.sqrt(height * width) / side)))
    if times == 1:
        return 1, 1
    rows, columns = (max(1, min(MOST, round(times * ratio))) for ratio in (math.sqrt(height / width), math.sqrt(width / height)))
    return rows, columns


def side_for(tiles: Any, height: float, width: float, side: int) -> float:
    """Return the side of the square to whose area pictures are brought: that of one window, times as many as there are along it."""
    if tiles == AUTO:
        return side * min(_MOST_CHOSEN, max(1, round(math.sqrt(height * width) / side)))
    return side * math.sqrt(math.prod(tiles_for(tiles, height, width, side)))


def _asked(tiles: Any, name: str = "tiles") -> Tiles:
    parts: Sequence[Any] = tiles.lower().split("x") if isinstance(tiles, str) else tiles
    try:
        rows, columns = (int(part) for part in parts)
        exact = all(isinstance(part, str) or int(part) == part for part in parts)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"`{name}` must be {_RULE}, got {tiles!r}.") from error
    if not exact or not (1 <= rows <= MOST and 1 <= columns <= MOST):
        raise ParameterError(f"`{name}` must be {_RULE}, got {tiles!r}.")
    return rows, columns
