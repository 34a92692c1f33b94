"""Alarms on a stream, each decided as its row comes, of which few are false in every window of rows."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from insphere.decision.calibration import rows_needed
from insphere.decision.decision import Decision
from insphere.errors import DataError, ParameterError
from insphere.validation import check_integer, check_number


class OnlineDiscoveries:
    """Decides, row by row, which rows of a stream to raise an alarm for, so that of the alarms in a window few are false.

    Rows are counted in windows of a fixed length. In every window at most the share `fdr` of the alarms are normal rows, on average over
    windows; it may be stopped at any row of a window. With r alarms so far in a window of N rows, a row raises one if its p-value is at
    most ``fdr * max(r, 1) / N``.

    Parameters
    ----------
    decision : Decision
        What the p-values come from: its number of calibration scores says whether there can be an alarm at all.
    fdr : float
        In (0, 1).
    window : int
        Rows of a window, at least 1.

    Raises
    ------
    ParameterError
        If a value breaks its rule, or the calibration rows are too few for the first alarm of a window.

    Notes
    -----
    The condition is that of `insphere.decision.discoveries.discover`: normal rows independent of each other and of the calibration rows,
    and distributed as they. Then the p-values of the normal rows are positively dependent (PRDS; Bates 2023, theorem 2), which is what the
    procedure takes. LORD and SAFFRON would raise more alarms, but are proven for p-values that are independent, or valid given the past;
    conformal p-values that share their calibration rows are neither. A stream without end and with one calibration set can't be promised
    more than a share a window: levels that shrink for ever fall below the smallest p-value, 1 / (n + 1).

    Source: Javanmard and Montanari 2015 (LOND); Zrnic, Ramdas and Jordan 2021, "Asynchronous online testing of multiple hypotheses" (under
    PRDS, with max(r, 1)). Deviation: equal levels over a window of known length, and a new start with each.

    Examples
    --------
    >>> from insphere.decision.calibration import ConformalCalibration
    >>> decision = Decision(ConformalCalibration(np.arange(999.0)), radius=1.0, target_fpr=0.05)
    >>> OnlineDiscoveries(decision, fdr=0.1, window=100).update([0.5, 0.001, 0.3, 0.02])
    [False, True, False, False]
    """

    def __init__(self, decision: Decision, *, fdr: float = 0.1, window: int = 100) -> None:
        self.fdr = check_number("fdr", fdr, above=0, below=1)
        self.window = check_integer("window", window, at_least=1)
        most = max([len(decision.calibration), *(len(entry.calibration) for entry in decision.of_category.values())])
        needed = rows_needed(self.fdr / self.window)
        if most < needed:
            fits = math.floor(self.fdr * (most + 1))
            remedy = f"take a window of at most {fits} rows, " if fits else ""
            raise ParameterError(
                f"`fdr` {self.fdr:g} over a window of {self.window} rows takes {needed} calibration rows for its first alarm, got {most};"
                f" {remedy}raise the rate, or calibrate on more normal rows (`recalibrate`)."
            )
        self._n_rows = self._n_alarms = 0

    @property
    def promise(self) -> str:
        """What an alarm says, in a sentence."""
        return (
            f"Of the alarms in {self.window} rows, at most {100 * self.fdr:g} % are false on average, while normal rows are independent and"
            " like those that were calibrated on."
        )

    def update(self, p_values: ArrayLike) -> list[bool]:
        """Take in the p-values of the next rows, in the order in which they came, and return which of them raise an alarm.

        Raises
        ------
        DataError
            If one is not in (0, 1].
        """
        found = []
        for p in np.asarray(p_values, dtype=np.float64).ravel().tolist():
            if not 0 < p <= 1:
                raise DataError("`p_values` must be in (0, 1]; leave out rows without a score.")
            if self._n_rows == self.window:
                self._n_rows = self._n_alarms = 0
            is_alarm = p <= self.fdr * max(self._n_alarms, 1) / self.window * (1 + 1e-12)
            self._n_rows += 1
            self._n_alarms += is_alarm
            found.append(is_alarm)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what is promised and how the window stands, as a JSON-able dict."""
        return {
            "fdr": self.fdr,
            "window": self.window,
            "n_rows": self._n_rows,
            "n_alarms": self._n_alarms,
            "promise": self.promise,
        }
