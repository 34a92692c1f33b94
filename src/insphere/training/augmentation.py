"""Pictures varied in training, as other normal ones would be: each row by draws of its own, without waiting for the device."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from insphere.training.noise import NoiseSource, standard_normal

_GREY_SHARE, _COLOUR_SHARE = 0.2, 0.8
_COLOUR_REACH = 0.4
_WIDEST = 4 / 3  # of the sides of a crop, relative to those of the picture


def mirrored(x: Tensor, generator: NoiseSource) -> Tensor:
    """Return pictures (n, channels, height, width), about half of them mirrored left to right."""
    turned = standard_normal((len(x), 1, 1, 1), generator, like=x) > 0
    return torch.where(turned, x.flip(3), x)


def jittered(x: Tensor, most: int, generator: NoiseSource) -> Tensor:
    """Return pictures (n, channels, height, width), each shifted by up to `most` whole pixels both ways, mirrored at the border."""
    places = []
    for side, draw in zip(x.shape[2:], uniform((2, len(x), 1), generator, x), strict=True):
        reach = min(most, side - 1)
        steps = (draw * (2 * reach + 1)).floor().clamp(max=2 * reach).long() - reach
        places.append(_reflected(torch.arange(side, device=x.device) - steps, side))
    rows, columns = places
    number = torch.arange(len(x), device=x.device).reshape(-1, 1, 1)
    return x.permute(0, 2, 3, 1)[number, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def cropped(x: Tensor, least: float, generator: NoiseSource) -> Tensor:
    """Return a part of each picture, at least the share `least` of its area, brought to the picture's size again.

    Source: Szegedy 2015, sec. 6. Deviation: the part never reaches beyond the picture.
    """
    draws = uniform((4, len(x)), generator, x)
    area = least + (1 - least) * draws[0]
    log_ratio = math.log(_WIDEST) * (2 * draws[1] - 1)
    sides = [(area.sqrt() * (sign * log_ratio / 2).exp()).clamp(max=1.0) for sign in (1, -1)]
    middles = [(1 - side) * (2 * draw - 1) for side, draw in zip(sides, draws[2:], strict=True)]
    zero = torch.zeros_like(area)
    across, along = torch.stack([sides[0], zero, middles[0]], dim=1), torch.stack([zero, sides[1], middles[1]], dim=1)
    grid = functional.affine_grid(torch.stack([across, along], dim=1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def coloured(x: Tensor, generator: NoiseSource) -> Tensor:
    """Return standardised pictures with other brightness, contrast and saturation, four of five; and one of five in grey.

    Source: Chen 2020 (SimCLR), appendix A. Deviation: no change of hue; brightness is added, as pixels are standardised here.
    """
    draws = uniform((5, len(x), 1, 1, 1), generator, x)
    changed = draws[0] < _COLOUR_SHARE
    factors = torch.where(changed, 1 + _COLOUR_REACH * (2 * draws[1:3] - 1), 1.0)
    lift = torch.where(changed, 2 * _COLOUR_REACH * (2 * draws[3] - 1), 0.0)
    saturation = torch.where(draws[4] < _GREY_SHARE, 0.0, factors[0])
    grey = x.mean(dim=1, keepdim=True)
    x = grey + saturation * (x - grey)
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    return middle + factors[1] * (x - middle) + lift


def uniform(shape: tuple[int, ...], generator: NoiseSource, like: Tensor) -> Tensor:
    """Return draws from [0, 1], on the device and with the dtype of `like`: some for each row, which are along the second axis."""
    draws: Tensor = torch.special.ndtr(standard_normal(shape, generator, like=like, rows_along=1))
    return draws


def _reflected(places: Tensor, side: int) -> Tensor:
    """Return places along a side with those beyond it mirrored at the border; none is further out than the side is long."""
    return side - 1 - (side - 1 - places.abs()).abs()
