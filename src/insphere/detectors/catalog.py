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
    Entry(
        "vae",
        "insphere.detectors.vae",
        "VAE",
        "Variational autoencoder; scored by evidence lower bound, reconstruction error or distance in the code space (Kingma 2014).",
        "A likelihood in nats is wanted, or the control that shows what the sphere of vae-svdd adds.",
    ),
    Entry(
        "cae",
        "insphere.detectors.cae",
        "CAE",
        "Autoencoder; scored by reconstruction error.",
        "Anomalies are local marks that a picture of the error should show, such as scratches and spots.",
    ),
    Entry(
        "cae-svdd",
        "insphere.detectors.cae_svdd",
        "DeepSVDDCAE",
        "Autoencoder and enclosing hypersphere trained jointly (Zhou 2021, Fig. 8).",
        "The ablation of vae-svdd without a distribution over codes; also where draws of the code make training too noisy.",
    ),
    Entry(
        "deep-svdd",
        "insphere.detectors.deep_svdd",
        "DeepSVDD",
        "Encoder that maps normal rows close to a fixed centre, one-class or soft-boundary (Ruff 2018).",
        "To compare with published Deep SVDD figures; scoring is the fastest, as there is neither decoder nor search for neighbours.",
    ),
    Entry(
        "oc-nn",
        "insphere.detectors.oc_nn",
        "OCNN",
        "One-class neural network: hinge around a quantile of its own outputs, on a pretrained encoder (Chalapathy 2018).",
        "To compare with published OC-NN figures; elsewhere the others are steadier.",
    ),
    Entry(
        "knn",
        "insphere.detectors.classical",
        "KNN",
        "Mean distance to the nearest training rows; nothing is learned.",
        "First of all, as the bar that every other must pass; and for few rows, or normal rows of many kinds.",
    ),
    Entry(
        "ocsvm",
        "insphere.detectors.classical",
        "OCSVM",
        "One-class support vector machine with an RBF kernel whose parameters are chosen without labels (Schölkopf 2001).",
        "Vectors with dependent features, a few hundred to ten thousand rows; small model files.",
    ),
    Entry(
        "kde",
        "insphere.detectors.classical",
        "KDE",
        "Gaussian kernel density; the score is the negative log-density (Parzen 1962).",
        "Vectors of few features, where a score with a meaning (nats) is wanted.",
    ),
    Entry(
        "iforest",
        "insphere.detectors.classical",
        "IForest",
        "Isolation forest: how few random cuts separate a row from the others (Liu 2008).",
        "Vectors with features of unlike units and tails, many rows, or some anomalies among the training rows; nothing to tune.",
    ),
    Entry(
        "svdd",
        "insphere.detectors.kernel_svdd",
        "SVDD",
        "Smallest hypersphere around most rows in a kernel's feature space: RBF, polynomial or linear (Tax 2004; Zhou 2021, sec. 2.2).",
        "When the boundary itself is to be explained: support vectors, a centre and a radius; for ranking alone take ocsvm.",
    ),
    Entry(
        "hybrid",
        "insphere.detectors.hybrid",
        "Hybrid",
        "Codes of any neural detector, scored by any shallow one (encoder=..., detector=...).",
        "Images, where a shallow detector on pixels fails and its kind of score is wanted; or to tell what joint training adds.",
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


def check(name: str, parameters: Mapping[str, Any]) -> None:
    """Have the detector called `name` check its parameters, nested ones too, as it would when fitted.

    Raises
    ------
    ParameterError
        If the name or a parameter is unknown, or a value breaks its rule.

    Examples
    --------
    >>> check("knn", {"n_neighbors": 0})
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: `n_neighbors` must be a whole number at least 1, got 0.
    """
    make(name, parameters)._check_parameters()


def load(path: str | os.PathLike[str]) -> "AbstractDetector":
    """Return the fitted detector stored at `path`. Nothing in the file is executed.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, altered, foreign, or of a detector or version that is not known here.
    """
    from insphere import model_file
    from insphere.detectors.stored import KIND

    saved = model_file.read(path, KIND)
    name = saved.header.get("detector")
    if not isinstance(name, str) or name not in DETECTORS:
        raise ModelFileError(
            f"{os.fspath(path)} holds a detector called {name!r}, which this version of insphere does not know; upgrade insphere."
        )
    return detector_class(name).from_file(saved)
