"""The one-class protocol: fit on normal rows alone, score rows of both kinds, use labels for nothing but the final metrics."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.datasets import DATASETS
from insphere.data.rows import AbstractSource
from insphere.data.sources import open_source
from insphere.errors import DataError
from insphere.seeding import generator, resolve_seed
from insphere.validation import check_number


@dataclass(frozen=True)
class Split:
    """Rows to fit on (all normal), rows to score, and the labels of the latter (0 normal, 1 anomaly).

    Examples
    --------
    >>> split = one_class_split("digits:3")
    >>> len(split.train), len(split.test), int(split.labels.sum())
    (122, 596, 535)
    """

    train: AbstractSource
    test: AbstractSource
    labels: NDArray[np.int64]


def one_class_split(source: Any, *, random_state: int = 0, train_fraction: float = 0.5, **options: Any) -> Split:
    """Return the one-class split of a labelled source.

    Where the source keeps training and test rows apart (named data sets, ``train/good`` beside ``test/<defect>``), so does the split.
    Elsewhere a random part of the normal rows, whole groups at a time, is for training, and the rest, with all anomalies, for the test.

    Parameters
    ----------
    source : AbstractSource, str or path
        As `open_source`; it must have labels.
    random_state : int
        Seed of the random part.
    train_fraction : float
        Share of the normal rows to train on, in (0, 1).
    **options
        As `open_source`, without `split`.

    Raises
    ------
    DataError
        If the source has no labels, or fewer than two normal rows.

    Examples
    --------
    >>> from insphere.data import ArraySource
    >>> split = one_class_split(ArraySource(np.eye(5), labels=[0, 0, 0, 0, 1]))
    >>> len(split.train), split.labels.tolist()
    (2, [0, 0, 1])
    """
    check_number("train_fraction", train_fraction, above=0, below=1)
    if isinstance(source, str) and source.partition(":")[0] in DATASETS:
        train = open_source(source, split="train", **options)
        return _split(train, open_source(source, split="test", **options))
    everything = open_source(source, split="all", **options)
    if everything.parts is None:
        return _random_split(everything, train_fraction, random_state)
    # Opened by part, so that sizes are chosen from training rows alone.
    train = open_source(source, split="train", **options)
    return _split(train, open_source(source, split="test", **{**options, "spec": train.spec}))


def _split(train: AbstractSource, test: AbstractSource) -> Split:
    if test.labels is None:
        raise _unlabelled(test)
    return Split(train, test, test.labels)


def _unlabelled(source: AbstractSource) -> DataError:
    return DataError(
        f"{source.name} has no labels; give `label_column`, folders named good and by the defects, or a named data set such as 'digits:3'."
    )


def _random_split(source: AbstractSource, train_fraction: float, random_state: int) -> Split:
    if source.labels is None:
        raise _unlabelled(source)
    normal = np.flatnonzero(source.labels == 0)
    groups = np.asarray(source.groups)[normal] if source.groups is not None else normal
    names = np.unique(groups)
    if len(names) < 2:
        raise DataError(
            f"{source.name} has {len(normal)} normal rows in {len(names)} groups; at least two groups are needed to split them."
        )
    order = generator(resolve_seed(random_state), "one-class split").permutation(names)
    n_train = min(max(1, round(train_fraction * len(names))), len(names) - 1)
    chosen = np.isin(groups, order[:n_train])
    train = np.sort(normal[chosen])
    test = np.setdiff1d(np.arange(len(source)), train)
    return Split(source.take(train), source.take(test), source.labels[test])
