"""What `insphere.explain` says of the rows that a report shows."""

import dataclasses
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, ImageSource
from insphere.data.masks import mask_at_size
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, InsphereError
from insphere.explain.maps import draw_map, opened_pictures
from insphere.report.pictures import shrunk, to_pixels


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
    are_maps : bool
        Whether the pictures show the detector's own heat-maps, in fixed units.
    """

    overlays: list[NDArray[np.uint8]] | None = None
    contributions: NDArray[np.float64] | None = None
    missing: str = ""
    are_maps: bool = False


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


def map_pictures(detector: AbstractDetector, source: AbstractSource, size: int) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return each picture of a source, and the same with the detector's heat-map and the contour of its mask, by position.

    Photos are shown as they are, not as the model reads them, scaled down to `size` pixels; those that cannot be read are left out.
    """
    maps: dict[int, NDArray[np.float32]] = {}
    for batch in detector.score_batches(source, maps=True):
        if batch.maps is not None:
            maps |= dict(zip(batch.index.tolist(), batch.maps, strict=True))
    if not isinstance(source, ImageSource):
        pixels = dict(zip(maps, to_pixels(source.load().X, from_files=False), strict=True))
        return {row: _with_map(shrunk(pixels[row], size), heatmap, None) for row, heatmap in maps.items()}
    found = {}
    with opened_pictures(source) as picture_of, source.opened_masks() as mask_of:
        for row, heatmap in maps.items():
            try:
                picture = shrunk(picture_of(row), size)
            except DataError:  # gone since it was scored
                continue
            try:
                mask = mask_of(row)
            except DataError:  # told with the figures of places
                mask = None
            found[row] = _with_map(picture, heatmap, mask)
    return found


def _with_map(
    picture: NDArray[np.uint8], heatmap: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return picture, draw_map(picture, heatmap, None if mask is None else mask_at_size(mask, *picture.shape[:2]))
