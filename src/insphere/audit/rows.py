"""The rows of an audit: which are learned from, and which are asked about, in each repeat."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, open_source
from insphere.data.datasets import DATASETS
from insphere.errors import DataError
from insphere.seeding import generator


@dataclasses.dataclass(frozen=True)
class Parted:
    """The rows of one repeat.

    Attributes
    ----------
    train, normal, anomaly : ndarray, shape (n, ...)
        Rows to fit on; normal rows that are not fitted on; anomalies, none where the source has no labels.
    normal_index : ndarray of int64
        Which of all normal rows `normal` are.

    Examples
    --------
    >>> Parted(np.zeros((2, 1)), np.zeros((1, 1)), np.zeros((0, 1)), np.array([2])).test.shape
    (1, 1)
    """

    train: NDArray[Any]
    normal: NDArray[Any]
    anomaly: NDArray[Any]
    normal_index: NDArray[np.int64]

    @property
    def test(self) -> NDArray[Any]:
        """Normal rows and anomalies that are asked about, the normal ones first."""
        return np.concatenate([self.normal, self.anomaly])


@dataclasses.dataclass(frozen=True)
class AuditRows:
    """The rows of an audit.

    Attributes
    ----------
    name : str
        Of their source.
    repeats : tuple of Parted
    labelled : bool
        Whether there are anomalies to rank.
    parted : bool
        Whether the source says which rows to learn from; else each repeat draws half of the normal ones.
    of_images : bool
        Whether the rows are images, whatever shape they are handed on in.
    notices : tuple of str
        What was left out.

    Examples
    --------
    >>> rows = audit_rows("digits:3", n_repeats=2, max_rows=50, seed=0)
    >>> len(rows.repeats[0].train), len(rows.repeats[1].anomaly), rows.parted
    (50, 50, True)
    """

    name: str
    repeats: tuple[Parted, ...]
    labelled: bool
    parted: bool
    of_images: bool
    notices: tuple[str, ...]


def audit_rows(source: Any, *, n_repeats: int, max_rows: int, seed: int, as_images: bool = False, **options: Any) -> AuditRows:
    """Return the rows of an audit.

    Parameters
    ----------
    source : array, source or path
        See `insphere.open_source`. Without labels all rows count as normal.
    n_repeats : int
    max_rows : int
        Rows of each kind (to fit on, normal, anomalies) in a repeat, at most; drawn where there are more.
    seed : int
    as_images : bool
        Whether images stay images; else each is one row of numbers, pixels of files in [0, 1].
    **options
        As `insphere.open_source`.

    Raises
    ------
    DataError
        If there are fewer than sixteen normal rows.
    """
    parts = _parts(source, options)
    notices = [str(notice) for part in parts for notice in part.notices]
    loaded = [part.load() for part in parts]
    n_unreadable = sum(len(rows.errors) for rows in loaded)
    if n_unreadable:
        notices.append(f"{n_unreadable} rows cannot be read and are left out.")
    X = [_shaped(rows.X, as_images=as_images) for rows in loaded]
    labels = [
        np.zeros(len(rows.X), dtype=np.int64) if part.labels is None else part.labels[rows.index]
        for part, rows in zip(parts, loaded, strict=True)
    ]
    normal, anomaly = X[-1][labels[-1] == 0], X[-1][labels[-1] == 1]
    train = X[0][labels[0] == 0] if len(parts) == 2 else None
    n_normal = len(normal) if train is None else min(len(train), len(normal))
    if n_normal < 16:
        raise DataError(f"An audit needs sixteen normal rows at least, of each part where there are two; {parts[0].name} has {n_normal}.")
    rng = generator(seed, "audit rows")
    repeats = tuple(_draw(train, normal, anomaly, max_rows, rng) for _ in range(n_repeats))
    return AuditRows(parts[0].name, repeats, len(anomaly) > 0, train is not None, parts[0].is_image, tuple(dict.fromkeys(notices)))


def _parts(source: Any, options: dict[str, Any]) -> list[AbstractSource]:
    """Return training and test part where the source keeps them apart, else all of it."""
    if isinstance(source, str) and source.partition(":")[0] in DATASETS:
        train = open_source(source, split="train", **options)
        return [train, open_source(source, split="test", **options)]
    opened = open_source(source, **options)
    if opened.parts is None or not {"train", "test"} <= set(opened.parts):
        return [opened]
    return [opened.part("train"), opened.part("test")]


def _shaped(X: NDArray[Any], *, as_images: bool) -> NDArray[Any]:
    if X.ndim == 2 or as_images:
        return np.ascontiguousarray(X)
    flat = X.reshape(len(X), -1)
    return flat / 255.0 if X.dtype == np.uint8 else flat.astype(np.float64)


def _draw(train: NDArray[Any] | None, normal: NDArray[Any], anomaly: NDArray[Any], most: int, rng: np.random.Generator) -> Parted:
    order = rng.permutation(len(normal))
    if train is None:
        half = len(normal) // 2
        train, order = normal[np.sort(order[:half][:most])], order[half:]
    else:
        train = train[np.sort(rng.permutation(len(train))[:most])]
    chosen = np.sort(order[:most])
    some = np.sort(rng.permutation(len(anomaly))[:most])
    return Parted(train, normal[chosen], anomaly[some], chosen)
