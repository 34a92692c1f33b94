"""insphere: inside the sphere is normal. One-class anomaly detection for images and vectors.

Names are imported when they are first used, so that ``import insphere`` and ``insphere --help`` do not wait for PyTorch.

Examples
--------
>>> import insphere
>>> detector = insphere.DeepSVDDVAE(epochs=2, random_state=0)
>>> detector.epochs
2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insphere.data.sources import folder as folder
    from insphere.data.sources import open_source as open_source
    from insphere.detectors.batched import fit_many as fit_many
    from insphere.detectors.cae import CAE as CAE
    from insphere.detectors.cae_svdd import DeepSVDDCAE as DeepSVDDCAE
    from insphere.detectors.catalog import load as load
    from insphere.detectors.classical import KDE as KDE
    from insphere.detectors.classical import KNN as KNN
    from insphere.detectors.classical import OCSVM as OCSVM
    from insphere.detectors.classical import IForest as IForest
    from insphere.detectors.dasvdd import DASVDD as DASVDD
    from insphere.detectors.deep_svdd import DeepSVDD as DeepSVDD
    from insphere.detectors.fusion import Fusion as Fusion
    from insphere.detectors.hybrid import Hybrid as Hybrid
    from insphere.detectors.kernel_svdd import SVDD as SVDD
    from insphere.detectors.oc_nn import OCNN as OCNN
    from insphere.detectors.patch_knn import PatchKNN as PatchKNN
    from insphere.detectors.photo import PhotoSpheres as PhotoSpheres
    from insphere.detectors.transform_svdd import TransformSVDD as TransformSVDD
    from insphere.detectors.vae import VAE as VAE
    from insphere.detectors.vae_svdd import DeepSVDDVAE as DeepSVDDVAE
    from insphere.selection.fitting import fit as fit

__version__ = "0.1.0"

# Public name -> module that defines it. A new detector adds its class here and its name to the catalog.
_EXPORTS = {
    "CAE": "insphere.detectors.cae",
    "DASVDD": "insphere.detectors.dasvdd",
    "DeepSVDD": "insphere.detectors.deep_svdd",
    "DeepSVDDCAE": "insphere.detectors.cae_svdd",
    "OCNN": "insphere.detectors.oc_nn",
    "VAE": "insphere.detectors.vae",
    "DeepSVDDVAE": "insphere.detectors.vae_svdd",
    "IForest": "insphere.detectors.classical",
    "KDE": "insphere.detectors.classical",
    "KNN": "insphere.detectors.classical",
    "OCSVM": "insphere.detectors.classical",
    "SVDD": "insphere.detectors.kernel_svdd",
    "Fusion": "insphere.detectors.fusion",
    "Hybrid": "insphere.detectors.hybrid",
    "PatchKNN": "insphere.detectors.patch_knn",
    "PhotoSpheres": "insphere.detectors.photo",
    "TransformSVDD": "insphere.detectors.transform_svdd",
    "fit": "insphere.selection.fitting",
    "fit_many": "insphere.detectors.batched",
    "folder": "insphere.data.sources",
    "load": "insphere.detectors.catalog",
    "open_source": "insphere.data.sources",
}

__all__ = [
    "CAE",
    "DASVDD",
    "KDE",
    "KNN",
    "OCNN",
    "OCSVM",
    "SVDD",
    "VAE",
    "DeepSVDD",
    "DeepSVDDCAE",
    "DeepSVDDVAE",
    "Fusion",
    "Hybrid",
    "IForest",
    "PatchKNN",
    "PhotoSpheres",
    "TransformSVDD",
    "__version__",
    "fit",
    "fit_many",
    "folder",
    "load",
    "open_source",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'insphere' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
