"""What a frozen network sees in a picture: a vector at every place, one of the texture of the whole, one of what it shows."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insphere.nets.efficientnet_lite import EfficientNetLite

PLACES = (3, 5)
"""Stages whose outputs are the vector of a place: fine enough to see small marks, deep enough to know what belongs where."""

TEXTURE = (4, 5, 6)
"""Stages whose mean, spread and maximum over the picture are the vector of its texture."""

FINE = (2, 3, 4, 5)
"""The same of pictures of few pixels, in which the deepest stages have hardly a place left."""

SHOWN = (6, 7)
"""Stages whose mean over the picture is the vector of what it shows."""

WHOLE = {"texture": TEXTURE, "fine": FINE, "shown": SHOWN}
"""Stages of each vector of the whole picture."""

_GREY = 127.0

MOST_PLACES = 1200
"""Places that a map has at most: what a model file holds of them stays below 15 MB."""


class PhotoFeatures(nn.Module):
    """Features of pictures under a frozen network.

    Parameters
    ----------
    network : Module
        From pixels (n, 3, height, width), 0..255, to a list of stages; its `architecture` has `filters` and `strides`.
    size : (int, int)
        Height and width in pixels that pictures are brought to before the network sees them; pictures of that size stay as they are.
    whole : {"texture", "fine", "shown"}
        What the vector of the whole picture is. "texture", "fine": mean, standard deviation and maximum over the picture of the stages
        `TEXTURE` or `FINE`, which small marks change. "shown": the mean of the stages `SHOWN`, which another kind of object changes.
    kept : ndarray of bool, shape `size`, optional
        Pixels to look at; the others become a middle grey before the network sees them.

    Examples
    --------
    >>> from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite
    >>> features = PhotoFeatures(EfficientNetLite(Architecture()), (64, 64), "shown")
    >>> [tuple(part.shape) for part in features(torch.zeros(2, 1, 30, 40))]
    [(2, 8, 8, 152), (2, 512)]
    """

    def __init__(self, network: EfficientNetLite, size: Sequence[int], whole: str, kept: NDArray[np.bool_] | None = None) -> None:
        super().__init__()
        self.kept: Tensor | None
        self.register_buffer("kept", None if kept is None else torch.from_numpy(kept.copy()), persistent=False)
        self.network, self.whole = network, whole
        self.size = (int(size[0]), int(size[1]))
        filters, strides = network.architecture.filters, network.architecture.strides
        self.grid = grid_of(self.size, stride=strides[PLACES[0] - 1])
        self.n_values = sum(filters[stage - 1] for stage in PLACES)
        self.n_whole = sum(filters[stage - 1] * (1 if whole == "shown" else 3) for stage in WHOLE[whole])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels (n, 1 or 3, height, width), 0..255, to two float32 tensors.

        Returns
        -------
        places : shape (n, grid height, grid width, n_values)
            Outputs of the stages `PLACES`, each averaged over 3 × 3 neighbours, side by side.
        whole : shape (n, n_whole)
        """
        stages = self.network(self._sized(x))
        places = torch.cat([self._at_places(stages[stage - 1]) for stage in PLACES], dim=1).permute(0, 2, 3, 1)
        means_alone = self.whole == "shown"
        return places, torch.cat([_moments(stages[stage - 1], means_alone) for stage in WHOLE[self.whole]], dim=1)

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

    def _at_places(self, stage: Tensor) -> Tensor:
        smooth = functional.avg_pool2d(stage, 3, 1, 1, count_include_pad=False)
        height, width = (int(side) for side in smooth.shape[2:])
        together = min(height // self.grid[0], width // self.grid[1])
        if together > 1:  # of a very large picture: interpolation alone would pass over places between
            smooth = functional.avg_pool2d(smooth, together, ceil_mode=True, count_include_pad=False)
        if tuple(smooth.shape[2:]) == self.grid:
            return smooth
        return functional.interpolate(smooth, size=self.grid, mode="bilinear", align_corners=False)


def grid_of(size: Sequence[int], *, stride: int) -> tuple[int, int]:
    """Return height and width of the map of a picture: one place every `stride` pixels, fewer where they would be too many.

    Examples
    --------
    >>> grid_of((256, 256), stride=8), grid_of((640, 640), stride=8)
    ((32, 32), (34, 34))
    """
    height, width = (math.ceil(side / stride) for side in size)
    share = math.sqrt(min(1.0, MOST_PLACES / (height * width)))
    return max(1, int(height * share)), max(1, int(width * share))


def _moments(stage: Tensor, means_alone: bool) -> Tensor:
    values = stage.flatten(2)
    mean = values.mean(dim=2)
    return mean if means_alone else torch.cat([mean, values.std(dim=2, correction=0), values.amax(dim=2)], dim=1)
