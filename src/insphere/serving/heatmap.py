"""Pictures of where an image is anomalous, for the page."""

import base64
import io
from typing import Any

from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.errors import InsphereError
from insphere.serving.batching import COMPUTING
from insphere.serving.models import ServedModel

MOST_HEATMAPS = 16
"""Images of one request that get a heat-map at most."""


def heatmaps(model: ServedModel, X: NDArray[Any]) -> tuple[list[str | None], str | None]:
    """Return a heat-map over each image as a data URI (PNG), or why this detector has none.

    Parameters
    ----------
    model : ServedModel
    X : ndarray, shape (n, height, width, channels)
        Images at the model's size; those past the first `MOST_HEATMAPS` get None.
    """
    try:
        from insphere.explain import explain, overlay  # type: ignore[import-not-found, unused-ignore]

        if model.detector.has_maps:
            return [*own_maps(model.detector, X[:MOST_HEATMAPS]), *[None] * len(X[MOST_HEATMAPS:])], None
        with COMPUTING:
            maps = explain(model.detector, X[:MOST_HEATMAPS]).heatmaps
    except InsphereError as error:  # a package that is missing is one too, and says how to install it
        return [None] * len(X), f"No heat-map for this detector: {error}"
    except ImportError:
        return [None] * len(X), "No heat-map: this installation has no insphere.explain."
    if maps is None:
        return [None] * len(X), "No heat-map for this detector."
    pictures = [as_uri(overlay(image, heatmap)) for image, heatmap in zip(X[:MOST_HEATMAPS], maps, strict=True)]
    return [*pictures, *[None] * (len(X) - len(pictures))], None


def own_maps(detector: AbstractDetector, X: NDArray[Any]) -> list[str]:
    """Return the detector's own heat-map over each image, in fixed units, so that colours mean the same in every request."""
    from insphere.explain.maps import draw_map

    with COMPUTING:
        maps = detector.anomaly_map(X)
    return [as_uri(draw_map(image, heatmap)) for image, heatmap in zip(X, maps, strict=True)]


def as_uri(pixels: NDArray[Any]) -> str:
    """Return pixels, uint8, as a data URI of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
