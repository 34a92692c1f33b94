"""A measured number in [0, 1] together with its 95 % interval."""

import dataclasses
import math

from insphere.validation import check_integer

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054  # of the standard normal distribution, two-sided 95 %


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number in [0, 1] with its 95 % interval.

    Where the number is undefined (the precision when nothing was flagged, say) all three are NaN, and null in JSON.

    Parameters
    ----------
    value : float
        The estimate itself.
    low, high : float
        Ends of the interval; `low <= value <= high`.

    Examples
    --------
    >>> Estimate(0.9, 0.85, 0.94).to_json()
    {'value': 0.9, 'low': 0.85, 'high': 0.94}
    >>> str(Estimate(0.9, 0.85, 0.94))
    '0.900 [0.850, 0.940]'
    >>> Estimate.undefined().to_json()
    {'value': None, 'low': None, 'high': None}
    """

    value: float
    low: float
    high: float

    @classmethod
    def undefined(cls) -> "Estimate":
        """Return the estimate of a number that these rows do not define: NaN with a NaN interval."""
        return cls(math.nan, math.nan, math.nan)

    @property
    def is_defined(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    def to_json(self) -> dict[str, float | None]:
        """Return ``{"value", "low", "high"}``, with None for NaN because JSON has no NaN."""
        return {name: None if math.isnan(number) else number for name, number in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.is_defined else "undefined"


def proportion(k: int, n: int) -> Estimate:
    """Estimate a proportion from `k` hits in `n` rows, with Wilson's score interval; undefined when `n` is 0.

    Raises
    ------
    ParameterError
        If not 0 <= k <= n.

    Examples
    --------
    >>> print(proportion(5, 100))
    0.050 [0.022, 0.112]
    """
    n = check_integer("n", n, at_least=0)
    k = check_integer("k", k, at_least=0, at_most=n)
    if n == 0:
        return Estimate.undefined()
    value, square = k / n, NORMAL_QUANTILE**2
    centre = (value + square / (2 * n)) / (1 + square / n)
    half_width = NORMAL_QUANTILE / (1 + square / n) * math.sqrt(value * (1 - value) / n + square / (4 * n * n))
    # At k = 0 and k = n one end is the value itself; rounding must not push it past.
    return Estimate(value, min(value, max(0.0, centre - half_width)), max(value, min(1.0, centre + half_width)))
