"""Features from scratch: how much structure of each scale and direction a picture has at each place, by filters that nobody trained."""

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional

from insphere.nets.staged import PLACES, WHOLE, AbstractStagedNetwork, Stage

PLACE = 8
"""Pixels between two places of every stage."""

_N_SCALES = int(math.log2(PLACE)) + 1  # each half as fine as the one before; of the coarsest a pixel is a place
_SIDE = 9  # pixels of a filter
_WAVELENGTH, _ALONG, _ACROSS = 4.0, 1.8, 2.6  # pixels: of the wave, and of the bell around it, in the wave's direction and across
_DARK = 16.0  # grey levels, by which the logarithm of black is finite and noise in the dark small
_LEAST_ENERGY = 0.01  # contrast that rounding to whole grey levels alone makes in the middle of the scale


@dataclasses.dataclass(frozen=True)
class Energies:
    """How many directions are told apart.

    Parameters
    ----------
    n_directions : int
        Of the filters on the picture.
    n_second : int
        Of the filters on the energies of the former.

    Examples
    --------
    >>> Energies().filters, Energies().strides
    ((115, 199), (8, 8))
    """

    n_directions: int = 6
    n_second: int = 4

    @property
    def filters(self) -> tuple[int, int]:
        """Channels of both stages."""
        n_pairs = _N_SCALES * (_N_SCALES - 1) // 2
        first = 2 * _N_SCALES * self.n_directions + _N_SCALES + 3
        second = n_pairs * (self.n_directions + self.n_second), n_pairs * self.n_directions * self.n_second
        return first + second[0], first + second[1]

    @property
    def strides(self) -> tuple[int, int]:
        """Pixels of the picture between two places of each stage."""
        return PLACE, PLACE


class OrientedEnergies(AbstractStagedNetwork):
    """Logarithms of the energy of a picture in each scale and direction, and of how this energy itself is spread, at every place.

    The logarithm of the brightness, in which light that falls stronger is a constant more, goes through pairs of even and odd waves under
    a bell (Gabor filters) in several directions, on the picture and on copies of half, a quarter and an eighth of its size. The length of
    each pair's answer is an energy. Of the energies the same filters find, at every coarser scale, how they vary from place to place
    (second order). Mean and maximum over each place of the first order, and the mean of the second, are taken as logarithms; brightness
    and colour ratios go beside them. Nothing is trained or drawn: what is normal is learned by what comes behind.

    Two stages come out. The first, for places, has each channel's mean over the picture subtracted, so that a place is compared with the
    rest of its picture: a picture of stronger texture or light is not far from normal everywhere. Its second order is averaged over the
    directions of either filter. The second stage, for the whole, has all of it as it is.

    Parameters
    ----------
    architecture : Energies

    Source: Gabor energies as in Daugman 1985; two orders as in the scattering transform (Bruna and Mallat 2013), which keeps means only.
    Deviation: of logarithms, maxima beside means, levels relative to the picture.

    Examples
    --------
    >>> net = OrientedEnergies(Energies())
    >>> [tuple(stage.shape) for stage in net(torch.zeros(2, 3, 64, 96))]
    [(2, 115, 8, 12), (2, 199, 8, 12)]
    """

    def __init__(self, architecture: Energies) -> None:
        super().__init__()
        self.architecture = architecture
        self.outputs = tuple(
            Stage(name, stride, channels)
            for name, stride, channels in zip(("at places", "of the whole"), architecture.strides, architecture.filters, strict=True)
        )
        self.roles = {PLACES: ("at places",)} | dict.fromkeys(WHOLE, ("of the whole",))
        self.first: Tensor
        self.second: Tensor
        self.register_buffer("first", _waves(architecture.n_directions))
        self.register_buffer("second", _waves(architecture.n_second))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map pixels (n, 3, height, width), 0..255, to both stages, (n, channels, ⌈height / 16⌉ · 2, ⌈width / 16⌉ · 2)."""
        picture = _whole_places(x)
        logs = torch.log(picture + _DARK)
        scales = [torch.log(picture.mean(dim=1, keepdim=True) + _DARK)]
        for _ in range(_N_SCALES):
            scales.append(_halved(scales[-1]))
        first, second, mixed = [], [], []
        for number in range(_N_SCALES):
            energies = _energies(scales[number], self.first)
            first += [_logarithm(_largest(energies, number)), _logarithm(_mean(energies, number))]
            for coarser in range(number + 1, _N_SCALES):
                energies = _halved(energies)
                variation = _mean(_energies(energies, self.second), coarser)
                second.append(_logarithm(variation))
                mixed += [_logarithm(part) for part in self._averaged(variation)]
        brightness = [_mean(scales[number], number) for number in range(2, _N_SCALES + 1)]
        extremes = [-_largest(-scales[0], 0), _largest(scales[0], 0)]
        colours = [_mean(logs[:, :1] - logs[:, 1:2], 0), _mean(logs[:, 1:2] - logs[:, 2:], 0)]
        common = [*first, *brightness, *extremes, *colours]
        at_places = torch.cat([*common, *mixed], dim=1)
        return [at_places - at_places.mean(dim=(2, 3), keepdim=True), torch.cat([*common, *second], dim=1)]

    def _averaged(self, variation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the second order averaged over the directions of the second filter, and over those of the first."""
        n_first, n_second = self.architecture.n_directions, self.architecture.n_second
        parted = variation.reshape(-1, n_first, n_second, *(int(side) for side in variation.shape[2:]))
        return parted.mean(dim=2), parted.mean(dim=1)


