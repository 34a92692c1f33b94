"""Explanations as pictures: a heat-map over its image, and a panel with all there is to see of one row."""

import os
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from insphere.errors import DataError
from insphere.explain.explanation import Explanation
from insphere.output_file import replacing
from insphere.validation import check_number

HEAT_COLORS = "inferno"
"""Colour map of heat: its brightness alone tells the order, so it reads the same with any colour vision, and in grey print."""

_STRONGEST = 0.75  # share of the colour where the heat is highest; the image stays visible
_DOTS_PER_INCH = 120
_SIDE = 1.6  # inches
_SHOWN_NEIGHBOURS = 3
_SHOWN_FEATURES = 20


def overlay(image: NDArray[Any], heatmap: NDArray[Any], *, maximum: float | None = None) -> NDArray[np.uint8]:
    """Return an image with its heat-map laid over it.

    Parameters
    ----------
    image : ndarray, shape (height, width, channels) or (height, width)
        Pixels in 0..255; three channels are RGB, of others the first is shown grey.
    heatmap : ndarray, shape (height, width)
        Heat, at least 0; where it is 0 the image is as it was.
    maximum : float, optional
        Heat that gets the brightest colour, at least 0. Default: the highest of this heat-map; give `Explanation.heat_limit` to compare
        images.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    DataError
        If the sizes differ, or the heat-map has a value that is negative or not finite.

    Examples
    --------
    >>> overlay(np.full((1, 2, 1), 100, np.uint8), np.array([[0.0, 1.0]])).tolist()
    [[[100, 100, 100], [214, 216, 148]]]
    """
    shown = as_rgb(image)
    if heatmap.shape != shown.shape[:2]:
        raise DataError(f"The heat-map must have the image's height and width {shown.shape[:2]}, got shape {heatmap.shape}.")
    if not np.isfinite(heatmap).all() or (heatmap < 0).any():
        raise DataError("The heat-map must have finite values of at least 0.")
    limit = float(heatmap.max()) if maximum is None else check_number("maximum", maximum, at_least=0)
    heat = np.clip(heatmap / limit, 0.0, 1.0) if limit > 0 else np.zeros(heatmap.shape)
    colors = 255.0 * colormaps[HEAT_COLORS](heat)[:, :, :3]
    strength = _STRONGEST * heat[:, :, np.newaxis]
    return np.rint((1 - strength) * shown + strength * colors).astype(np.uint8)


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (height, width) or (height, width, channels) with pixels in 0..255 as uint8 RGB.

    Examples
    --------
    >>> as_rgb(np.array([[[300.0], [-1.0]]])).tolist()
    [[[255, 255, 255], [0, 0, 0]]]
    """
    if image.ndim not in (2, 3) or not image.size:
        raise DataError(f"An image must have the shape (height, width) or (height, width, channels), got {image.shape}.")
    pixels = image[:, :, np.newaxis] if image.ndim == 2 else image
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(np.asarray(pixels, dtype=np.float64)), 0, 255)).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)


def write_panel(path: str | os.PathLike[str], explanation: Explanation, row: int, *, maximum: float | None = None) -> None:
    """Write a PNG of all there is to see of one row.

    Of an image: itself, its reconstruction, their difference, the heat-map over the image, and its nearest normal examples. Of a vector:
    the features that add most to the score, or take most from it.

    Parameters
    ----------
    path : path-like
        File to write, complete or not at all.
    explanation : Explanation
    row : int
        Which of its rows.
    maximum : float, optional
        Heat that gets the brightest colour. Default: `Explanation.heat_limit`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    figure = _bars(explanation, row) if explanation.heatmaps is None else _strip(explanation, row, maximum)
    score, p_value = explanation.anomaly_score[row], explanation.p_value[row]
    verdict = "anomaly" if explanation.is_anomaly[row] else "normal"
    # The name may hold what matplotlib reads as mathematics.
    name = explanation.ids[row].replace("$", r"\$")
    figure.suptitle(f"{name}\n{verdict}: score {score:.4g}, p-value {p_value:.3g} ({explanation.method})", fontsize=9, x=0.01, ha="left")
    with replacing(path) as handle:
        figure.savefig(handle, format="png", dpi=_DOTS_PER_INCH)


def _strip(explanation: Explanation, row: int, maximum: float | None) -> Figure:
    pictures = _pictures(explanation, row, explanation.heat_limit if maximum is None else maximum)
    height, width = explanation.rows.shape[1:3]
    side = _SIDE * float(np.clip(height / width, 0.25, 4.0))
    figure = Figure(figsize=(max(4.0, _SIDE * len(pictures)), side + 0.8), layout="constrained")
    for place, (title, pixels) in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
        place.imshow(pixels, interpolation="nearest")
        place.set_title(title, fontsize=8)
        place.set_axis_off()
    return figure


def _pictures(explanation: Explanation, row: int, maximum: float) -> list[tuple[str, NDArray[np.uint8]]]:
    image = explanation.rows[row].astype(np.float64)
    shown = [("image", as_rgb(image))]
    if explanation.reconstructions is not None:
        reconstruction = explanation.reconstructions[row]
        # Grey is not a difference, brighter is where the image is brighter than its reconstruction.
        shown += [("reconstruction", as_rgb(reconstruction)), ("difference", as_rgb(127.5 + (image - reconstruction)))]
    if explanation.heatmaps is not None:
        shown.append(("heat-map", overlay(image, explanation.heatmaps[row], maximum=maximum)))
    neighbours = explanation.neighbours
    if neighbours is not None and neighbours.rows is not None:
        examples = neighbours.rows[row][:_SHOWN_NEIGHBOURS]
        shown += [(f"normal {number}", as_rgb(example)) for number, example in enumerate(examples, 1)]
    return shown


def _bars(explanation: Explanation, row: int) -> Figure:
    contributions = explanation.feature_contributions
    if contributions is None:
        raise DataError("This explanation has neither heat-maps nor feature contributions to draw.")
    names = explanation.feature_names or [f"feature {feature}" for feature in range(contributions.shape[1])]
    largest = np.argsort(-np.abs(contributions[row]), kind="stable")[:_SHOWN_FEATURES][::-1]
    figure = Figure(figsize=(6.0, 1.2 + 0.22 * len(largest)), layout="constrained")
    place = figure.subplots()
    values = contributions[row][largest]
    place.barh([str(names[feature]).replace("$", r"\$") for feature in largest], values, color=np.where(values > 0, "#d1495b", "#2a6f97"))
    place.axvline(0, color="black", linewidth=0.8)
    place.set_xlabel("added to the anomaly score", fontsize=8)
    place.tick_params(labelsize=7)
    return figure
