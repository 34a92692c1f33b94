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
    from insphere.detectors.catalog import load as load
    from insphere.detectors.vae_svdd import DeepSVDDVAE as DeepSVDDVAE

__version__ = "0.1.0"

# Public name -> module that defines it. A new detector adds its class here and its name to the catalog.
_EXPORTS = {
    "DeepSVDDVAE": "insphere.detectors.vae_svdd",
    "folder": "insphere.data.sources",
    "load": "insphere.detectors.catalog",
    "open_source": "insphere.data.sources",
}

__all__ = ["DeepSVDDVAE", "__version__", "folder", "load", "open_source"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'insphere' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(set(globals()) | set(_EXPORTS))
