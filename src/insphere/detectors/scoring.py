"""How rows are scored, whatever the detector: one path from a source to scores, p-values, decisions and heat-maps."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insphere.data import AbstractSource, ImageSource
from insphere.data.rows import RowFacts
from insphere.data.stores import BytesStore
from insphere.decision.categories import NO_CATEGORY, UNKNOWN, category_texts, coded, pooled_text, unknown_text
from insphere.decision.discoveries import Discoveries, discover
from insphere.decision.health import HealthReport
from insphere.decision.scored import ScoredRows
from insphere.decision.units import by_position, known_among, row_hashes
from insphere.detectors.fitting import as_rows
from insphere.detectors.telling import tell, warn_unreadable
from insphere.detectors.views import FittedViews
from insphere.errors import CollapseError, DataError, DataNotice, ParameterError, warn_user

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

    def score_batches(
        self,
        X: Rows,
        *,
        batch_size: int = _BATCH_ROWS,
        maps: bool = False,
        categories: Iterable[Any] | None = None,
        hashed: bool = True,
    ) -> Iterator[ScoredRows]:
        """Score the rows of `X` in order, `batch_size` at a time, each row exactly once as a score or as an error.

        With `maps`, and by a detector that `has_maps`, each row comes with its heat-map: see `anomaly_map`.

        A detector that is calibrated by category (camera, product, shift) judges each row by its own one. A row of a category that it does
        not have is an error, because nothing is promised of it and its name may be a slip; the other rows are scored all the same. A row
        without a category is judged by all together, and counted (`ScoredRows.n_pooled`): whoever cannot say is served, and told what it
        costs.

        Parameters
        ----------
        X : array, source or path
        batch_size : int
        maps : bool
        categories : iterable, optional
            Category of each row of `X`, in order; by default what the source knows.
        hashed : bool
            Whether rows come with what they are known by later, and with whether `fit` was given them.

        Raises
        ------
        CollapseError
            If the fitted detector gives every row the same score.
        DataError
            If the rows do not fit the detector, there is not one category a row, or the detector has no categories.
        """
        source = self.open(X)
        categories = by_position(categories, name="categories")
        codes = self._category_codes(source, categories)
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
            hashes = row_hashes(X_rows) if hashed else None
            seen = None if hashes is None else known_among(hashes, self.row_hashes_)
            p_values, flagged = self.decision_.p_value(scores), self.decision_.is_anomaly(scores)
            scored = ScoredRows(rows.index, scores, p_values, flagged, rows.errors, maps=heat, seen=seen, hashes=hashes)
            yield scored if codes is None else self._by_category(scored, codes, source, categories)

    def _category_codes(self, source: AbstractSource, categories: Iterable[Any] | None) -> NDArray[np.int64] | None:
        """Return the code of the category of each row of a source; None where the detector has no categories."""
        known = self.decision_.categories
        given = category_texts(source.categories if categories is None else categories, len(source))
        if known is not None:
            return np.full(len(source), NO_CATEGORY, dtype=np.int64) if given is None else coded(known.names, given)
        if given is None:
            return None
        raise DataError(
            f"{source.name} has categories, but {self.name} was fitted without them, so that one threshold is for all; leave them out, or"
            " fit or recalibrate it with categories."
        )

    def _by_category(
        self, raw: ScoredRows, codes: NDArray[np.int64], source: AbstractSource, categories: Iterable[Any] | None
    ) -> ScoredRows:
        """Return scored rows judged each by its category; those of a category that is not known are errors."""
        known = self.decision_.categories
        names = () if known is None else known.names
        own = codes[raw.index]
        errors = dict(raw.errors)
        if (own == UNKNOWN).any():
            given = category_texts(source.categories if categories is None else categories, len(source)) or []
            errors |= {row: unknown_text(given[row], names) for row in raw.index[own == UNKNOWN].tolist()}
            errors = dict(sorted(errors.items()))
        kept = own != UNKNOWN
        own, scores = own[kept], raw.anomaly_score[kept]
        judged = scores, self.decision_.p_value(scores, own), self.decision_.is_anomaly(scores, own)
        maps, seen, hashes = (None if values is None else values[kept] for values in (raw.maps, raw.seen, raw.hashes))
        return ScoredRows(raw.index[kept], *judged, errors, maps=maps, seen=seen, categories=own, hashes=hashes)

    def score_encoded(self, images: Sequence[bytes | None], *, maps: bool = False) -> ScoredRows:
        """Score encoded images (the bytes of PNG, JPEG, ... files), exactly as files with these bytes are scored.

        For programs that have the bytes at hand: from an object store, a message, a column of a table. They are decoded by the same reader
        as files, which other decoders are not equal to: their pixels, and so the scores, differ.

        Parameters
        ----------
        images : sequence of bytes
            One encoded image each; None where there is none, which is an error of that image.
        maps : bool
            Whether to return the heat-map of each, of a detector that has them.

        Returns
        -------
        ScoredRows
            Positions, scores, p-values and decisions of the images that can be read, and why the others cannot.

        Raises
        ------
        DataError
            If the detector was not fitted on images, or there is not one.
        CollapseError
            If the fitted detector gives every row the same score.
        """
        spec = self.image_spec_
        if spec is None:
            raise DataError("This detector was fitted on rows of features and takes no encoded images; give it rows.")
        source = ImageSource("encoded images", BytesStore(images), RowFacts(), spec)
        return next(self.score_batches(source, batch_size=len(source), maps=maps))

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
        for batch in self.score_batches(source, hashed=False):
            scores[batch.index] = batch.anomaly_score
            errors |= batch.errors
        tell(source)
        warn_unreadable(errors, len(source), "score NaN")
        return scores

    def p_value(self, X: Rows, *, categories: Iterable[Any] | None = None) -> NDArray[np.float64]:
        """Return the conformal p-value of each row: the share of normal rows that score at least as high; NaN for unreadable rows.

        With categories it is the share of the normal rows of the row's own one. Rows without one are judged by all together, with a
        `DataNotice` that counts them; rows of one that the detector does not have get NaN, with a warning.

        Source: split conformal prediction (Vovk 2005). Valid for normal rows exchangeable with the held-out ones.
        """
        return self._judged(X, categories)[1]

    def discoveries(self, X: Rows, *, fdr: float = 0.1, categories: Iterable[Any] | None = None) -> Discoveries:
        """Return which rows of a batch to call anomalies so that at most the share `fdr` of those called are false alarms, on average.

        A threshold bounds the share of the *normal rows* that is flagged; where anomalies are rare, most of what it flags may be normal.
        This bounds the share of the *flagged rows* that is normal. See `insphere.decision.discoveries.discover` for the condition under
        which it holds; what makes it less is told in a `DataNotice`.

        Raises
        ------
        ParameterError
            If `fdr` is outside (0, 1), or the calibration rows are too few for any discovery at it.
        CollapseError, DataError
            See `score_batches`.
        """
        found = discover(self.decision_, self._judged(X, categories)[1], fdr)
        for note in found.notes:
            warn_user(note, DataNotice)
        return found

    def _judged(self, X: Rows, categories: Iterable[Any] | None) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return score, p-value and threshold of each row, NaN where it has none, after a word on what was left out."""
        source = self.open(X)
        found = np.full((3, len(source)), np.nan)
        errors: dict[int, str] = {}
        n_pooled = 0
        for batch in self.score_batches(source, categories=categories):
            thresholds = self.decision_.thresholds(len(batch.index), batch.categories)
            found[:, batch.index] = batch.anomaly_score, batch.p_value, thresholds
            errors |= batch.errors
            n_pooled += batch.n_pooled
        tell(source)
        warn_unreadable(errors, len(source), "score NaN")
        if n_pooled:
            warn_user(pooled_text(n_pooled, len(source)), DataNotice)
        return found[0], found[1], found[2]

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
