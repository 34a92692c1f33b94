"""Weights of frozen networks from a safetensors file of the user's own: the names of its tensors say which network it is."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from insphere.errors import ParameterError
from insphere.nets import efficientnet_lite, residual
from insphere.nets.efficientnet_lite import FAMILY, Architecture
from insphere.nets.residual import Residual

SUFFIX = ".safetensors"
"""How the name of a file with weights ends."""

_KINDS = (
    "an EfficientNet-Lite (as its package or timm names its tensors), or a ResNet, wide ResNet or ResNeXt (as torchvision names them),"
    " saved by `safetensors.torch.save_file(model.state_dict(), ...)`; of a backbone of the package transformers give the folder: hf:FOLDER"
)


def read_weights(path: str | Path) -> tuple[Architecture | Residual, dict[str, Tensor], str]:
    """Return architecture, weights in half precision, and the SHA-256 of a file.

    Parameters
    ----------
    path : path
        Safetensors, which can hold nothing that executes.

    Raises
    ------
    ParameterError
        If it cannot be read, or its tensors are those of no network that is known.

    Examples
    --------
    >>> read_weights("none.safetensors")
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: `backbone`: there is no file none.safetensors.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ParameterError(f"`backbone`: there is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get("architecture")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is not a mapping)
    except (SafetensorError, OSError) as error:
        raise ParameterError(f"`backbone`: {path} cannot be read as a safetensors file ({error}).") from error
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    architecture, weights = _understood(tensors, path, told)
    wrong = next((name for name, value in weights.items() if not torch.isfinite(value.half()).all()), None)
    if wrong is not None:
        raise ParameterError(f"`backbone`: {path} has weights that are not finite in half precision ({wrong}); take another file.")
    return architecture, {name: value.half() for name, value in weights.items()}, digest


def _understood(tensors: Mapping[str, Tensor], path: Path, told: str | None) -> tuple[Architecture | Residual, dict[str, Tensor]]:
    """Return architecture and weights by our names; `told` is what the file says of itself, which its tensors must agree with."""
    try:
        if "conv_stem.weight" in tensors:
            tensors = _published_names(tensors)
        if "_conv_stem.weight" in tensors:
            lite = _member(tensors, path, told)
            return lite, efficientnet_lite.folded(tensors, lite)
        if "layer4.0.conv1.weight" in tensors:
            if told is not None and "res" not in told.lower():
                raise ParameterError(f"`backbone`: {path} says that it is a {told!r}, and its tensors are a ResNet's; take another file.")
            found = Residual.of(tensors)
            return found, residual.folded(tensors, found)
    except (KeyError, IndexError) as error:
        raise ParameterError(f"`backbone`: {path} lacks the weight {error}, so it is not a whole network; it must be {_KINDS}.") from error
    first = ", ".join(sorted(tensors)[:3])
    raise ParameterError(f"`backbone`: {path} has the tensors of no network that is known ({first}, …); it must be {_KINDS}.")


def _member(tensors: Mapping[str, Tensor], path: Path, told: str | None) -> Architecture:
    """Return the member of the Lite family whose numbers of blocks and filters a file has."""
    if any("._se_" in name or ".se." in name for name in tensors):
        raise ParameterError(f"`backbone`: {path} is an EfficientNet with squeeze and excitation, which is not known; take a Lite one.")
    n_blocks = len({name.split(".")[1] for name in tensors if name.startswith("_blocks.")})
    for name, (width, depth) in FAMILY.items():
        member = Architecture(width, depth)
        last = f"_blocks.{sum(member.repeats) - 1}._project_conv.weight"
        fits = n_blocks == sum(member.repeats) and last in tensors and tensors[last].shape[0] == member.filters[-1]
        if fits and told is not None and told.lower().endswith(tuple(FAMILY)) and not told.lower().endswith(name):
            raise ParameterError(f"`backbone`: {path} says that it is {told!r}, and its tensors are those of {name}; take another file.")
        if fits:
            return member
    raise ParameterError(f"`backbone`: {path} has {n_blocks} blocks, and no EfficientNet-Lite has blocks of that number and width.")


def _published_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors named as timm does under their published names: blocks are counted through, and the last norm is the second."""
    places = sorted({tuple(int(part) for part in name.split(".")[1:3]) for name in tensors if name.startswith("blocks.")})
    number = {f"blocks.{stage}.{block}": f"_blocks.{n}" for n, (stage, block) in enumerate(places)}
    # Where nothing is widened, the first convolution is the one by channel.
    plain = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    wide = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    found = {}
    for name, value in tensors.items():
        if name.startswith(("conv_stem.", "bn1.")):
            found[name.replace("conv_stem.", "_conv_stem.").replace("bn1.", "_bn0.")] = value
        elif name.startswith("blocks."):
            *place, part, kind = name.split(".", 4)
            block = ".".join(place)
            names = wide if f"{block}.conv_pwl.weight" in tensors else plain
            found[f"{number[block]}.{names.get(part, part)}.{kind}"] = value
    return found
