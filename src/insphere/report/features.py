"""Vectors have no picture: the features that make them stand out take its place."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_FEATURES = 5
"""Features shown of each row."""


_FARTHEST = 1e300


@dataclasses.dataclass(frozen=True)
class FeaturePart:
    """One feature of one row.

    Attributes
    ----------
    name : str
    value : float
    deviation : float
        Robust standard deviations from the middle of the reference rows; with its sign.
    weight : float
        Length of its bar, in [0, 1]: what it adds to the score, or else the size of its deviation, against the row's largest.
    """

    name: str
    value: float
    deviation: float
    weight: float


@dataclasses.dataclass(frozen=True)
class FeatureScale:
    """Middle and spread of each feature over reference rows: median, and interquartile range / 1.349.

    Examples
    --------
    >>> scale = FeatureScale.of(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]))
    >>> scale.deviations(np.array([[2.0 + 2 / 1.349]])).round(6)
    array([[1.]])
    """

    middle: Array
    spread: Array

    @classmethod
    def of(cls, X: Array) -> "FeatureScale":
        """Return the scale of rows of shape (n, features)."""
        low, middle, high = np.quantile(X.astype(np.float64), [0.25, 0.5, 0.75], axis=0)
        spread = (high - low) / 1.349
        # Features that hardly vary within the middle half are measured by their standard deviation, constant ones by 1.
        spread = np.where(spread > 0, spread, X.astype(np.float64).std(axis=0))
        return cls(middle, np.where(spread > 0, spread, 1.0))

    def deviations(self, X: Array) -> Array:
        """Return how far each value lies from the middle, in spreads."""
        # A spread near the smallest numbers makes a quotient past the largest: far away is all that can be said then.
        with np.errstate(over="ignore"):
            return np.clip((X.astype(np.float64) - self.middle) / self.spread, -_FARTHEST, _FARTHEST)


def standing_out(X: Array, scale: FeatureScale, names: Sequence[str] | None, contributions: Array | None) -> list[tuple[FeaturePart, ...]]:
    """Return the features of each row that contribute most to its score, or, where that is unknown, lie farthest from the middle."""
    deviations = scale.deviations(X)
    # A negative contribution speaks for normality, which is not what is asked here.
    weights = np.abs(deviations) if contributions is None else np.maximum(contributions, 0.0)
    named = [f"feature {number}" for number in range(X.shape[1])] if names is None else list(names)
    found = []
    for values, deviation, weight in zip(X, deviations, weights, strict=True):
        largest = float(weight.max()) or 1.0
        order = np.argsort(-weight, kind="stable")[:N_FEATURES].tolist()
        found.append(
            tuple(
                FeaturePart(named[place], float(values[place]), float(deviation[place]), float(weight[place]) / largest) for place in order
            )
        )
    return found
