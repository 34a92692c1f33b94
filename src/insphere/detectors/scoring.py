"""How rows are scored, whatever the detector: one path from a source to scores, p-values, decisions and heat-maps."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insphere.data import AbstractSource
from insphere.decision.health import HealthReport
from insphere.decision.scored import ScoredRows
from insphere.decision.units import known_among, row_hashes
from insphere.detectors.fitting import as_rows
from insphere.detectors.telling import tell, warn_unreadable
from insphere.detectors.views import FittedViews
from insphere.errors import CollapseError, ParameterError

_BATCH_ROWS = 1024

if TYPE_CHECKING:
    Rows = ArrayLike | AbstractSource | str | os.PathLike[str]
else:

    class Rows:
        """Rows as users have them: an array, a data frame, an opened source, a path or the name of a data set; see `insphere.open_source`.

        At run time a name for signatures alone: `help` would spell the union out over many lines.
        """


class RowScoring(FittedViews):
    """The methods of a fitted detector that score rows; all go through `score_batches`."""

    name: ClassVar[str]
    has_maps: ClassVar[bool] = False
    health_: HealthReport
    row_hashes_: NDArray[np.uint64]

    @abstractmethod
    def open(self, X: Rows, *, split: str = "all", **options: Any) -> AbstractSource:
        """Return `X` as a source whose rows have the shape and type that this fitted detector takes."""

    @abstractmethod
    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return anomaly scores of checked rows, float64, shape (n,), higher = more anomalous."""

    def _score_maps(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """Return the scores of checked rows, and of a detector that `has_maps` the heat-map of each, float32, shape (n, height, width)."""
        return self._score(X), None

    def score_batches(self, X: Rows, *, batch_size: int = _BATCH_ROWS, maps: bool = False) -> Iterator[ScoredRows]:
        """Score the rows of `X` in order, `batch_size` at a time, each row exactly once as a score or as an error.

        With `maps`, and by a detector that `has_maps`, each row comes with its heat-map: see `anomaly_map`.

        Raises
        ------
        CollapseError
            If the fitted detector gives every row the same score.
        DataError
            If the rows do not fit the detector.
        """
        source = self.open(X)
        if self.health_.collapsed:
            critical = next(finding for finding in self.health_.findings if finding.level == "critical")
            raise CollapseError(f"This detector cannot score: {critical.text}")
        for rows in source.batches(batch_size):
            X_rows = as_rows(rows.X)
            heat = None
            if maps and self.has_maps and len(X_rows):
                scores, raw = self._score_maps(X_rows)
                heat = None if raw is None else (raw / self.decision_.map_level).astype(np.float32)
            else:
                scores = self._score(X_rows) if len(X_rows) else np.empty(0)
            p_values, flagged = self.decision_.p_value(scores), self.decision_.is_anomaly(scores)
            seen = known_among(row_hashes(X_rows), self.row_hashes_)
            yield ScoredRows(rows.index, scores, p_values, flagged, rows.errors, maps=heat, seen=seen)

    def anomaly_score(self, X: Rows) -> NDArray[np.float64]:
        """Return the anomaly score of each row, float64, shape (n,), higher = more anomalous.

        Rows of a file source that cannot be read get NaN and one warning; arrays with such values are refused.

        Raises
        ------
        CollapseError, DataError
            See `score_batches`.
        """
        source = self.open(X)
        scores = np.full(len(source), np.nan)
        errors: dict[int, str] = {}
        for batch in self.score_batches(source):
            scores[batch.index] = batch.anomaly_score
            errors |= batch.errors
        tell(source)
        warn_unreadable(errors, len(source), "score NaN")
        return scores

    def p_value(self, X: Rows) -> NDArray[np.float64]:
        """Return the conformal p-value of each row: the share of normal rows that score at least as high; NaN for unreadable rows.

        Source: split conformal prediction (Vovk 2005). Valid for normal rows exchangeable with the held-out ones.
        """
        scores = self.anomaly_score(X)
        p_values = np.full(len(scores), np.nan)
        p_values[~np.isnan(scores)] = self.decision_.p_value(scores[~np.isnan(scores)])
        return p_values

    def anomaly_map(self, X: Rows) -> NDArray[np.float32]:
        """Return the heat-map of each row: how far what is seen at each place lies from what is normal there.

        Returns
        -------
        ndarray of float32, shape (n, map height, map width)
            In units of held-out normal rows: 1 is the level that the highest place of a normal picture exceeds with a probability of
            `target_fpr` at most. NaN for rows that cannot be read.

        Raises
        ------
        ParameterError
            If the detector has no heat-maps.
        CollapseError, DataError
            See `score_batches`.
        """
        if not self.has_maps:
            raise ParameterError(f"{self.name} gives one score a row and no heat-map; take a detector that has one (photo), or `explain`.")
        source = self.open(X)
        found: list[NDArray[np.float32]] = []
        for batch in self.score_batches(source, maps=True):
            if batch.maps is not None:
                heat = np.full((len(batch.index) + len(batch.errors), *batch.maps.shape[1:]), np.nan, dtype=np.float32)
                start = min([*batch.index.tolist(), *batch.errors])
                heat[batch.index - start] = batch.maps
                found.append(heat)
        return np.concatenate(found)
