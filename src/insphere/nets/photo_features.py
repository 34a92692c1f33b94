"""What a frozen network sees in a picture: a vector at every place, one of the texture of the whole, one of what it shows."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insphere.nets.staged import MOST_VALUES, PLACES, AbstractStagedNetwork
from insphere.nets.windows import STEP, Windows
from insphere.seeding import generator

MOST_CHANNELS = {"texture": 256, "fine": 256, "shown": 1024}
"""Channels of one stage at most that go into a vector of the whole: of more, random mixtures do."""

_GREY = 127.0
_FINE = 8  # pixels between two places of a stitched map, where the network's own are not coarser
_TIMES_PLACES = 4  # as many places as a map may have at most where the picture is cut into windows


class PhotoFeatures(nn.Module):
    """Features of pictures under a frozen network.

    Parameters
    ----------
    network : AbstractStagedNetwork
    size : (int, int)
        Height and width in pixels that pictures are brought to before the network sees them; pictures of that size stay as they are.
    whole : {"texture", "fine", "shown"}
        What the vector of the whole picture is. "texture", "fine" (of pictures of few pixels): mean, standard deviation and maximum over
        the picture of stages that small marks change. "shown": the mean of stages that another kind of object changes.
    kept : ndarray of bool, shape `size`, optional
        Pixels to look at; the others become a middle grey before the network sees them.
    mixing : mapping of str to Tensor, optional
        Matrices (channels, fewer) of wide stages, see `mixing_for`; by default they are drawn from a fixed seed, the same every time.
    tiles : (int, int)
        Rows and columns of overlapping windows that the network sees one by one, see `Windows`: of them one map of places is put together,
        and the vector of the whole is taken over all of them. By default the network sees the picture at once.

    Examples
    --------
    >>> from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite
    >>> features = PhotoFeatures(EfficientNetLite(Architecture()), (64, 64), "shown")
    >>> [tuple(part.shape) for part in features(torch.zeros(2, 1, 30, 40))]
    [(2, 8, 8, 152), (2, 512)]
    """

    def __init__(
        self,
        network: AbstractStagedNetwork,
        size: Sequence[int],
        whole: str,
        kept: NDArray[np.bool_] | None = None,
        mixing: Mapping[str, Tensor] | None = None,
        tiles: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        self.kept: Tensor | None
        self.register_buffer("kept", None if kept is None else torch.from_numpy(kept.copy()), persistent=False)
        self.network, self.whole = network, whole
        self.size = (int(size[0]), int(size[1]))
        self._at_places, self._of_whole = network.numbers_for(PLACES), network.numbers_for(whole)
        self.tiles = (int(tiles[0]), int(tiles[1]))
        stride, most = network.stages_for(PLACES)[0].stride, network.most_places
        self.windows = None
        if self.n_tiles > 1:
            stride = _FINE if stride <= _FINE else STEP
            self.windows = Windows(self.size, self.tiles, stride)
            most *= min(self.n_tiles, _TIMES_PLACES)
        self.grid = grid_of(self.size, stride=stride, most=most)
        self.mixing = nn.ParameterDict()
        drawn = mixing_for(network, whole)
        for name, matrix in (drawn if mixing is None else mixing).items():
            if name not in drawn or drawn[name].shape != matrix.shape:
                raise RuntimeError(f"the mixing of {name} does not fit the network")
            self.mixing[name] = nn.Parameter(matrix.float(), requires_grad=False)
        if len(self.mixing) < len(drawn):
            raise RuntimeError("the mixing of wide stages is missing")
        self.n_values = sum(self._channels(PLACES, number) for number in self._at_places)
        self.last_of_whole = self._channels(whole, self._of_whole[-1])
        self.n_whole = sum(self._channels(whole, number) for number in self._of_whole) * (1 if whole == "shown" else 3)

    @property
    def n_tiles(self) -> int:
        """Windows of a picture."""
        return math.prod(self.tiles)

    def _channels(self, role: str, number: int) -> int:
        name = _mixture(role, number)
        return int(self.mixing[name].shape[1]) if name in self.mixing else self.network.outputs[number].channels

    def _mixed(self, stage: Tensor, role: str, number: int) -> Tensor:
        name = _mixture(role, number)
        return torch.einsum("nchw,cd->ndhw", stage, self.mixing[name]) if name in self.mixing else stage

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels (n, 1 or 3, height, width), 0..255, to two float32 tensors.

        Returns
        -------
        places : shape (n, grid height, grid width, n_values)
            Outputs of the network's stages for places, each averaged over 3 × 3 neighbours, side by side.
        whole : shape (n, n_whole)
        """
        windows, pictures = self.windows, self._sized(x)
        stages = self.network(pictures if windows is None else windows.cut(pictures))
        at_places = [self._mixed(stages[number], PLACES, number) for number in self._at_places]
        if windows is None:
            places = torch.cat([_brought_to(_smooth(stage), self.grid) for stage in at_places], dim=1)
        else:
            own = (windows.window[0] // windows.stride, windows.window[1] // windows.stride)
            places = _brought_to(windows.stitched(torch.cat([_brought_to(_smooth(stage), own) for stage in at_places], dim=1)), self.grid)
        means_alone = self.whole == "shown"
        of_whole = [_moments(self._together(self._mixed(stages[number], self.whole, number)), means_alone) for number in self._of_whole]
        return places.permute(0, 2, 3, 1), torch.cat(of_whole, dim=1)

    def _together(self, stage: Tensor) -> Tensor:
        """Return the values of a stage over the whole picture, over all windows if it has several: (n, channels, values)."""
        return stage.flatten(2) if self.windows is None else self.windows.by_window(stage).permute(1, 2, 0, 3, 4).flatten(2)

    def flat(self, x: Tensor) -> Tensor:
        """Return the same as one vector a picture, which `parted` takes apart."""
        places, whole = self(x)
        return torch.cat([places.flatten(1), whole], dim=1)

    def parted(self, flat: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return places and whole from what `flat` gave."""
        places, whole = np.split(flat, [flat.shape[1] - self.n_whole], axis=1)
        return places.reshape(len(flat), *self.grid, self.n_values), whole

    def _sized(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.size:
            x = functional.interpolate(x, size=self.size, mode="bicubic", align_corners=False).clamp(0, 255)
        if self.kept is not None:
            x = torch.where(self.kept, x, torch.full_like(x, _GREY))
        return (x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x).contiguous(memory_format=torch.channels_last)


def _smooth(stage: Tensor) -> Tensor:
    return functional.avg_pool2d(stage, 3, 1, 1, count_include_pad=False)


def _brought_to(smooth: Tensor, grid: tuple[int, int]) -> Tensor:
    height, width = (int(side) for side in smooth.shape[2:])
    together = min(height // grid[0], width // grid[1])
    if together > 1:  # of a very large picture: interpolation alone would pass over places between
        smooth = functional.avg_pool2d(smooth, together, ceil_mode=True, count_include_pad=False)
    if tuple(smooth.shape[2:]) == grid:
        return smooth
    return functional.interpolate(smooth, size=grid, mode="bilinear", align_corners=False)


def mixing_for(network: AbstractStagedNetwork, whole: str) -> dict[str, Tensor]:
    """Return the matrices by which the channels of wide stages are mixed to fewer, in half precision; none where no stage is wide.

    The vector of a place has `MOST_VALUES` values at most, which its stages share evenly as far as they have as many; of a stage of the
    whole there are `MOST_CHANNELS`. The columns are orthonormal and random, from a seed that never changes, so that distances between
    normal vectors are kept about as they are (Johnson and Lindenstrauss 1984).

    Examples
    --------
    >>> from insphere.nets.residual import Residual, ResidualNetwork
    >>> wide = ResidualNetwork(Residual(64, (64, 128, 256, 512), (256, 512, 1024, 2048), (1, 1, 1, 1), True))
    >>> {name: tuple(matrix.shape) for name, matrix in mixing_for(wide, "shown").items()}
    {'places-1': (512, 96), 'places-2': (1024, 96), 'shown-3': (2048, 1024)}
    """
    wanted: dict[str, tuple[int, int]] = {}
    if network.n_values > MOST_VALUES:
        left, stages = MOST_VALUES, sorted(network.numbers_for(PLACES), key=lambda number: network.outputs[number].channels)
        for position, number in enumerate(stages):
            channels = network.outputs[number].channels
            own = min(channels, left // (len(stages) - position))
            left -= own
            if own < channels:
                wanted[_mixture(PLACES, number)] = channels, own
    for number in network.numbers_for(whole):
        channels = network.outputs[number].channels
        if channels > MOST_CHANNELS[whole]:
            wanted[_mixture(whole, number)] = channels, MOST_CHANNELS[whole]
    return {name: _orthonormal(name, *shape) for name, shape in wanted.items()}


def _mixture(role: str, number: int) -> str:
    return f"{role}-{number}"


def _orthonormal(name: str, n_rows: int, n_columns: int) -> Tensor:
    columns, _ = np.linalg.qr(generator(0, f"mixing of {name}").standard_normal((n_rows, n_columns)))
    return torch.from_numpy(columns).half()


def grid_of(size: Sequence[int], *, stride: int, most: int) -> tuple[int, int]:
    """Return height and width of the map of a picture: one place every `stride` pixels, fewer where they would be more than `most`.

    Examples
    --------
    >>> grid_of((256, 256), stride=8, most=1200), grid_of((640, 640), stride=8, most=1200)
    ((32, 32), (34, 34))
    """
    height, width = (math.ceil(side / stride) for side in size)
    share = math.sqrt(min(1.0, most / (height * width)))
    return max(1, int(height * share)), max(1, int(width * share))


def _moments(values: Tensor, means_alone: bool) -> Tensor:
    mean = values.mean(dim=2)
    return mean if means_alone else torch.cat([mean, values.std(dim=2, correction=0), values.amax(dim=2)], dim=1)
