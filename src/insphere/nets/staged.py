"""What a frozen network is to those who look through it: stages of outputs, each with a name, a stride and channels, and their roles."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Whole = Literal["texture", "fine", "shown"]
"""Vectors of the whole picture: of marks, of marks on pictures of few pixels, and of what is shown."""

WHOLE: tuple[str, ...] = get_args(Whole)
"""The same as texts."""

PLACES = "places"
"""The role of the stages whose outputs are the vector of a place."""

ROLES = (PLACES, *WHOLE)
"""All roles that stages have."""

MOST_VALUES = 192
"""Values of the vector of a place at most: of wider stages random mixtures are taken, so that ellipsoids stay small."""

_SPHERE_BYTES = 13.5e6  # of the ellipsoids at all places, four of which share one in half precision, in a model file
_PLACE_STRIDES, _TEXTURE_STRIDES, _FINE_STRIDES = (8, 16), (16, 32), (4, 8, 16)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One output of a network.

    Parameters
    ----------
    name : str
    stride : int
        Pixels of the picture between two places of the output.
    channels : int
        Values at each place.
    """

    name: str
    stride: int
    channels: int


class AbstractStagedNetwork(nn.Module, ABC):
    """A frozen network: from pixels to one feature map a stage, and which stages serve for what.

    A concrete class sets `outputs` and `roles`, and implements `forward`. It is looked through by `PhotoFeatures`, which needs nothing else
    of it, so that networks are exchangeable.

    Attributes
    ----------
    outputs : tuple of Stage
        What `forward` gives, in order.
    roles : mapping of str to tuple of str
        For each of `ROLES` the names of its stages: "places" at places of the map, the others in that vector of the whole picture. Stages
        that the network leaves out have no role.
    mixed_from : float or None
        Mean spread of the last stage's means over normal pictures from which these count as showing different things; None where it is
        not known.
    """

    outputs: tuple[Stage, ...]
    roles: Mapping[str, tuple[str, ...]]
    mixed_from: float | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Map pixels (n, 3, height, width), 0..255, to the output of each stage, (n, channels, about height / stride, width / stride)."""

    def stages_for(self, role: str) -> tuple[Stage, ...]:
        """Return the stages of a role."""
        by_name = {stage.name: stage for stage in self.outputs}
        return tuple(by_name[name] for name in self.roles[role])

    def numbers_for(self, role: str) -> tuple[int, ...]:
        """Return the positions of a role's stages in what `forward` gives."""
        names = [stage.name for stage in self.outputs]
        return tuple(names.index(name) for name in self.roles[role])

    def weights(self) -> dict[str, Tensor]:
        """Return what the network has to be given to be built again; what else it holds follows from its description."""
        return {name: value for name, value in self.state_dict().items() if value.is_floating_point()}

    @property
    def n_values(self) -> int:
        """Values of the vector of a place before they are mixed, if they are."""
        return sum(stage.channels for stage in self.stages_for(PLACES))

    @property
    def most_places(self) -> int:
        """Places that a map has at most: what a model file holds of their ellipsoids stays below 15 MB."""
        return places_for(min(self.n_values, MOST_VALUES))


def places_for(n_values: int) -> int:
    """Return how many places a map has at most where each has a vector of `n_values`; in hundreds.

    Examples
    --------
    >>> places_for(152), places_for(115), places_for(192)
    (1200, 2000, 700)
    """
    return max(100, round(4 * _SPHERE_BYTES / (2 * n_values**2) / 100) * 100)


def usual_roles(stages: Sequence[Stage]) -> dict[str, tuple[str, ...]]:
    """Return which stages serve for what in a network of which only their strides are known.

    Where stages become coarser, the last one of each stride serves: of strides 8 and 16 at places, 16 and 32 for texture, 4 to 16 for
    pictures of few pixels, the deepest one for what is shown. Where all have one stride, as in transformers, it is the one in the middle
    and the last one. The choice follows that on EfficientNet-Lite and was tried on no data with other networks.

    Parameters
    ----------
    stages : sequence of Stage
        At least one.

    Examples
    --------
    >>> roles = usual_roles([Stage("a", 4, 8), Stage("b", 8, 16), Stage("c", 16, 32), Stage("d", 32, 64)])
    >>> roles["places"], roles["texture"], roles["shown"]
    (('b', 'c'), ('c', 'd'), ('d',))
    >>> usual_roles([Stage(str(number), 14, 8) for number in range(12)])["places"]
    ('5', '11')
    """
    last_of = {stage.stride: stage.name for stage in stages}
    deepest = stages[-1].name
    if len(last_of) == 1:
        both = tuple(dict.fromkeys((stages[(len(stages) - 1) // 2].name, deepest)))
        return {PLACES: both, "texture": both, "fine": both, "shown": (deepest,)}

    def at(strides: Sequence[int]) -> tuple[str, ...]:
        found = tuple(last_of[stride] for stride in strides if stride in last_of)
        return found or (last_of[min(last_of, key=lambda stride: abs(stride - strides[0]))],)

    return {PLACES: at(_PLACE_STRIDES), "texture": at(_TEXTURE_STRIDES), "fine": at(_FINE_STRIDES), "shown": (deepest,)}


def deepest_needed(stages: Sequence[Stage], roles: Mapping[str, tuple[str, ...]], whole: str) -> int:
    """Return how many stages are computed where places and one vector of the whole are wanted.

    Examples
    --------
    >>> deepest_needed([Stage("a", 4, 8), Stage("b", 8, 16)], {"places": ("a",), "shown": ("b",), "fine": ("a",)}, "fine")
    1
    """
    names = [stage.name for stage in stages]
    return 1 + max(names.index(name) for name in (*roles[PLACES], *roles[whole]))


def joined_norm(published: Mapping[str, Tensor], convolution: str, norm: str, own: str, eps: float) -> dict[str, Tensor]:
    """Return weight and bias, called `own`, of a convolution without bias with the batch norm behind it in it.

    y = gain (Wx − mean) / √(var + eps) + shift.

    Raises
    ------
    KeyError
        If a weight is missing.
    """
    weight, gain, shift, mean, variance = (
        published[name].double()
        for name in (f"{convolution}.weight", f"{norm}.weight", f"{norm}.bias", f"{norm}.running_mean", f"{norm}.running_var")
    )
    factor = gain / torch.sqrt(variance + eps)
    return {f"{own}.weight": (weight * factor.reshape(-1, 1, 1, 1)).float(), f"{own}.bias": (shift - mean * factor).float()}
