"""The detectors by name: the one table that the command line, the model file and the benchmark read."""

import dataclasses
import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insphere import extensions
from insphere.errors import ModelFileError, ParameterError, UnknownParameterError
from insphere.validation import check_choice

if TYPE_CHECKING:
    from insphere.detectors.base import AbstractDetector
    from insphere.model_file import ModelFile


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
        "transform-svdd",
        "insphere.detectors.transform_svdd",
        "TransformSVDD",
        "A sphere for each transformation of the input (turns, shifts, affine maps), told apart by distance (Zhou 2021; Bergman 2020).",
        "Small colour pictures, where anomalies are other kinds of things, and vectors with structure; training takes minutes.",
    ),
    Entry(
        "photo",
        "insphere.detectors.photo",
        "PhotoSpheres",
        "Spheres at every place and around the whole picture, in features of a frozen network; its heat-map shows where.",
        "Photos: defects on products, foreign objects; from about forty normal ones. Weights come with the extra insphere[photos].",
    ),
    Entry(
        "patch-knn",
        "insphere.detectors.patch_knn",
        "PatchKNN",
        "Distance of a picture's patches to the nearest normal ones, under the same frozen network (Roth 2022).",
        "To compare photo with what memories of patches give; slower, and usually behind it.",
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
        "dasvdd",
        "insphere.detectors.dasvdd",
        "DASVDD",
        "Autoencoder and hypersphere trained jointly, scored by what is trained: reconstruction error and distance (Hojjati 2021).",
        "To compare with published DASVDD figures; or an autoencoder whose error alone misses what lies far out in its codes.",
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
    Entry(
        "fusion",
        "insphere.detectors.fusion",
        "Fusion",
        "Weighted mean of several detectors' scores in units of normal rows; by itself of distances to near rows under several scalings.",
        "Tables: ahead of vae-svdd and of knn alone on most; or to join any detectors (detectors=[...]) into one.",
    ),
)

DETECTORS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""Name of each detector and its entry."""

GROUP = "insphere.detectors"
"""Entry points by which installed packages offer detectors of their own."""


def detector_class(name: str) -> "type[AbstractDetector]":
    """Return the class of the detector called `name`.

    Parameters
    ----------
    name : str
        One of `DETECTORS`; or the name of an installed package's entry point in the group ``insphere.detectors``; or
        ``module:Class``. The latter two import code of others: give only names that you trust.

    Raises
    ------
    ParameterError
        If there is none of that name, or what it names is not a detector.
    """
    if name in DETECTORS:
        found: type[AbstractDetector] = getattr(importlib.import_module(DETECTORS[name].module), DETECTORS[name].class_name)
        return found
    plugins = installed()
    if isinstance(name, str) and (":" in name or name in plugins):
        return _of_others(name, plugins.get(name, name))
    check_choice("detector", name, (*DETECTORS, *plugins))
    raise AssertionError("a name that passes the check is one of these")


def installed() -> dict[str, str]:
    """Return the detectors of installed packages: name and ``module:Class`` of each entry point; nothing is imported."""
    return {name: target for name, target in extensions.installed(GROUP).items() if name not in DETECTORS}


def _of_others(name: str, target: str) -> "type[AbstractDetector]":
    from insphere.detectors.base import AbstractDetector

    found = extensions.imported(target)
    if not (isinstance(found, type) and issubclass(found, AbstractDetector)):
        raise ParameterError(
            f"{name!r} is not a detector: it must be a subclass of insphere.detectors.base.AbstractDetector, as AbstractShallowDetector and"
            " AbstractNeuralDetector are (docs/adding-a-detector.md has one of each). insphere audit takes any class with fit."
        )
    own = getattr(found, "name", None)
    if not isinstance(own, str) or not own:
        raise ParameterError(f"{name!r} needs a `name`, a text by which its model files are known.")
    if own in DETECTORS:
        raise ParameterError(
            f"{name!r} has the name {own!r}, which is that of a detector of insphere: its files would be taken for that one's."
        )
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
    from insphere.detectors.parameters import unknown_parameter

    found = detector_class(name)
    known = found._get_param_names()
    for parameter in parameters:
        if parameter not in known:
            raise UnknownParameterError(unknown_parameter(name, parameter, known))
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


def load(
    path: str | os.PathLike[str],
    *,
    detector: "str | type[AbstractDetector] | None" = None,
    require_signature: str | os.PathLike[str] | None = None,
) -> "AbstractDetector":
    """Return the fitted detector stored at `path`. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like
    detector : str or class, optional
        The class, ``module:Class`` or entry point of a detector that is not insphere's own. A file's word alone imports nothing. The
        environment variable ``INSPHERE_DETECTORS`` names such classes for the command line, with commas between them.
    require_signature : path-like, optional
        Public key (PEM) with whose private half the file must be signed; see `insphere.signatures`. The environment variable
        ``INSPHERE_REQUIRE_SIGNATURE`` names one for every load that names none.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, altered, foreign, or of a detector or version that is not known here.
    ParameterError
        If `detector` is not a detector, or one of another name than the file's.
    """
    return restore(read(path, require_signature=require_signature), path, detector=detector)


def read(path: str | os.PathLike[str], *, require_signature: str | os.PathLike[str] | None = None) -> "ModelFile":
    """Return what a model file of a detector holds, checked to be whole and unaltered; `restore` makes the detector of it.

    Every way to a detector goes through here.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, altered or foreign.
    SignatureError
        If it is not signed with the key that is required: nothing in the file is looked at then.
    """
    from insphere import model_file, signatures
    from insphere.detectors.stored import KIND

    key = signatures.required_key(require_signature)
    return model_file.read(path, KIND, None if key is None else lambda data: signatures.check(data, path, key))


def restore(
    saved: "ModelFile", path: str | os.PathLike[str], *, detector: "str | type[AbstractDetector] | None" = None
) -> "AbstractDetector":
    """Return the fitted detector of what `read` returned; the other parameters as in `load`."""
    name = saved.header.get("detector")
    if isinstance(name, str) and name in DETECTORS:
        return detector_class(name).from_file(saved)
    named = [detector] if detector is not None else [word for word in os.environ.get("INSPHERE_DETECTORS", "").split(",") if word]
    for candidate in named:
        found = detector_class(candidate) if isinstance(candidate, str) else candidate
        if found.name == name:
            return found.from_file(saved)
    raise ModelFileError(
        f"{os.fspath(path)} holds a detector called {name!r}, which this version of insphere does not know. Upgrade insphere; or, if it is"
        " a detector of others that you trust, name its class: insphere.load(path, detector='module:Class'), or on the command line"
        " INSPHERE_DETECTORS=module:Class before the command."
    )
