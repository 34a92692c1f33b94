"""One picture of what was found: photos, and below each its heat-map over it with the contour of what is known to be defective."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from insphere.errors import DataError
from insphere.explain.maps import draw_map
from insphere.explain.overlays import as_rgb
from insphere.output_file import replacing

_DOTS_PER_INCH = 150
_WIDTH, _GAP, _MARGIN, _LINE = 2.1, 0.06, 0.08, 0.17  # inches
_QUALITY = 90


@dataclass(frozen=True)
class FoundPanel:
    """One photo and what a detector says of it.

    Attributes
    ----------
    picture : ndarray, shape (height, width) or (height, width, channels)
        Pixels in 0..255.
    heatmap : ndarray, shape (map height, map width)
        In units of held-out normal pictures, as `AbstractDetector.anomaly_map` gives it.
    mask : ndarray of bool, shape (height, width), optional
        True where the picture is known to be defective.
    title, caption : str
        Above the photo, and below the map.
    """

    picture: NDArray[Any]
    heatmap: NDArray[Any]
    mask: NDArray[np.bool_] | None
    title: str
    caption: str


def write_found(path: str | os.PathLike[str], panels: Sequence[FoundPanel], *, legend: str = "") -> None:
    """Write a JPEG with a column for each panel: the photo, and below it the photo with its map and the contours that `draw_map` draws.

    Parameters
    ----------
    path : path-like
        File to write, complete or not at all.
    panels : sequence of FoundPanel
        At least one; photos of other shapes than the first are fitted into its frame.
    legend : str
        A line below.

    Raises
    ------
    DataError
        If there is no panel, or one's map or mask cannot be drawn.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> panel = FoundPanel(np.zeros((60, 80, 3)), np.eye(2), None, "scratch", "found")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_found(Path(folder) / "found.jpg", [panel])
    ...     (Path(folder) / "found.jpg").read_bytes()[:2].hex()
    'ffd8'
    """
    if not panels:
        raise DataError("A picture of what was found needs at least one photo.")
    height, width = panels[0].picture.shape[:2]
    tall = _WIDTH * height / width
    size = (2 * _MARGIN + len(panels) * (_WIDTH + _GAP) - _GAP, 2 * _MARGIN + 2 * tall + _GAP + (4 if legend else 3) * _LINE)
    figure = Figure(figsize=size)
    for number, panel in enumerate(panels):
        left, top = _MARGIN + number * (_WIDTH + _GAP), _MARGIN + _LINE
        _write(figure, left, top - 0.05, panel.title, bold=True)
        _show(figure, left, top, tall, as_rgb(panel.picture))
        _show(figure, left, top + tall + _GAP, tall, draw_map(panel.picture, panel.heatmap, panel.mask))
        _write(figure, left, top + 2 * tall + _GAP + _LINE, panel.caption)
    if legend:
        _write(figure, _MARGIN, size[1] - _MARGIN, legend)
    with replacing(path) as handle:
        figure.savefig(handle, format="jpg", dpi=_DOTS_PER_INCH, pil_kwargs={"quality": _QUALITY})


def _write(figure: Figure, left: float, bottom: float, text: str, *, bold: bool = False) -> None:
    """Write a line at a place in inches from the upper left corner; nothing in it is read as mathematics."""
    width, height = figure.get_size_inches()
    weight = "bold" if bold else "normal"
    figure.text(left / width, 1 - bottom / height, text, fontsize=8, fontweight=weight, va="baseline", parse_math=False)


def _show(figure: Figure, left: float, top: float, tall: float, pixels: NDArray[np.uint8]) -> None:
    width, height = figure.get_size_inches()
    place = figure.add_axes((left / width, 1 - (top + tall) / height, _WIDTH / width, tall / height))
    place.imshow(pixels, interpolation="antialiased")
    place.set_axis_off()
