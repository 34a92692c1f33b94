"""Checks of parameters. Each returns the checked value or raises `ParameterError` with subject, rule, value and remedy."""

import dataclasses
import math
import numbers
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from insphere.errors import ParameterError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Within:
    """Bounds of a number; None leaves a side open. In a field's annotation they declare its range, see `insphere.fields`.

    Examples
    --------
    >>> str(Within(above=0, at_most=1)), Within(above=0).holds(0)
    ('above 0 and at most 1', False)
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        """Return the bounds in words; nothing where there is none."""
        return " and ".join(f"{word.replace('_', ' ')} {bound}" for word, bound in vars(self).items() if bound is not None)

    def holds(self, number: float) -> bool:
        """Return whether the number is within the bounds; a number that is none is not."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    def of(self, kind: str) -> str:
        """Return the rule in words: "a whole number at least 1 and at most 9"."""
        return f"{kind} {self}".strip()


def check_choice(name: str, value: object, choices: Collection[str], *, also: str = "") -> str:
    """Return `value` if it is one of `choices`; `also` is said of what else may be given: ", or None".

    Raises
    ------
    ParameterError
        If it is not; the message lists the choices and the closest one.

    Examples
    --------
    >>> check_choice("norm", "plain", ["plain", "squared"])
    'plain'
    """
    if isinstance(value, str) and value in choices:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and str(value) in choices:  # precision=32, as a command line reads it
        return str(value)
    listed = ", ".join(repr(choice) for choice in choices)
    raise ParameterError(f"`{name}` must be one of {listed}{also}, got {value!r}.{did_you_mean(str(value), choices)}")


def check_number(
    name: str,
    value: object,
    within: Within | None = None,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    also: str = "",
) -> float:
    """Return `value` as float if it is a finite real number within the bounds, given together or each by name.

    Raises
    ------
    ParameterError
        If it is not a number, not finite, or out of bounds.

    Examples
    --------
    >>> check_number("target_fpr", 0.05, above=0, below=1)
    0.05
    """
    within = Within(above, at_least, below, at_most) if within is None else within
    rule = within.of("a finite number") + also
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ParameterError(f"`{name}` must be {rule}, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond the floats, too long to be shown
        raise ParameterError(f"`{name}` must be {rule}, got a number beyond 1e308.") from None
    if not math.isfinite(number) or not within.holds(number):
        raise ParameterError(f"`{name}` must be {rule}, got {value!r}.")
    return number


def check_integer(
    name: str,
    value: object,
    within: Within | None = None,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    also: str = "",
) -> int:
    """Return `value` as int if it is a whole number within the bounds, given together or each by name.

    Raises
    ------
    ParameterError
        If it is not integral or out of bounds.

    Examples
    --------
    >>> check_integer("epochs", 40, at_least=1)
    40
    """
    within = Within(at_least=at_least, at_most=at_most) if within is None else within
    rule = within.of("a whole number") + also
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ParameterError(f"`{name}` must be {rule}, got {value!r}.")
    number = int(value)
    if not within.holds(number):
        # Past a few dozen digits the number says nothing, and Python refuses to print thousands of them.
        shown = repr(number) if number.bit_length() <= 128 else "a number of more than 38 digits"
        raise ParameterError(f"`{name}` must be {rule}, got {shown}.")
    return number


def listed(value: Any) -> Any:
    """Return an array or a column of pandas of one dimension, or a range, as a list; anything else as it is.

    Examples
    --------
    >>> listed(np.array([1.0, 2.0])), listed("text")
    ([1.0, 2.0], 'text')
    """
    if isinstance(value, range):
        return list(value)
    return value.tolist() if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist") else value


def plain(value: Any) -> Any:
    """Return `value` with NumPy's numbers and texts as Python's own, in mappings and sequences too; arrays as lists, paths as texts.

    Examples
    --------
    >>> plain({"lr": np.float64(0.5), "widths": (np.int64(8), 4)})
    {'lr': 0.5, 'widths': (8, 4)}
    """
    value = listed(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(plain(entry) for entry in value)
    return value
