"""Explanations as pictures: the heat-map of a row over its image, and a panel with all there is to see of one row."""

import os

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from insphere.errors import DataError
from insphere.explain.explanation import Explanation
from insphere.explain.maps import draw_map
from insphere.explain.overlays import as_rgb, overlay
from insphere.output_file import replacing

_DOTS_PER_INCH = 120
_SIDE = 1.6  # inches
_SHOWN_NEIGHBOURS = 3
_SHOWN_FEATURES = 20


def draw_heat(explanation: Explanation, row: int, *, maximum: float) -> NDArray[np.uint8]:
    """Return the image of a row with its heat-map over it: `draw_map` for the method "map", else `overlay`; uint8 RGB.

    Raises
    ------
    DataError
        If the rows have no heat-maps.
    """
    if explanation.heatmaps is None:
        raise DataError("This explanation has no heat-maps to draw.")
    image, heatmap = explanation.rows[row], explanation.heatmaps[row]
    return draw_map(image, heatmap) if explanation.method == "map" else overlay(image, heatmap, maximum=maximum)


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
        Heat that gets the brightest colour. Default: `Explanation.heat_limit`. Of no account for the method "map", whose unit is fixed.

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
        shown.append(("heat-map", draw_heat(explanation, row, maximum=maximum)))
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
