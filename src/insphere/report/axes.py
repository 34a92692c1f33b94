"""Axes of charts: where a value goes, and which values are written beside them."""

import dataclasses
import math
import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LOGARITHMIC_FROM = 8.0  # times the median: beyond it a straight axis would press most rows into its first bars


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, straight or logarithmic.

    Examples
    --------
    >>> Axis(1.0, 100.0, logarithmic=True).place([1.0, 10.0, 1000.0])
    array([0. , 0.5, 1. ])
    """

    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where each value is, 0 at `low` and 1 at `high`; values beyond the ends are at the ends."""
        clipped = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        # Quotients and differences are exact at both ends; what is past all numbers is taken apart first.
        if self.logarithmic and math.isfinite(self.high / self.low):
            return np.asarray(np.log(clipped / self.low) / math.log(self.high / self.low))
        if self.logarithmic:
            start, end = math.log(self.low), math.log(self.high)
            return np.asarray(np.clip((np.log(clipped) - start) / (end - start), 0, 1))
        scale = 1.0 if math.isfinite(self.high - self.low) else 0.5
        return np.asarray((clipped * scale - self.low * scale) / (self.high * scale - self.low * scale))

    def value(self, places: ArrayLike) -> NDArray[np.float64]:
        """Return the value at each place in [0, 1]."""
        share = np.asarray(places, dtype=np.float64)
        if self.logarithmic:
            start, end, ratio = math.log(self.low), math.log(self.high), self.high / self.low
            with np.errstate(over="ignore"):  # the last value may round to more than the largest number
                found = self.low * ratio**share if math.isfinite(ratio) else np.exp(start + share * (end - start))
            return np.clip(found, self.low, self.high)
        if math.isfinite(self.high - self.low):
            return np.asarray(self.low + share * (self.high - self.low))
        return np.asarray((1 - share) * self.low + share * self.high)

    def ticks(self, most: int = 7) -> list[tuple[float, str]]:
        """Return place and text of round values on the axis, increasing, at most about `most`."""
        values = _decades(self.low, self.high, most) if self.logarithmic else []
        if len(values) < 3:
            values = _round_steps(self.low, self.high, most)
        return [(round(float(self.place(value)), 4), f"{value:.6g}") for value in values]


def score_axis(*scores: NDArray[np.float64]) -> Axis:
    """Return the axis for anomaly scores: logarithmic where they are positive and most of them would be pressed to one side.

    Examples
    --------
    >>> score_axis(np.array([1.0, 2.0, 3.0])), score_axis(np.array([1.0, 2.0, 300.0])).logarithmic
    (Axis(low=1.0, high=3.0, logarithmic=False), True)
    """
    finite = np.concatenate(scores)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return Axis(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    with np.errstate(over="ignore"):  # of two scores near the largest number, whose mean is past it: no tail is longer than they are
        median = float(np.median(finite))
    if low > 0 and high > _LOGARITHMIC_FROM * median:
        return Axis(low, high, logarithmic=True)
    # Of equal scores the axis still needs a width.
    margin = 0.0 if high > low else max(abs(high) * 0.5, 0.5)
    return Axis(max(low - margin, -sys.float_info.max), min(high + margin, sys.float_info.max))


def _round_steps(low: float, high: float, most: int) -> list[float]:
    raw = high / most - low / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 0.0
    if not power > 0:  # no width, or one among the smallest numbers, of which no round ones can be made
        return [low]
    # The smallest numbers are so coarse that ten times the power can be less than the step that was asked for.
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= raw * (1 - 1e-9)), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), min(math.ceil(math.log10(high)), sys.float_info.max_10_exp)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]
