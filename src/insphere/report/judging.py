"""The rows of a report: scored once, by the same path as everywhere, with what is known of each."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource
from insphere.decision.scored import ScoredRows
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError
from insphere.localising import LocalisedRows, localiser_for
from insphere.metrics import Evaluation, evaluate
from insphere.visible import one_line

MAX_TYPES = 40
"""Types of anomalies, the most frequent ones, that a report tells apart."""

Scores = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class JudgedRows:
    """Rows of a source with their scores; the arrays hold the scored rows only, in the order of the source.

    Attributes
    ----------
    source : AbstractSource
        Where the rows come from.
    index : ndarray of int64, shape (m,)
        Positions of the scored rows in the source.
    anomaly_score, p_value : ndarray of float64, shape (m,)
        Higher, and lower, is more anomalous.
    is_anomaly : ndarray of bool, shape (m,)
        Decision at the detector's threshold.
    labels : ndarray of int64, shape (m,), or None
        0 normal, 1 anomaly.
    types : tuple of str, or None
        Class or defect type of each.
    errors : mapping of int to str
        Positions of the rows without a score, and why.
    n_seen : int
        Rows that equal one which was given to `fit`.
    places : LocalisedRows or None
        How well heat-maps find the places that masks mark, where there are both.
    categories : tuple of str or None, or None
        Category (camera, product, shift) by which each row was judged; None for a row without one, or where the detector has none.
    """

    source: AbstractSource
    index: NDArray[np.int64]
    anomaly_score: Scores
    p_value: Scores
    is_anomaly: NDArray[np.bool_]
    labels: NDArray[np.int64] | None
    types: tuple[str, ...] | None
    errors: Mapping[int, str]
    n_seen: int = 0
    places: LocalisedRows | None = None
    categories: tuple[str | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def name(self, row: int) -> str:
        """Return what the user calls the scored row number `row`."""
        return self.name_at(int(self.index[row]))

    def name_at(self, position: int) -> str:
        """Return what the user calls the row at a position of the source."""
        ids = self.source.ids
        return f"row {position}" if ids is None else one_line(ids[position])

    @cached_property
    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """Which rows are "normal" and "anomaly", where labels say so, and "all" without them."""
        if self.labels is None:
            return {"all": np.ones(len(self), dtype=np.bool_)}
        return {"normal": self.labels == 0, "anomaly": self.labels == 1}

    @cached_property
    def anomaly_types(self) -> dict[str, NDArray[np.bool_]]:
        """Rows of each of the most frequent types of anomaly, in order of their names; empty where there are not two known ones."""
        if self.types is None or self.labels is None:
            return {}
        counts = Counter(name for name, label in zip(self.types, self.labels.tolist(), strict=True) if label)
        if len(counts) < 2:
            return {}
        kept = sorted(sorted(counts, key=lambda name: (-counts[name], name))[:MAX_TYPES])
        # Compared one by one: NumPy strips zero bytes from the end of a name before it compares.
        return {name: np.array([own == name for own in self.types]) & (self.labels == 1) for name in kept}

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """Figures at the detector's threshold, where there are labels."""
        return None if self.labels is None else evaluate(self.labels, self.anomaly_score, self.is_anomaly, self.types)


def judge(detector: AbstractDetector, source: AbstractSource, on_batch: Callable[[ScoredRows], Any] | None = None) -> JudgedRows:
    """Score the rows of a source that `detector.open` has returned.

    Raises
    ------
    DataError
        If not one row could be scored.
    """
    batches = []
    localiser = localiser_for(source) if detector.has_maps else None
    for batch in detector.score_batches(source, maps=localiser is not None):
        if localiser is not None:
            localiser.add(batch)
        batches.append(dataclasses.replace(batch, maps=None))  # those of all rows would fill the memory
        if on_batch is not None:
            on_batch(batch)
    errors = {position: one_line(text) for batch in batches for position, text in batch.errors.items()}
    index = np.concatenate([batch.index for batch in batches])
    if not len(index):
        reason = next(iter(errors.values()))
        raise DataError(f"A report needs at least one row with a score, but none of the {len(source)} rows of {source.name} has: {reason}")
    facts = source.facts.take(index)
    return JudgedRows(
        source=source,
        index=index,
        anomaly_score=np.concatenate([batch.anomaly_score for batch in batches]),
        p_value=np.concatenate([batch.p_value for batch in batches]),
        is_anomaly=np.concatenate([batch.is_anomaly for batch in batches]),
        labels=facts.labels,
        types=None if facts.types is None else tuple(one_line(name) for name in facts.types),
        errors=errors,
        n_seen=sum(batch.n_seen for batch in batches),
        places=None if localiser is None else localiser.result(),
        categories=_categories(detector, batches),
    )


def _categories(detector: AbstractDetector, batches: Sequence[ScoredRows]) -> tuple[str | None, ...] | None:
    known = detector.decision_.categories
    if known is None:
        return None
    codes = [code for batch in batches for code in ([] if batch.categories is None else batch.categories.tolist())]
    return tuple(one_line(known.names[code]) if code >= 0 else None for code in codes)
