"""What a frozen network sees in a picture: a vector at every place, one of the texture of the whole, one of what it shows."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insphere.nets.efficientnet_lite import EfficientNetLite
from insphere.nets.oriented_energies import OrientedEnergies

Whole = Literal["texture", "fine", "shown"]
"""Vectors of the whole picture; each network says which of its stages they are made of."""

Network = EfficientNetLite | OrientedEnergies

_GREY = 127.0


class PhotoFeatures(nn.Module):
    """Features of pictures under a frozen network.

    Parameters
    ----------
    network : Module
        From pixels (n, 3, height, width), 0..255, to a list of stages. Its `architecture` has their `filters` and `strides`, and says
        which of them make the vectors of places (`places`), how many places a map has at most, and which make that of the whole (`whole`).
    size : (int, int)
        Height and width in pixels that pictures are brought to before the network sees them; pictures of that size stay as they are.
    whole : {"texture", "fine", "shown"}
        What the vector of the whole picture is. "texture", "fine" (of pictures of few pixels): mean, standard deviation and maximum over
        the picture of stages that small marks change. "shown": the mean of stages that another kind of object changes.
    kept : ndarray of bool, shape `size`, optional
        Pixels to look at; the others become a middle grey before the network sees them.

    Examples
    --------
    >>> from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite
    >>> features = PhotoFeatures(EfficientNetLite(Architecture()), (64, 64), "shown")
    >>> [tuple(part.shape) for part in features(torch.zeros(2, 1, 30, 40))]
    [(2, 8, 8, 152), (2, 512)]
    """

    def __init__(self, network: Network, size: Sequence[int], whole: str, kept: NDArray[np.bool_] | None = None) -> None:
        super().__init__()
        self.kept: Tensor | None
        self.register_buffer("kept", None if kept is None else torch.from_numpy(kept.copy()), persistent=False)
        self.network, self.whole = network, whole
        self.size = (int(size[0]), int(size[1]))
        architecture = network.architecture
        self._at_places, self._of_whole = architecture.places, architecture.whole[whole]
        self.grid = grid_of(self.size, stride=architecture.strides[self._at_places[0] - 1], most=architecture.most_places)
        self.n_values = sum(architecture.filters[stage - 1] for stage in self._at_places)
        self.n_whole = sum(architecture.filters[stage - 1] * (1 if whole == "shown" else 3) for stage in self._of_whole)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels (n, 1 or 3, height, width), 0..255, to two float32 tensors.

        Returns
        -------
        places : shape (n, grid height, grid width, n_values)
            Outputs of the network's stages for places, each averaged over 3 × 3 neighbours, side by side.
        whole : shape (n, n_whole)
        """
        stages = self.network(self._sized(x))
        places = torch.cat([self._brought_to_grid(stages[stage - 1]) for stage in self._at_places], dim=1).permute(0, 2, 3, 1)
        means_alone = self.whole == "shown"
        return places, torch.cat([_moments(stages[stage - 1], means_alone) for stage in self._of_whole], dim=1)

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

    def _brought_to_grid(self, stage: Tensor) -> Tensor:
        smooth = functional.avg_pool2d(stage, 3, 1, 1, count_include_pad=False)
        height, width = (int(side) for side in smooth.shape[2:])
        together = min(height // self.grid[0], width // self.grid[1])
        if together > 1:  # of a very large picture: interpolation alone would pass over places between
            smooth = functional.avg_pool2d(smooth, together, ceil_mode=True, count_include_pad=False)
        if tuple(smooth.shape[2:]) == self.grid:
            return smooth
        return functional.interpolate(smooth, size=self.grid, mode="bilinear", align_corners=False)


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


def _moments(stage: Tensor, means_alone: bool) -> Tensor:
    values = stage.flatten(2)
    mean = values.mean(dim=2)
    return mean if means_alone else torch.cat([mean, values.std(dim=2, correction=0), values.amax(dim=2)], dim=1)
