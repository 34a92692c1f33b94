"""What people said of scored rows, and which of these rows may enter the calibration without breaking its promise.

Only rows that were drawn for a look without regard to their scores may. A row is drawn by a number that its content alone gives, before
anybody knows how it scores; all rows so drawn are shown, flagged or not. Verdicts on flagged rows alone would fill the calibration with its
highest scores, verdicts on rows that were not flagged would leave these out: both break the exchangeability that the promise rests on.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.decision.categories import RowCategories
from insphere.decision.decision import Decision
from insphere.errors import DataError, did_you_mean
from insphere.estimate import Estimate, proportion

VERDICTS = ("normal", "false alarm", "real", "missed", "unsure")
"""What may be said of a row: normal (flagged: a false alarm), an anomaly (real where flagged, else missed), or that nobody can say."""

MAX_VERDICTS = 200_000
"""Verdicts that a model keeps at most."""

_NORMAL = ("normal", "false alarm", "unsure")
_SCALE = 2.0**64


def row_id(row_hash: int) -> str:
    """Return the name of a row by its content: the hexadecimal digits of its hash.

    Examples
    --------
    >>> row_id(255)
    '00000000000000ff'
    """
    return f"{int(row_hash):016x}"


def draw_number(name: str, key: str) -> float:
    """Return the number in [0, 1) by which a row is drawn: where it is below the share that is looked at.

    It depends on the row's content and the model's key, never on a score; so anybody can check later which rows were drawn.

    Parameters
    ----------
    name : str
        See `row_id`.
    key : str
        The fingerprint of the training rows, so that two models draw differently.

    Examples
    --------
    >>> 0 <= draw_number("00000000000000ff", "key") < 1
    True
    """
    digest = hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()
    # The top 53 bits, so that the quotient is exact and never 1.
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def are_drawn(hashes: NDArray[np.uint64], key: str, share: float) -> NDArray[np.bool_]:
    """Return which rows are drawn for a look, when this share of all rows is."""
    return np.array([draw_number(row_id(value), key) < share for value in hashes.tolist()], dtype=np.bool_)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a person said of one row.

    Parameters
    ----------
    row : str
        See `row_id`.
    verdict : str
        One of `VERDICTS`.
    anomaly_score : float
    is_anomaly : bool
        Whether the row was flagged when it was scored.
    drawn : bool
        Whether it was drawn without regard to its score.
    category : str, optional
    used : bool
        Whether its score is among the calibration scores already.
    at : str
        When it was said, UTC.

    Raises
    ------
    DataError
        If the verdict is none of the words, or contradicts the decision.

    Examples
    --------
    >>> Verdict("00000000000000ff", "false alarm", 7.5, is_anomaly=True, drawn=False).is_normal
    True
    """

    row: str
    verdict: str
    anomaly_score: float
    is_anomaly: bool
    drawn: bool
    category: str | None = None
    used: bool = False
    at: str = ""

    def __post_init__(self) -> None:
        """Check the word and what it is said of."""
        # As built-in values, because they go into the JSON of the model file.
        for name, kind in (("anomaly_score", float), ("is_anomaly", bool), ("drawn", bool)):
            object.__setattr__(self, name, kind(getattr(self, name)))
        if self.verdict not in VERDICTS:
            raise DataError(f"A verdict must be {', '.join(VERDICTS)}, got {self.verdict[:40]!r}.{did_you_mean(self.verdict, VERDICTS)}")
        if not np.isfinite(self.anomaly_score):
            raise DataError(f"The score of row {self.row} must be finite, got {self.anomaly_score}.")
        wrong = {"false alarm": not self.is_anomaly, "missed": self.is_anomaly}.get(self.verdict, False)
        if wrong:
            flagged = "was flagged" if self.is_anomaly else "was not flagged"
            other = "real" if self.is_anomaly else "normal"
            raise DataError(f"Row {self.row} {flagged}, so its verdict can't be {self.verdict!r}; say {other!r}, or the contrary.")

    @property
    def is_normal(self) -> bool:
        """Whether it counts as normal; one of which nobody can say does, which can only make false alarms rarer."""
        return self.verdict in _NORMAL

    @property
    def enters(self) -> bool:
        """Whether its score may be among the calibration scores."""
        return self.drawn and self.is_normal

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class VerdictJournal:
    """All verdicts that a model was given, one a row, in the order in which they came.

    Examples
    --------
    >>> journal = VerdictJournal().with_verdicts([Verdict("00000000000000ff", "normal", 1.0, is_anomaly=False, drawn=True)])
    >>> len(journal), len(journal.waiting)
    (1, 1)
    """

    entries: tuple[Verdict, ...] = ()

    def __len__(self) -> int:
        """Return the number of verdicts."""
        return len(self.entries)

    @property
    def waiting(self) -> tuple[Verdict, ...]:
        """Those whose scores may enter the calibration and are not in it yet."""
        return tuple(entry for entry in self.entries if entry.enters and not entry.used)

    def with_verdicts(self, new: Iterable[Verdict]) -> Self:
        """Return the journal with more verdicts; one on a row that it has takes the place of the old one, unless that is used.

        Raises
        ------
        DataError
            If there would be more than `MAX_VERDICTS`.
        """
        found = {entry.row: entry for entry in self.entries}
        for entry in new:
            if entry.row not in found or not found[entry.row].used:
                found[entry.row] = entry
        if len(found) > MAX_VERDICTS:
            raise DataError(f"A model keeps at most {MAX_VERDICTS:,} verdicts, got {len(found):,}; fit it again with what they say.")
        return type(self)(tuple(found.values()))

    def all_used(self) -> Self:
        """Return the journal with all that may enter noted as being in the calibration."""
        return type(self)(tuple(dataclasses.replace(entry, used=entry.enters) for entry in self.entries))

    def calibrated(self, decision: Decision, *, only: bool = False) -> Decision:
        """Return the decision with the scores of the drawn normal rows beside its own, or, with `only`, in their place.

        Raises
        ------
        DataError
            If there is no such row.

        Notes
        -----
        The drawn normal rows are a random sample of the normal rows of the line, so they are exchangeable with the next one. Beside the
        scores of held-out rows they keep the promise where the line is still as it was at the fit; after a change take them alone.

        A flagged row that was not drawn never enters. It could enter with the probability with which a row that is not flagged is drawn
        (thinning to one rate, von Neumann 1951), which is what drawing before scoring does; weights of one over the probability of being
        looked at (Tibshirani, Barber, Candès and Ramdas 2019, weighted conformal prediction) would use more of them at the price of weights
        in every p-value, and need rows that are not flagged to be looked at all the same.
        """
        chosen = [entry for entry in self.entries if entry.enters] if only else list(self.waiting)
        if not chosen:
            raise DataError(
                "No verdict may enter the calibration: it takes drawn rows (the column drawn of `insphere score --draw`) that were found"
                " normal. Verdicts on flagged rows alone would break the promise."
            )
        scores = np.array([entry.anomaly_score for entry in chosen])
        categories = RowCategories.of([entry.category for entry in chosen], len(chosen))
        if not only:
            return decision.extended(scores, categories)
        if categories is None and decision.categories is not None:
            raise DataError("This model is calibrated by category, and the drawn rows have none; give their categories with the verdicts.")
        return decision.recalibrated(scores, len(scores), None, categories)

    def summary(self, decision: Decision) -> dict[str, Any]:
        """Return what the verdicts say, as a JSON-able dict: counts, rates with 95 % intervals, and how they narrow the expected rate.

        `false_alarm_share` is of the flagged rows that were looked at; `anomaly_share` and `found_share` are of the drawn rows, and hold
        for all rows of the line.
        """
        flagged = [entry for entry in self.entries if entry.is_anomaly and entry.verdict != "unsure"]
        drawn = [entry for entry in self.entries if entry.drawn and entry.verdict != "unsure"]
        bad = [entry for entry in drawn if not entry.is_normal]
        shares = {
            "false_alarm_share": proportion(sum(entry.is_normal for entry in flagged), len(flagged)),
            "anomaly_share": proportion(len(bad), len(drawn)),
            "found_share": proportion(sum(entry.is_anomaly for entry in bad), len(bad)),
        }
        after = self.calibrated(decision).expected if self.waiting else decision.expected
        return {
            "n_verdicts": len(self),
            "by_verdict": {word: sum(entry.verdict == word for entry in self.entries) for word in VERDICTS},
            "n_drawn": sum(entry.drawn for entry in self.entries),
            "n_waiting": len(self.waiting),
            **{name: share.to_json() for name, share in shares.items()},
            "expected": _told(decision.expected),
            "expected_with_waiting": _told(after),
        }

    def to_json(self) -> list[dict[str, Any]]:
        """Return the verdicts as what a model file's header holds."""
        return [entry.to_json() for entry in self.entries]

    @classmethod
    def from_json(cls, told: Sequence[Mapping[str, Any]]) -> Self:
        """Return the journal that `to_json` wrote."""
        return cls(tuple(Verdict(**entry) for entry in told))


