"""One pass over a source: what the checks need to know of each row, small enough to keep of many thousands."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, ImageHeader, ImageSource, probe

THUMBNAIL = 16
"""Side, in cells, to which images are averaged to be compared."""

_BATCH_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Survey:
    """What is known of each of n rows; the arrays are in the order of the rows.

    Attributes
    ----------
    names, parts : list of str
        Name and part ("train", "test" or "") of each row.
    labels : ndarray of int64, shape (n,)
        0 normal, 1 anomaly, -1 unknown.
    errors : dict of int to str
        Rows that cannot be read, and why.
    places : ndarray of float32, shape (n, d)
        Thumbnails in grey levels, or the features themselves; NaN for unreadable rows.
    digests : list of bytes
        Equal for rows with equal values; empty for unreadable rows.
    constant : ndarray of bool, shape (n,)
        Whether all values of the row are equal.
    headers : list of ImageHeader or None
        Of image files that can be opened.
    is_image : bool
    feature_names : list of str
        Of vectors; numbers where the features have none.
    """

    names: list[str]
    parts: list[str]
    labels: NDArray[np.int64]
    errors: dict[int, str]
    places: NDArray[np.float32]
    digests: list[bytes]
    constant: NDArray[np.bool_]
    headers: list[ImageHeader | None]
    is_image: bool
    feature_names: list[str]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.names)

    @property
    def readable(self) -> NDArray[np.int64]:
        """Positions of the rows that can be read."""
        return np.array([row for row in range(len(self)) if row not in self.errors], dtype=np.int64)

    @property
    def normal(self) -> NDArray[np.int64]:
        """Positions of the readable rows that `fit` would learn from: of the training part, not known to be anomalies."""
        training = [self.parts[row] != "test" and self.labels[row] != 1 for row in self.readable]
        return self.readable[np.array(training, dtype=bool)] if training else self.readable


def survey(source: AbstractSource, *, part: str | None = None) -> Survey:
    """Return what the checks need to know of a source.

    Parameters
    ----------
    source : AbstractSource
    part : {"train", "test"}, optional
        What all rows count as; by default what the source says.
    """
    n_rows = len(source)
    names = [str(row) for row in range(n_rows)] if source.ids is None else list(source.ids)
    parts = [part] * n_rows if part is not None else list(source.parts or [""] * n_rows)
    known = Survey(
        names=names,
        parts=parts,
        labels=np.full(n_rows, -1, dtype=np.int64) if source.labels is None else np.asarray(source.labels, dtype=np.int64),
        errors={},
        places=np.full((n_rows, THUMBNAIL**2 if source.is_image else source.row_shape[0]), np.nan, dtype=np.float32),
        digests=[b""] * n_rows,
        constant=np.zeros(n_rows, dtype=bool),
        headers=_headers(source),
        is_image=source.is_image,
        feature_names=_feature_names(source),
    )
    for batch in source.batches(_BATCH_ROWS):
        known.errors.update(batch.errors)
        if not len(batch.X):
            continue
        known.places[batch.index] = _thumbnails(batch.X) if source.is_image else np.clip(batch.X, -1e30, 1e30)
        flat = batch.X.reshape(len(batch.X), -1)
        known.constant[batch.index] = (flat == flat[:, :1]).all(axis=1)
        for row, values in zip(batch.index.tolist(), flat, strict=True):
            known.digests[row] = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
    return known


def joined(first: Survey, second: Survey) -> Survey:
    """Return both surveys as one, the rows of the first before those of the second."""
    return Survey(
        names=first.names + second.names,
        parts=first.parts + second.parts,
        labels=np.concatenate([first.labels, second.labels]),
        errors=first.errors | {row + len(first): text for row, text in second.errors.items()},
        places=np.concatenate([first.places, second.places]),
        digests=first.digests + second.digests,
        constant=np.concatenate([first.constant, second.constant]),
        headers=first.headers + second.headers,
        is_image=first.is_image,
        feature_names=first.feature_names,
    )


def _headers(source: AbstractSource) -> list[ImageHeader | None]:
    headers: list[ImageHeader | None] = [None] * len(source)
    if isinstance(source, ImageSource):
        with source.opened() as open_row:
            for row in range(len(source)):
                try:
                    with open_row(row) as file:
                        headers[row] = probe(file)
                # Whatever is wrong with the file, decoding it says so again, as this row's error.
                except Exception:
                    continue
    return headers


def _feature_names(source: AbstractSource) -> list[str]:
    if source.is_image:
        return []
    return [str(feature) for feature in range(source.row_shape[0])] if source.feature_names is None else list(source.feature_names)


def _thumbnails(X: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean grey of each cell of a grid over images (n, height, width, channels), in grey levels, shape (n, cells)."""
    grey = X.astype(np.float32).mean(axis=3)
    rows, columns = (_cells(size) for size in grey.shape[1:3])
    return np.asarray(np.einsum("rh,nhw,cw->nrc", rows, grey, columns, optimize=True).reshape(len(X), -1), dtype=np.float32)


def _cells(n_pixels: int) -> NDArray[np.float32]:
    """Return the share of each pixel in each cell, shape (cells, n_pixels): cells of equal width, pixels on an edge shared out."""
    edges = np.arange(THUMBNAIL + 1) * n_pixels / THUMBNAIL
    pixels = np.arange(n_pixels)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * THUMBNAIL / n_pixels, dtype=np.float32)
