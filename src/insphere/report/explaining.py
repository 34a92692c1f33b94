"""What `insphere.explain` says of the rows that a report shows."""

import dataclasses
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.errors import InsphereError


@dataclasses.dataclass(frozen=True)
class Reasons:
    """Why the shown rows score as they do.

    Attributes
    ----------
    overlays : list of ndarray, or None
        Each image with its heat-map laid over it, uint8, shape (height, width, 3).
    contributions : ndarray of float, shape (n, features), or None
        Share of each feature in the score, for vectors.
    missing : str
        Why there are none, as a sentence; empty where there are.
    """

    overlays: list[NDArray[np.uint8]] | None = None
    contributions: NDArray[np.float64] | None = None
    missing: str = ""


def find_reasons(detector: AbstractDetector, X: NDArray[Any], shown: NDArray[np.uint8] | None) -> Reasons:
    """Explain the rows `X`; `shown` are the same images as uint8, None for vectors. A detector without explanation has none."""
    try:
        explain = import_module("insphere.explain")
        explanation = explain.explain(detector, X)
    except ModuleNotFoundError as error:
        return Reasons(missing=f"No heat-map: {error.name} is not installed.")
    except InsphereError as error:
        return Reasons(missing=f"No heat-map for this detector: {error}" if shown is not None else str(error))
    if shown is None:
        return Reasons(contributions=explanation.feature_contributions)
    if explanation.heatmaps is None:
        return Reasons(missing="No heat-map for this detector.")
    # One scale for all, so that a calm image looks calm beside a striking one.
    limit = explanation.heat_limit
    overlays = [explain.overlay(image, heatmap, maximum=limit) for image, heatmap in zip(shown, explanation.heatmaps, strict=True)]
    return Reasons(overlays=overlays)