def _told(rate: Estimate | None) -> dict[str, Any] | None:
    return None if rate is None else rate.to_json()


def check_draw(rows: Sequence[tuple[str, bool]], key: str) -> None:
    """Check that the rows said to be drawn are those that were, and the others not.

    Parameters
    ----------
    rows : sequence of (str, bool)
        Name of each row, and whether it is said to be drawn.
    key : str
        See `draw_number`.

    Raises
    ------
    DataError
        If a row that was not drawn is said to be, or the other way round: then one share cannot part them.
    """
    drawn = [draw_number(name, key) for name, said in rows if said]
    others = [draw_number(name, key) for name, said in rows if not said]
    if drawn and others and max(drawn) >= min(others):
        raise DataError(
            "The column drawn is not that of a draw by this model: it was changed, or is of another model. Take it as"
            " `insphere score --draw` wrote it; rows that people chose themselves can't enter the calibration."
        )


def answered_in_order(verdicts: Sequence[tuple[bool, str | None]]) -> list[bool]:
    """Return for each row whether its verdict may count as that of a drawn row: drawn rows up to the first without a verdict.

    Leaving out the hard ones would be a selection; so those after a gap wait until it is filled.

    Examples
    --------
    >>> answered_in_order([(True, "normal"), (False, "real"), (True, None), (True, "normal")])
    [True, False, False, False]
    """
    complete = True
    found = []
    for drawn, verdict in verdicts:
        complete = complete and not (drawn and verdict is None)
        found.append(drawn and complete)
    return found
