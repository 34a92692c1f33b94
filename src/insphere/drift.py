"""Does the stream of new rows still look like the held-out normal rows? A test that may be read after every row.

Under no change the classes into which new scores fall, cut out by the held-out scores, follow a Pólya urn: exactly, whatever the
distribution of the scores. A bettor who knows the urn and bets on a change has no expected gain, so large winnings are evidence of one.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insphere.errors import DataError
from insphere.validation import check_integer, check_number

Array = NDArray[np.float64]

_RECALIBRATE = (
    "then calibrate on normal rows as they are now: insphere recalibrate MODEL ROWS, or score with --draw, look at the drawn rows, and"
    " insphere feedback MODEL FILE --recalibrate only"
)
_ADVICE = {
    "higher": "Scores have risen, so more normal rows are flagged than promised. Look at the latest flagged rows: if they are bad, the line"
    f" needs help and not the model; if they are good, look for what changed (lamp, lens, supplier, position), {_RECALIBRATE}.",
    "lower": "Scores have fallen, so anomalies may pass unseen below the threshold. Look for what changed (focus, exposure, a camera that"
    f" shows the same picture), {_RECALIBRATE}.",
    "same on average": "Scores spread otherwise than before: some rows are less usual, others more. Look at the highest and the lowest of"
    f" the latest rows for what changed, {_RECALIBRATE}.",
}
"""What to do after an alarm, by where the latest scores lie."""

_MOST_CLASSES = 10
_TILTS = (-8.0, -3.0, -1.5, 1.5, 3.0, 8.0)
_EMPHASES = (3.0, 9.0)  # how many times likelier than usual one class becomes under a bet on it alone
_MOST_EVIDENCE = 1e12  # past any threshold; keeps the winnings finite in a stream that has changed for good


@dataclasses.dataclass(frozen=True)
class DriftState:
    """What a `DriftMonitor` knows after some rows.

    Attributes
    ----------
    n_rows : int
        Rows seen.
    drifted : bool
        Whether the alarm has been raised; it stays raised.
    alarm_row : int or None
        Number of the row, from 1, at which it was raised.
    evidence : float
        Winnings of a bettor on change who started with 1; the alarm is raised where they reach `threshold`.
    threshold : float
        One over the false-alarm rate.
    recent_p_value : float or None
        Mean p-value of the latest rows, about 0.5 under no change; lower where scores have risen.

    Examples
    --------
    >>> DriftMonitor(np.arange(99.0)).update([0.5]).drifted
    False
    """

    n_rows: int
    drifted: bool
    alarm_row: int | None
    evidence: float
    threshold: float
    recent_p_value: float | None

    @property
    def direction(self) -> str | None:
        """Where the latest scores lie against the held-out ones: "higher", "lower" or "same on average"; None without drift."""
        if not self.drifted or self.recent_p_value is None:
            return None
        if self.recent_p_value < 0.4:
            return "higher"
        return "lower" if self.recent_p_value > 0.6 else "same on average"

    @property
    def advice(self) -> str | None:
        """What the alarm promises and what to do; None without drift."""
        direction = self.direction
        if direction is None:
            return None
        return f"Without a change such an alarm is raised at most once in {self.threshold:g} streams, ever. {_ADVICE[direction]}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields, the direction and the advice as a JSON-able dict."""
        return dataclasses.asdict(self) | {"direction": self.direction, "advice": self.advice}


