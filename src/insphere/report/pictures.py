"""Which rows a report shows, and their images as small pictures inside the page."""

import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from insphere.gallery import choose_rows
from insphere.report.judging import JudgedRows

_LOSSLESS_BYTES = 4000  # a PNG above this size gives way to a JPEG; small and grey pictures stay as they are
_JPEG_QUALITY = 88


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Some rows worth a look.

    Attributes
    ----------
    name, title, text : str
        Anchor, heading and a sentence below it.
    rows : ndarray of int64
        Which of the scored rows, in the order in which they are shown.
    n_all : int
        How many rows there are of this kind, shown or not.
    """

    name: str
    title: str
    text: str
    rows: NDArray[np.int64]
    n_all: int


def choose_galleries(rows: JudgedRows, threshold: float, n_each: int) -> list[Gallery]:
    """Return the galleries of these rows, at most `n_each` in each; those of mistakes only where there are labels and mistakes."""
    scores = rows.anomaly_score
    strips = choose_rows(scores, threshold, n_each)
    n = len(rows)
    found = [Gallery("anomalous", "Most anomalous", "The highest scores, highest first.", strips["most anomalous"], n)]
    if rows.labels is not None:
        alarms = np.flatnonzero(rows.is_anomaly & (rows.labels == 0))
        missed = np.flatnonzero(~rows.is_anomaly & (rows.labels == 1))
        worst = alarms[np.argsort(-scores[alarms], kind="stable")]
        deepest = missed[np.argsort(scores[missed], kind="stable")]
        found += [
            Gallery("alarms", "False alarms", "Normal, yet flagged; the highest score first.", worst[:n_each], len(worst)),
            Gallery("missed", "Missed anomalies", "Anomalous, yet not flagged; the lowest score first.", deepest[:n_each], len(deepest)),
        ]
    near = strips.get("nearest to the threshold", np.empty(0, np.int64))
    found.append(Gallery("near", "Nearest to the threshold", "Where the decision is closest, by increasing score.", near, n))
    found.append(Gallery("normal", "Most normal", "The lowest scores, lowest first.", strips["most normal"], n))
    return [gallery for gallery in found if len(gallery.rows)]


def to_pixels(X: NDArray[Any], *, from_files: bool) -> NDArray[np.uint8]:
    """Return images as uint8 with one or three channels.

    Parameters
    ----------
    X : ndarray, shape (n, height, width, channels)
        Images as a detector reads them.
    from_files : bool
        Whether values are in 0..255 whatever their type. Floating-point arrays of unknown range are stretched, all alike, so that the
        lowest of their values is black and the highest white.

    Examples
    --------
    >>> to_pixels(np.array([[[[0.0], [0.5]], [[1.0], [1.0]]]]), from_files=False).ravel().tolist()
    [0, 128, 255, 255]
    """
    shown = X if X.shape[3] in (1, 3) else X[..., :1]
    if shown.dtype != np.uint8 and not from_files:
        low, high = float(shown.min()), float(shown.max())
        shown = (shown.astype(np.float64) - low) * (255 / (high - low) if high > low else 0.0)
    return np.asarray(np.clip(np.rint(shown), 0, 255).astype(np.uint8))


def shrunk(pixels: NDArray[np.uint8], longest_side: int) -> NDArray[np.uint8]:
    """Return a picture of shape (height, width, 1 or 3) scaled down to fit.

    Examples
    --------
    >>> shrunk(np.zeros((80, 40, 3), np.uint8), 20).shape
    (20, 10, 3)
    """
    if max(pixels.shape[:2]) <= longest_side:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    scale = longest_side / max(image.size)
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
    return np.asarray(small).reshape(small.size[1], small.size[0], pixels.shape[2])


def data_uri(pixels: NDArray[np.uint8], longest_side: int) -> str:
    """Return a picture of shape (height, width, 1 or 3), scaled down to fit, as text for the ``src`` of an image.

    Examples
    --------
    >>> data_uri(np.zeros((8, 8, 1), np.uint8), 64)[:22]
    'data:image/png;base64,'
    """
    small = shrunk(pixels, longest_side)
    image = Image.fromarray(small[:, :, 0] if small.shape[2] == 1 else small)
    kind, encoded = "png", _encoded(image, format="PNG", optimize=True)
    if len(encoded) > _LOSSLESS_BYTES:
        lossy = _encoded(image, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
        kind, encoded = ("jpeg", lossy) if len(lossy) < len(encoded) else (kind, encoded)
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


def _encoded(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class Tile:
    """One shown row.

    Attributes
    ----------
    row : int
        Which of the scored rows.
    name, type : str
        What the user calls the row, and its class or defect type where that is known.
    label : {"normal", "anomaly", ""}
    score, p_value : float
    picture, heatmap : str
        Sources of the two images; empty for vectors, and where there is no heat-map.
    features : tuple
        Of a vector: the `FeaturePart` of the features that stand out.
    """

    row: int
    name: str
    type: str
    label: str
    score: float
    p_value: float
    picture: str = ""
    heatmap: str = ""
    features: tuple[Any, ...] = ()


def make_tile(rows: JudgedRows, row: int, shown: Mapping[str, Any]) -> Tile:
    """Return the tile of a scored row; `shown` holds what stands for its content."""
    label = "" if rows.labels is None else ("normal", "anomaly")[int(rows.labels[row])]
    kind = "" if rows.types is None else rows.types[row]
    return Tile(row, rows.name(row), kind, label, float(rows.anomaly_score[row]), float(rows.p_value[row]), **shown)