def filters_of(architecture: Energies) -> dict[str, Tensor]:
    """Return the filters, rounded to half precision as a model file holds them."""
    return {name: value.half() for name, value in OrientedEnergies(architecture).state_dict().items()}


def _waves(n_directions: int) -> Tensor:
    """Return even and odd waves in turn, shape (2 · directions, 1, side, side): zero mean each, the squares of a pair sum to one."""
    steps = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    found = []
    for direction in range(n_directions):
        angle = math.pi * direction / n_directions
        along = across * math.cos(angle) + down * math.sin(angle)
        beside = down * math.cos(angle) - across * math.sin(angle)
        bell = torch.exp(-((along / _ALONG) ** 2 + (beside / _ACROSS) ** 2) / 2)
        phase = 2 * math.pi / _WAVELENGTH * along
        even, odd = bell * torch.cos(phase), bell * torch.sin(phase)
        even = even - bell * (even.sum() / bell.sum())
        length = torch.sqrt((even**2 + odd**2).sum())
        found += [even / length, odd / length]
    return torch.stack(found)[:, None].float()


def _energies(x: Tensor, waves: Tensor) -> Tensor:
    """Return the length of each pair's answer on each channel alone: (n, channels · directions, height, width)."""
    height, width = (int(side) for side in x.shape[2:])
    margin = _SIDE // 2
    mode = "reflect" if min(height, width) > margin else "replicate"
    padded = functional.pad(x.reshape(-1, 1, height, width), (margin,) * 4, mode=mode)
    answers = functional.conv2d(padded, waves)
    squares = answers[:, 0::2] ** 2 + answers[:, 1::2] ** 2
    return torch.sqrt(squares + 1e-6).reshape(-1, int(x.shape[1]) * (len(waves) // 2), height, width)


def _halved(x: Tensor) -> Tensor:
    """Return every second pixel of what a binomial window (1, 2, 1) has smoothed, down and across."""
    x = functional.pad(x, (1, 0, 1, 0), mode="replicate")
    x = x[:, :, :-2:2] + 2 * x[:, :, 1::2] + x[:, :, 2::2]
    return (x[..., :-2:2] + 2 * x[..., 1::2] + x[..., 2::2]) / 16


def _whole_places(x: Tensor) -> Tensor:
    """Return the picture continued at its lower and right edge, so that each scale has whole pixels only."""
    down, across = (-int(side) % (2 * PLACE) for side in x.shape[2:])
    return functional.pad(x, (0, across, 0, down), mode="replicate") if down or across else x


def _mean(x: Tensor, scale: int) -> Tensor:
    """Return the mean over each place of what is given at a scale, 0 the finest; between places where it is coarser than they are."""
    if 2**scale > PLACE:
        return functional.interpolate(x, scale_factor=2**scale // PLACE, mode="bilinear", align_corners=False)
    return functional.avg_pool2d(x, PLACE // 2**scale)


def _largest(x: Tensor, scale: int) -> Tensor:
    return functional.max_pool2d(x, PLACE // 2**scale)


def _logarithm(energies: Tensor) -> Tensor:
    return torch.log(energies + _LEAST_ENERGY)
