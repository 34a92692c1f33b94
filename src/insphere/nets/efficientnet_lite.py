"""EfficientNet-Lite as frozen features: the convolutional stages, for inference alone, with batch norm folded into the convolutions."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from insphere.nets.staged import PLACES, AbstractStagedNetwork, Stage, joined_norm

N_STAGES = 7

FAMILY = MappingProxyType({"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)})
"""Width and depth of the members of the family."""

# Stage by stage of EfficientNet-B0 (Tan 2019, Table 1), without squeeze and excitation: filters, expansion, kernel, stride, repeats.
_STAGES = ((16, 1, 3, 1, 1), (24, 6, 3, 2, 2), (40, 6, 5, 2, 2), (80, 6, 3, 2, 3), (112, 6, 5, 1, 3), (192, 6, 5, 2, 4), (320, 6, 3, 1, 1))
_STEM_FILTERS = 32
_NORM_EPS = 1e-3
_CENTRE, _SPREAD = 127.0, 128.0  # what pixels 0..255 are brought to -1..1 by


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How wide and deep a member of the family is.

    Parameters
    ----------
    width, depth : float
        Factors of the numbers of filters (rounded to eights) and of repeated blocks; the stem and the first and last stage keep theirs.
    n_stages : int
        Stages that are computed, 1..7.

    Examples
    --------
    >>> Architecture().filters
    (16, 24, 40, 80, 112, 192, 320)
    """

    width: float = 1.0
    depth: float = 1.0
    n_stages: int = N_STAGES

    roles: ClassVar[Mapping[str, tuple[int, ...]]] = MappingProxyType(
        {PLACES: (3, 5), "texture": (4, 5, 6), "fine": (2, 3, 4, 5), "shown": (6, 7)}
    )
    """Numbers of the stages of each role. Those at places are fine enough to see small marks, and deep enough to know what belongs where;
    of small pictures ("fine") the deepest stages have hardly a place left, and those that know what is shown are the last."""

    @property
    def filters(self) -> tuple[int, ...]:
        """Channels of each stage's output."""
        return tuple(_round_to_eights(filters * self.width) for filters, *_ in _STAGES[: self.n_stages])

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the picture between two places of each stage's output."""
        found, stride = [], 2
        for _, _, _, step, _ in _STAGES[: self.n_stages]:
            stride *= step
            found.append(stride)
        return tuple(found)

    @property
    def repeats(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        last = len(_STAGES) - 1
        return tuple(
            repeats if stage in (0, last) else math.ceil(repeats * self.depth)
            for stage, (*_, repeats) in enumerate(_STAGES[: self.n_stages])
        )


class EfficientNetLite(AbstractStagedNetwork):
    """Stages of an EfficientNet-Lite, from pixels to one feature map a stage.

    Weights are not drawn for training: load them with `load_state_dict` (see `folded`), or draw them by `insphere.seeding`.

    Parameters
    ----------
    architecture : Architecture

    Source: Tan and Le 2019 (EfficientNet); the Lite family leaves out squeeze and excitation and has ReLU6 for swish. Deviation: batch norm
    is folded into the convolutions, and classifier and last convolution are not there.

    Examples
    --------
    >>> import torch
    >>> net = EfficientNetLite(Architecture(n_stages=3))
    >>> [tuple(stage.shape[1:]) for stage in net(torch.zeros(2, 3, 64, 64))]
    [(16, 32, 32), (24, 16, 16), (40, 8, 8)]
    """

    mixed_from = 1.25

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.outputs = tuple(
            Stage(f"stage {number}", stride, filters)
            for number, (stride, filters) in enumerate(zip(architecture.strides, architecture.filters, strict=True), 1)
        )
        self.roles = {
            role: tuple(f"stage {number}" for number in numbers)
            for role, numbers in architecture.roles.items()
            if max(numbers) <= architecture.n_stages
        }
        self.stem = SameConv2d(3, _STEM_FILTERS, 3, 2)
        self.stages = nn.ModuleList()
        n_in = _STEM_FILTERS
        for (_, expansion, kernel, stride, _), n_out, n_blocks in zip(
            _STAGES[: architecture.n_stages], architecture.filters, architecture.repeats, strict=True
        ):
            blocks = [
                InvertedResidual(n_in if first else n_out, n_out, expansion, kernel, stride if first else 1)
                for first in [True] + [False] * (n_blocks - 1)
            ]
            self.stages.append(nn.Sequential(*blocks))
            n_in = n_out

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map pixels (n, 3, height, width), 0..255, to the output of each stage (n, filters, height / stride, width / stride)."""
        x = functional.relu6(self.stem((x - _CENTRE) / _SPREAD))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class InvertedResidual(nn.Module):
    """Widen, filter each channel alone, narrow again; with a way past it where the shape stays (Sandler 2018)."""

    def __init__(self, n_in: int, n_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        n_wide = n_in * expansion
        self.expand = SameConv2d(n_in, n_wide, 1, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(n_wide, n_wide, kernel, stride, groups=n_wide)
        self.project = SameConv2d(n_wide, n_out, 1, 1)
        self.has_way_past = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels in, height, width) to (n, channels out, ⌈height / stride⌉, ⌈width / stride⌉)."""
        y = x if self.expand is None else functional.relu6(self.expand(x))
        y = self.project(functional.relu6(self.depthwise(y)))
        result: Tensor = x + y if self.has_way_past else y
        return result


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ⌈size / stride⌉ places; an odd number of added places has one more after the picture than before it."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(n_in, n_out, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels in, height, width) to (n, channels out, ⌈height / stride⌉, ⌈width / stride⌉)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = _padding(int(x.shape[2]), kernel, stride)
        left, right = _padding(int(x.shape[3]), kernel, stride)
        if top == bottom == left == right:
            return functional.conv2d(x, self.weight, self.bias, stride, top, groups=self.groups)
        return functional.conv2d(functional.pad(x, (left, right, top, bottom)), self.weight, self.bias, stride, groups=self.groups)


def folded(published: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Return the state of `EfficientNetLite` from weights under their published names, which have batch norm apart.

    Raises
    ------
    KeyError
        If a weight is missing.
    """
    state = _joined(published, "_conv_stem", "_bn0", "stem")
    number = 0
    for stage, n_blocks in enumerate(architecture.repeats):
        for block in range(n_blocks):
            own, name = f"stages.{stage}.{block}", f"_blocks.{number}"
            parts = [("_depthwise_conv", "_bn1", "depthwise"), ("_project_conv", "_bn2", "project")]
            if _STAGES[stage][1] > 1:
                parts.insert(0, ("_expand_conv", "_bn0", "expand"))
            for convolution, norm, part in parts:
                state |= _joined(published, f"{name}.{convolution}", f"{name}.{norm}", f"{own}.{part}")
            number += 1
    return state


def _joined(published: Mapping[str, Tensor], convolution: str, norm: str, own: str) -> dict[str, Tensor]:
    return joined_norm(published, convolution, norm, own, _NORM_EPS)


def _padding(size: int, kernel: int, stride: int) -> Sequence[int]:
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _round_to_eights(filters: float) -> int:
    """Return the number of filters as a multiple of eight, not below nine tenths of what was asked for."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8
