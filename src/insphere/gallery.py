"""A picture of what a detector finds most normal and most anomalous."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from insphere.errors import DataError
from insphere.output_file import replacing
from insphere.validation import check_integer

_COLOR = {0: "#2a9d8f", 1: "#d1495b", None: "#9a9a9a"}
_DOTS_PER_INCH = 150
_SIDE, _GAP, _MARGIN, _TITLE, _CAPTION = 0.9, 0.08, 0.1, 0.28, 0.36  # inches


def write_gallery(
    path: str | os.PathLike[str],
    images: NDArray[Any],
    scores: NDArray[np.float64],
    *,
    threshold: float,
    types: Sequence[str] | None = None,
    labels: NDArray[np.int64] | None = None,
    title: str = "",
    n_columns: int = 10,
) -> None:
    """Write a PNG of three rows of images: the most normal, those nearest to the threshold, the most anomalous.

    Each image carries its score and its type; its frame is green for a normal row, red for an anomaly, grey where that is unknown.

    Parameters
    ----------
    path : path-like
        File to write, complete or not at all.
    images : ndarray, shape (n, height, width, channels)
        Pixels in 0..255; one channel is shown grey, three as RGB, others by their first.
    scores : ndarray, shape (n,)
        Anomaly score of each, higher = more anomalous.
    threshold : float
        Scores above it are flagged.
    types : sequence of str, optional
        Class or defect type of each.
    labels : ndarray of int64, optional
        0 normal, 1 anomaly.
    title : str
        Line above the picture.
    n_columns : int
        Images in a row, fewer where there are not as many.

    Raises
    ------
    DataError
        If there is no image, or the lengths differ.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_gallery(Path(folder) / "gallery.png", images, np.arange(4.0), threshold=2.5)
    ...     (Path(folder) / "gallery.png").read_bytes()[1:4]
    b'PNG'
    """
    check_integer("n_columns", n_columns, at_least=1, at_most=100)
    strips = choose_rows(scores, threshold, n_columns)
    write_strips(path, images, scores, strips, types=types, labels=labels, title=title)


def write_strips(
    path: str | os.PathLike[str],
    images: NDArray[Any],
    scores: NDArray[np.float64],
    strips: Mapping[str, NDArray[np.int64]],
    *,
    types: Sequence[str] | None = None,
    labels: NDArray[np.int64] | None = None,
    title: str = "",
) -> None:
    """Write a PNG of any rows of images, each under its own title; `write_gallery` has the parameters and errors.

    Parameters
    ----------
    strips : mapping of str to ndarray of int64
        Title of each row of the picture, and the numbers of the images in it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_strips(Path(folder) / "gallery.png", images, np.arange(4.0), {"worst": np.array([3, 2])})
    ...     (Path(folder) / "gallery.png").read_bytes()[1:4]
    b'PNG'
    """
    if images.ndim != 4 or not len(images):
        raise DataError(f"A gallery needs images of shape (n, height, width, channels) with n above 0, got shape {images.shape}.")
    for name, values in (("scores", scores), ("types", types), ("labels", labels)):
        if values is not None and len(values) != len(images):
            raise DataError(f"`{name}` must have one entry per image: {len(images)} images, but {len(values)} entries.")
    figure = Figure(figsize=_figure_size(strips, images))
    _write(figure, 0.0, title, size=10)
    for number, (name, rows) in enumerate(strips.items()):
        top = _TITLE + number * _strip_height(images)
        _write(figure, top, name, size=9)
        for column, row in enumerate(rows):
            label = None if labels is None else int(labels[row])
            caption = f"{scores[row]:.3g}" if types is None else f"{types[row]}\n{scores[row]:.3g}"
            _draw(_place(figure, column, top + _TITLE, images), images[row], caption, _COLOR[label])
    with replacing(path) as handle:
        figure.savefig(handle, format="png", dpi=_DOTS_PER_INCH)


def choose_rows(scores: NDArray[np.float64], threshold: float, n_columns: int) -> dict[str, NDArray[np.int64]]:
    """Return title and row numbers of each strip, in order of their scores; ties by row number.

    Examples
    --------
    >>> {name: rows.tolist() for name, rows in choose_rows(np.array([3.0, 1.0, 2.0, 9.0]), 2.5, 2).items()}
    {'most normal': [1, 2], 'nearest to the threshold': [2, 0], 'most anomalous': [3, 0]}
    """
    order = np.argsort(scores, kind="stable")
    strips = {"most normal": order[:n_columns]}
    if np.isfinite(threshold):
        nearest = np.argsort(np.abs(scores - threshold), kind="stable")[:n_columns]
        strips["nearest to the threshold"] = nearest[np.argsort(scores[nearest], kind="stable")]
    return strips | {"most anomalous": order[::-1][:n_columns]}


def _aspect(images: NDArray[Any]) -> float:
    """Return height by width, within what stays readable."""
    return float(np.clip(images.shape[1] / images.shape[2], 0.25, 4.0))


def _strip_height(images: NDArray[Any]) -> float:
    return _TITLE + _SIDE * _aspect(images) + _CAPTION


def _figure_size(strips: Mapping[str, NDArray[np.int64]], images: NDArray[Any]) -> tuple[float, float]:
    n_columns = max(len(rows) for rows in strips.values())
    return max(4.0, 2 * _MARGIN + n_columns * (_SIDE + _GAP)), _TITLE + len(strips) * _strip_height(images) + _MARGIN


def _write(figure: Figure, top: float, text: str, *, size: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(_MARGIN / width, 1 - (top + 0.7 * _TITLE) / height, text, fontsize=size, fontweight="bold", va="baseline")


def _place(figure: Figure, column: int, top: float, images: NDArray[Any]) -> Any:
    """Return the axes of one image; its place is reckoned in inches, as layout engines leave uneven gaps between strips."""
    width, height = figure.get_size_inches()
    side = _SIDE * _aspect(images)
    left = _MARGIN + column * (_SIDE + _GAP)
    return figure.add_axes((left / width, 1 - (top + side) / height, _SIDE / width, side / height))


def _draw(place: Any, image: NDArray[Any], caption: str, color: str) -> None:
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    shown = pixels if pixels.shape[2] == 3 else pixels[:, :, 0]
    place.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    place.set_xticks([])
    place.set_yticks([])
    place.set_xlabel(caption, fontsize=7, labelpad=2)
    for edge in place.spines.values():
        edge.set(color=color, linewidth=2.5)