class DriftMonitor:
    """A sequential test of whether new rows are exchangeable with the held-out normal rows, but for a share of anomalies.

    If nothing changes, the probability that the alarm is *ever* raised is at most `false_alarm_rate`, however many rows come and however
    often the state is read. With ``tolerated_share=0`` that holds exactly and whatever the distribution; a tolerated share makes the test
    blind to that many odd rows, for a line that is known to make some.

    Parameters
    ----------
    calibration_scores : array-like, shape (n,)
        Anomaly scores of the held-out normal rows, ``detector.conformal_.scores``. Without any, or where all are equal, there is nothing to
        compare with, and no alarm is ever raised.
    false_alarm_rate : float
        In (0, 1).
    tolerated_share : float
        Share of rows, in [0, 0.5), that may be anything without this being a change.
    recent : int
        Rows over which `DriftState.recent_p_value` is the mean.

    Notes
    -----
    The held-out scores cut the line into n + 1 gaps, neighbouring gaps are joined into at most ten classes of about equal size, and the
    next row falls into a class of k gaps, c rows having fallen there among m, with probability (k + c) / (n + 1 + m). Each of several
    bettors multiplies what it has by a likelihood ratio against these probabilities; its capital enters little by little, so that a
    change after many rows is found too. Gaps between equal held-out scores are not told apart, nor are those beside them; for
    scores that take few values and yet differ among the held-out rows, the promise holds only roughly.

    Source: Vovk 2003 (testing exchangeability on line), Ville's inequality. Deviation: the held-out rows come first, all at once; bets
    by classes, as only p-values are known; the division by the worst case of a tolerated share.

    The monitor is not safe to update from several threads at once.

    Examples
    --------
    >>> monitor = DriftMonitor(np.random.default_rng(0).normal(size=199))
    >>> monitor.update(np.random.default_rng(1).uniform(size=500)).drifted
    False
    >>> monitor.update(np.full(60, 0.02)).direction
    'higher'
    """

    def __init__(
        self, calibration_scores: ArrayLike, *, false_alarm_rate: float = 0.01, tolerated_share: float = 0.05, recent: int = 100
    ) -> None:
        scores = np.sort(np.asarray(calibration_scores, dtype=np.float64))
        if scores.ndim != 1 or not np.isfinite(scores).all():
            raise DataError(f"`calibration_scores` must be one finite number per held-out row, got an array of shape {scores.shape}.")
        self.threshold = 1 / check_number("false_alarm_rate", false_alarm_rate, above=0, below=1)
        self._tolerated = check_number("tolerated_share", tolerated_share, at_least=0, below=0.5)
        self._recent: collections.deque[float] = collections.deque(maxlen=check_integer("recent", recent, at_least=1))
        self._class_of_gap = _classes(scores)
        self._bets = _bets(np.bincount(self._class_of_gap))
        self.reset()

    def reset(self) -> None:
        """Forget all rows and the alarm: for a stream that has been put right. The promise then starts again."""
        self._sizes = np.bincount(self._class_of_gap).astype(np.float64)
        self._capital = np.zeros(len(self._bets))
        self._n_rows, self._evidence = 0, 1.0
        self._alarm_row: int | None = None
        self._recent.clear()

    @property
    def state(self) -> DriftState:
        """What is known so far."""
        mean = math.fsum(self._recent) / len(self._recent) if self._recent else None
        return DriftState(self._n_rows, self._alarm_row is not None, self._alarm_row, self._evidence, self.threshold, mean)

    def update(self, p_values: ArrayLike) -> DriftState:
        """Take in the p-values of the next rows, in the order in which they came, and return the new state.

        Parameters
        ----------
        p_values : array-like, shape (m,)
            Conformal p-values against the calibration scores, in (0, 1]; rows without a score are left out.

        Raises
        ------
        DataError
            If one is not in (0, 1].
        """
        new = np.asarray(p_values, dtype=np.float64).ravel()
        if not ((new > 0) & (new <= 1)).all():
            raise DataError("`p_values` must be in (0, 1]; leave out rows without a score.")
        n_gaps = len(self._class_of_gap)
        # p is the gap's number from the top over the number of gaps; other p-values are rounded up to the next.
        gaps = np.clip(np.ceil(new * n_gaps - 1e-9).astype(np.int64), 1, n_gaps) - 1
        for class_ in self._class_of_gap[gaps]:
            self._bet(int(class_))
        self._recent.extend(new.tolist())
        return self.state

    def _bet(self, class_: int) -> None:
        """Settle all bets on the class of the next row, then count the row."""
        expected = self._bets @ (self._sizes / self._sizes.sum())
        most = self._bets.max(axis=1) / expected
        gain = self._bets[:, class_] / expected / (1 - self._tolerated + self._tolerated * most)
        entering = _uninvested(self._n_rows) - _uninvested(self._n_rows + 1)
        self._capital = np.minimum((self._capital + entering) * gain, _MOST_EVIDENCE * self.threshold)
        self._n_rows += 1
        self._sizes[class_] += 1
        self._evidence = float(self._capital.mean()) + _uninvested(self._n_rows)
        if self._alarm_row is None and self._evidence >= self.threshold:
            self._alarm_row = self._n_rows


def _uninvested(n_rows: int) -> float:
    """Return the share of the capital that has not entered after some rows: it falls so slowly that a late change costs little."""
    return 1 / (1 + math.log1p(n_rows))


def _classes(scores: Array) -> NDArray[np.int64]:
    """Return the class, from 0, of each of the n + 1 gaps between sorted scores, the gap above the highest first."""
    falling = scores[::-1]
    repeated = np.zeros(len(scores), dtype=bool)
    if len(scores):
        repeated[1:] |= falling[1:] == falling[:-1]
        repeated[:-1] |= falling[1:] == falling[:-1]
    # A row that scores as a repeated score does could lie in any of the gaps around it: they belong together.
    blocks = np.concatenate([[0], np.cumsum(~repeated)])
    n_gaps, n_classes = len(blocks), min(_MOST_CLASSES, int(blocks[-1]) + 1)
    middle_of_block = np.array([np.flatnonzero(blocks == block).mean() for block in range(int(blocks[-1]) + 1)])
    wanted = np.floor(middle_of_block[blocks] / n_gaps * n_classes).astype(np.int64)
    return np.unique(wanted, return_inverse=True)[1].astype(np.int64)


def _bets(sizes: Sequence[int] | NDArray[np.int64]) -> Array:
    """Return how many times likelier than usual each bettor (rows) takes each class (columns) to be after a change."""
    if len(sizes) < 2:
        return np.ones((1, len(sizes)))
    share = np.asarray(sizes) / np.sum(sizes)
    middle = np.cumsum(share) - share / 2
    tilted = [np.exp(tilt * (middle - 0.5)) for tilt in _TILTS]
    alone = [1 + (emphasis - 1) * np.eye(len(sizes)) for emphasis in _EMPHASES]
    return np.concatenate([np.array(tilted), *alone])
