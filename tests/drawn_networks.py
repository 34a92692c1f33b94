"""Weights of small networks, drawn at random, under their published names, which have batch norm apart."""

import torch
from torch import Tensor

from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite
from insphere.nets.residual import Residual

BASIC = Residual(8, (8, 12, 16, 20), (8, 12, 16, 20), (2, 1, 2, 1), False)
BOTTLENECK = Residual(8, (4, 8, 12, 16), (16, 32, 48, 64), (1, 2, 1, 1), True, 2)


def published_lite(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Weights under the published names, drawn at random, and the same network with batch norm apart."""
    generator = torch.Generator().manual_seed(seed)
    own, found = EfficientNetLite(architecture).state_dict(), {}
    number, blocks = {}, 0
    for stage, repeats in enumerate(architecture.repeats):
        for block in range(repeats):
            number[f"stages.{stage}.{block}"] = blocks
            blocks += 1
    names = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
    for name, value in own.items():
        if not name.endswith(".weight"):
            continue
        part = name.removesuffix(".weight")
        place, _, kind = part.rpartition(".")
        convolution, norm = ("_conv_stem", "_bn0") if part == "stem" else (f"_blocks.{number[place]}.{n}" for n in names[kind])
        found[f"{convolution}.weight"] = torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5
        for entry, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            found[f"{norm}.{entry}"] = low + torch.rand(len(value), generator=generator)
    return found


def published_residual(architecture: Residual, seed: int = 0) -> dict[str, Tensor]:
    """Weights under the published names, drawn at random, with batch norm apart."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {"fc.weight": torch.zeros(10, architecture.channels[-1])}

    def add(convolution: str, norm: str, n_in: int, n_out: int, kernel: int) -> None:
        found[f"{convolution}.weight"] = torch.randn(n_out, n_in, kernel, kernel, generator=generator) / (n_in * kernel**2) ** 0.5
        for entry, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            found[f"{norm}.{entry}"] = low + torch.rand(n_out, generator=generator)
        found[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    add("conv1", "bn1", 3, architecture.stem, 7)
    n_in = architecture.stem
    for stage, (inner, n_out, repeats) in enumerate(zip(architecture.inner, architecture.channels, architecture.repeats, strict=True)):
        for block in range(repeats):
            name = f"layer{stage + 1}.{block}"
            sizes = [(n_in, inner, 3), (inner, n_out, 3)]
            if architecture.bottleneck:
                sizes = [(n_in, inner, 1), (inner // architecture.n_groups, inner, 3), (inner, n_out, 1)]
            for number, size in enumerate(sizes, 1):
                add(f"{name}.conv{number}", f"{name}.bn{number}", *size)
            if block == 0 and (stage > 0 or n_in != n_out):
                add(f"{name}.downsample.0", f"{name}.downsample.1", n_in, n_out, 1)
            n_in = n_out
    return found
