"""Overlapping windows of a large picture: which they are, cut out, and what was found in them put together again."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

STEP = 16
"""Pixels that positions and sides of windows are multiples of, so that places of different windows lie upon each other."""

_OVERLAP = 0.25  # of a window's side with the next one


class Windows(nn.Module):
    """Rows × columns of windows of one size that cover a picture, each overlapping the next by about a quarter.

    Parameters
    ----------
    size : (int, int)
        Height and width of the picture, multiples of 16 pixels.
    tiles : (int, int)
        Rows and columns of windows, at least 1 each.
    stride : int
        Pixels between two places of what is found in a window; 16 is a multiple of it.

    Attributes
    ----------
    window : (int, int)
        Height and width of each window in pixels.
    grid : (int, int)
        Places of the whole picture.

    Examples
    --------
    >>> windows = Windows((64, 96), (1, 2), stride=8)
    >>> windows.window, windows.corners, windows.grid
    ((64, 64), ((0, 0), (0, 32)), (8, 12))
    """

    def __init__(self, size: Sequence[int], tiles: Sequence[int], stride: int) -> None:
        super().__init__()
        (height, tops), (width, lefts) = (_along(int(side), int(n)) for side, n in zip(size, tiles, strict=True))
        self.window, self.corners = (height, width), tuple((top, left) for top in tops for left in lefts)
        self.stride, self.grid = stride, (int(size[0]) // stride, int(size[1]) // stride)
        own = torch.outer(_slope(height // stride), _slope(width // stride))
        total = self._laid(own.expand(len(self.corners), 1, 1, *own.shape))
        shares = [own / total[0, 0, *place] for place in self._places()]
        self.shares: Tensor
        self.register_buffer("shares", torch.stack(shares), persistent=False)

    def cut(self, x: Tensor) -> Tensor:
        """Return the windows of pictures (n, channels, height, width): (windows · n, channels, window height, window width)."""
        height, width = self.window
        return torch.cat([x[:, :, top : top + height, left : left + width] for top, left in self.corners])

    def by_window(self, found: Tensor) -> Tensor:
        """Return what was found in the windows that `cut` gave as (windows, n, channels, height, width)."""
        return found.reshape(len(self.corners), -1, *(int(side) for side in found.shape[1:]))

    def stitched(self, found: Tensor) -> Tensor:
        """Return what was found at the places of windows as one map of each picture; where windows overlap, one fades into the other.

        Parameters
        ----------
        found : Tensor, shape (windows · n, channels, window height / stride, window width / stride)

        Returns
        -------
        Tensor, shape (n, channels, height / stride, width / stride)
        """
        return self._laid(self.by_window(found) * self.shares[:, None, None])

    def _laid(self, parts: Tensor) -> Tensor:
        """Return the sum of all windows' parts (windows, n, channels, height, width), each laid where its window is."""
        laid = []
        for part, (down, across) in zip(parts, self._places(), strict=True):
            below, behind = self.grid[0] - down.stop, self.grid[1] - across.stop
            laid.append(functional.pad(part, (across.start, behind, down.start, below)))
        return torch.stack(laid).sum(dim=0)

    def _places(self) -> list[tuple[slice, slice]]:
        height, width = self.window[0] // self.stride, self.window[1] // self.stride
        corners = [(top // self.stride, left // self.stride) for top, left in self.corners]
        return [(slice(top, top + height), slice(left, left + width)) for top, left in corners]


def _along(side: int, n: int) -> tuple[int, list[int]]:
    """Return the side of n windows along a side of the picture, and where they begin."""
    window = min(side, STEP * math.ceil(side / (n - (n - 1) * _OVERLAP) / STEP))
    return window, [STEP * round(number * (side - window) / max(1, n - 1) / STEP) for number in range(n)]


def _slope(n: int) -> Tensor:
    """Return how much each place of a window counts along a side: the farther from the border, the more."""
    places = torch.arange(n)
    return torch.minimum(places, n - 1 - places).float() + 1
