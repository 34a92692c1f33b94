"""The detectors by name: the one table that the command line, the model file and the benchmark read."""

import dataclasses
import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insphere.errors import ModelFileError, ParameterError, did_you_mean
from insphere.validation import check_choice

if TYPE_CHECKING:
    from insphere.detectors.base import AbstractDetector


@dataclasses.dataclass(frozen=True)
class Entry:
    """One detector: where it is, what it is, when to choose it.

    Attributes
    ----------
    name : str
        What the command line calls it.
    module, class_name : str
        Where the class is; it is imported only when asked for.
    summary, when : str
        One sentence each.
    """

    name: str
    module: str
    class_name: str
    summary: str
    when: str


_ENTRIES = (
    Entry(
        "vae-svdd",
        "insphere.detectors.vae_svdd",
        "DeepSVDDVAE",
        "Variational autoencoder and enclosing hypersphere trained jointly; scored by distance in the code space (Zhou 2021).",
        "The default: images or vectors, from about a hundred normal examples.",
    ),
)

DETECTORS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""Name of each detector and its entry."""


def detector_class(name: str) -> "type[AbstractDetector]":
    """Return the class of the detector called `name`.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    check_choice("detector", name, DETECTORS)
    found: type[AbstractDetector] = getattr(importlib.import_module(DETECTORS[name].module), DETECTORS[name].class_name)
    return found


def make(name: str, parameters: Mapping[str, Any]) -> "AbstractDetector":
    """Return an unfitted detector.

    Raises
    ------
    ParameterError
        If the name or a parameter is unknown.

    Examples
    --------
    >>> make("vae-svdd", {"alpha": 0.1}).alpha
    0.1
    """
    found = detector_class(name)
    known = found._get_param_names()
    for parameter in parameters:
        if parameter not in known:
            listed = ", ".join(known)
            raise ParameterError(f"{name} has no parameter {parameter!r}; it has {listed}.{did_you_mean(parameter, known)}")
    return found(**parameters)


def load(path: str | os.PathLike[str]) -> "AbstractDetector":
    """Return the fitted detector stored at `path`. Nothing in the file is executed.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, altered, foreign, or of a detector or version that is not known here.
    """
    from insphere import model_file
    from insphere.detectors.base import KIND

    saved = model_file.read(path, KIND)
    name = saved.header.get("detector")
    if not isinstance(name, str) or name not in DETECTORS:
        raise ModelFileError(
            f"{os.fspath(path)} holds a detector called {name!r}, which this version of insphere does not know; upgrade insphere."
        )
    return detector_class(name).from_file(saved)
