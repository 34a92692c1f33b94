"""ResNet as frozen features: the four stages, for inference alone, with batch norm folded into the convolutions."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from insphere.nets.staged import AbstractStagedNetwork, Stage, joined_norm, usual_roles

_MEAN, _SPREAD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, in grey levels: what the published weights expect
_NORM_EPS = 1e-5
_STRIDES = (4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Residual:
    """How wide and deep a ResNet is.

    Parameters
    ----------
    stem : int
        Channels of the first convolution.
    inner, channels : tuple of four int
        Channels within the blocks of each stage, and of its output.
    repeats : tuple of four int
        Blocks of each stage.
    bottleneck : bool
        Whether blocks have three convolutions, the second of which is 3 × 3; else two of 3 × 3.
    n_groups : int
        Groups of the 3 × 3 convolutions of bottlenecks (ResNeXt has more than one).
    n_stages : int
        Stages that are computed, 1..4.
    """

    stem: int
    inner: tuple[int, ...]
    channels: tuple[int, ...]
    repeats: tuple[int, ...]
    bottleneck: bool
    n_groups: int = 1
    n_stages: int = 4

    @classmethod
    def of(cls, published: Mapping[str, Tensor]) -> "Residual":
        """Return the architecture whose weights, under their published names, have these shapes.

        Raises
        ------
        KeyError
            If a weight is missing.
        """
        stages = [f"layer{number}" for number in range(1, 5)]
        bottleneck = "layer1.0.conv3.weight" in published
        last = "conv3" if bottleneck else "conv2"
        inner = tuple(published[f"{stage}.0.conv1.weight"].shape[0] for stage in stages)
        return cls(
            stem=published["conv1.weight"].shape[0],
            inner=inner,
            channels=tuple(published[f"{stage}.0.{last}.weight"].shape[0] for stage in stages),
            repeats=tuple(len({name.split(".")[1] for name in published if name.startswith(f"{stage}.")}) for stage in stages),
            bottleneck=bottleneck,
            n_groups=inner[0] // published["layer1.0.conv2.weight"].shape[1],
        )

    @property
    def outputs(self) -> tuple[Stage, ...]:
        """What is computed."""
        return tuple(Stage(f"layer{n + 1}", _STRIDES[n], self.channels[n]) for n in range(self.n_stages))


class ResidualNetwork(AbstractStagedNetwork):
    """Stages of a ResNet, from pixels to one feature map a stage.

    Parameters
    ----------
    architecture : Residual

    Source: He 2016; wide ones Zagoruyko 2016, groups Xie 2017. The stride of a bottleneck is in its 3 × 3 convolution, as in the weights
    that PyTorch's makers publish. Deviation: batch norm is folded into the convolutions, and the classifier is not there.

    Examples
    --------
    >>> net = ResidualNetwork(Residual(64, (64, 128, 256, 512), (64, 128, 256, 512), (2, 2, 2, 2), False))
    >>> [tuple(stage.shape[1:]) for stage in net(torch.zeros(2, 3, 64, 64))]
    [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    """

    def __init__(self, architecture: Residual) -> None:
        super().__init__()
        self.outputs = architecture.outputs
        every = dataclasses.replace(architecture, n_stages=4).outputs
        computed = {stage.name for stage in self.outputs}
        self.roles = {role: names for role, names in usual_roles(every).items() if computed.issuperset(names)}
        self.mean: Tensor
        self.spread: Tensor
        for name, values in zip(("mean", "spread"), pixel_scaling(), strict=True):
            self.register_buffer(name, values, persistent=False)
        self.stem = nn.Conv2d(3, architecture.stem, 7, 2, 3)
        self.stages = nn.ModuleList()
        n_in = architecture.stem
        for number in range(architecture.n_stages):
            blocks = []
            for block in range(architecture.repeats[number]):
                stride = 2 if block == 0 and number > 0 else 1
                blocks.append(_Block(n_in, number, stride, architecture))
                n_in = architecture.channels[number]
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map pixels (n, 3, height, width), 0..255, to the output of each stage, (n, channels, ⌈height / stride⌉, ⌈width / stride⌉)."""
        x = functional.relu(self.stem((x - self.mean) / self.spread))
        x = functional.max_pool2d(x, 3, 2, 1)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class _Block(nn.Module):
    """Two or three convolutions and the way past them."""

    def __init__(self, n_in: int, stage: int, stride: int, architecture: Residual) -> None:
        super().__init__()
        inner, n_out = architecture.inner[stage], architecture.channels[stage]
        if architecture.bottleneck:
            middle = nn.Conv2d(inner, inner, 3, stride, 1, groups=architecture.n_groups)
            self.convolutions = nn.ModuleList([nn.Conv2d(n_in, inner, 1), middle, nn.Conv2d(inner, n_out, 1)])
        else:
            self.convolutions = nn.ModuleList([nn.Conv2d(n_in, inner, 3, stride, 1), nn.Conv2d(inner, n_out, 3, 1, 1)])
        self.past = nn.Conv2d(n_in, n_out, 1, stride) if stride > 1 or n_in != n_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels in, height, width) to (n, channels out, ⌈height / stride⌉, ⌈width / stride⌉)."""
        y = x
        for number, convolution in enumerate(self.convolutions):
            y = convolution(y if number == 0 else functional.relu(y))
        return functional.relu(y + (x if self.past is None else self.past(x)))


def pixel_scaling() -> tuple[Tensor, Tensor]:
    """Return what is subtracted from pixels 0..255, and what they are divided by then; shape (1, 3, 1, 1) each."""
    return torch.tensor(_MEAN).reshape(1, 3, 1, 1), torch.tensor(_SPREAD).reshape(1, 3, 1, 1)


def folded(published: Mapping[str, Tensor], architecture: Residual) -> dict[str, Tensor]:
    """Return the state of `ResidualNetwork` from weights under their published names, which have batch norm apart.

    Raises
    ------
    KeyError
        If a weight is missing.
    """
    state = _joined(published, "conv1", "bn1", "stem")
    for stage, n_blocks in enumerate(architecture.repeats):
        for block in range(n_blocks):
            name, own = f"layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for number in range(3 if architecture.bottleneck else 2):
                state |= _joined(published, f"{name}.conv{number + 1}", f"{name}.bn{number + 1}", f"{own}.convolutions.{number}")
            if f"{name}.downsample.0.weight" in published:
                state |= _joined(published, f"{name}.downsample.0", f"{name}.downsample.1", f"{own}.past")
    return state


def _joined(published: Mapping[str, Tensor], convolution: str, norm: str, own: str) -> dict[str, Tensor]:
    return joined_norm(published, convolution, norm, own, _NORM_EPS)
