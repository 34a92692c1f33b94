"""Checks of parameters. Each returns the checked value or raises `ParameterError` with subject, rule, value and remedy."""

import dataclasses
import math
import numbers
import os
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np

from insphere.errors import ParameterError, did_you_mean

Record = TypeVar("Record")


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`.

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
    raise ParameterError(f"`{name}` must be one of {listed}, got {value!r}.{did_you_mean(str(value), choices)}")


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return `value` as float if it is a finite real number within the bounds.

    Raises
    ------
    ParameterError
        If it is not a number, not finite, or out of bounds.

    Examples
    --------
    >>> check_number("target_fpr", 0.05, above=0, below=1)
    0.05
    """
    rule = _rule("a finite number", above=above, at_least=at_least, below=below, at_most=at_most)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ParameterError(f"`{name}` must be {rule}, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond the floats, too long to be shown
        raise ParameterError(f"`{name}` must be {rule}, got a number beyond 1e308.") from None
    if not math.isfinite(number) or _breaks(number, above=above, at_least=at_least, below=below, at_most=at_most):
        raise ParameterError(f"`{name}` must be {rule}, got {value!r}.")
    return number


def check_integer(name: str, value: object, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return `value` as int if it is a whole number within the bounds.

    Raises
    ------
    ParameterError
        If it is not integral or out of bounds.

    Examples
    --------
    >>> check_integer("epochs", 40, at_least=1)
    40
    """
    rule = _rule("a whole number", at_least=at_least, at_most=at_most)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ParameterError(f"`{name}` must be {rule}, got {value!r}.")
    number = int(value)
    if _breaks(number, at_least=at_least, at_most=at_most):
        # Past a few dozen digits the number says nothing, and Python refuses to print thousands of them.
        shown = repr(number) if number.bit_length() <= 128 else "a number of more than 38 digits"
        raise ParameterError(f"`{name}` must be {rule}, got {shown}.")
    return number


def as_record(name: str, value: object, record: type[Record], default: Record | None = None) -> Record:
    """Return `value` as an instance of the dataclass `record`: None gives `default`, a mapping changes fields of it.

    Without a `default` it is the record as its own defaults have it.

    Raises
    ------
    ParameterError
        If a field is unknown, or `value` is of another type.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Speed:
    ...     limit: float = 1.0
    >>> as_record("speed", {"limit": 2.0}, Speed)
    Speed(limit=2.0)
    """
    default = record() if default is None else default
    if value is None:
        return default
    if isinstance(value, record):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(record) if field.init}  # type: ignore[arg-type]
        foreign = {key: plain(entry) for key, entry in own.items() if isinstance(entry, np.generic)}
        return dataclasses.replace(value, **foreign) if foreign else value  # type: ignore[type-var]
    if isinstance(value, Mapping):
        fields: dict[str, Any] = {str(key): plain(entry) for key, entry in value.items()}
        known = [field.name for field in dataclasses.fields(record) if field.init]  # type: ignore[arg-type]
        for key in fields:
            if key not in known:
                raise ParameterError(f"`{name}` has no field {key!r}; its fields are {', '.join(known)}.{did_you_mean(key, known)}")
        return dataclasses.replace(default, **fields)  # type: ignore[type-var]
    raise ParameterError(f"`{name}` must be None, a mapping or a {record.__name__}, got {type(value).__name__}.")


def plain(value: Any) -> Any:
    """Return `value` with NumPy's numbers, texts and truth values, in mappings and sequences too, as Python's own; paths as texts.

    Examples
    --------
    >>> plain({"lr": np.float64(0.5), "widths": (np.int64(8), 4)})
    {'lr': 0.5, 'widths': (8, 4)}
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(plain(entry) for entry in value)
    return value


def _rule(kind: str, **bounds: float | None) -> str:
    """Return the rule in words: "a whole number at least 1 and at most 9"."""
    parts = [f"{word.replace('_', ' ')} {bound}" for word, bound in bounds.items() if bound is not None]
    return f"{kind} {' and '.join(parts)}" if parts else kind


def _breaks(
    number: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> bool:
    return (
        (above is not None and number <= above)
        or (at_least is not None and number < at_least)
        or (below is not None and number >= below)
        or (at_most is not None and number > at_most)
    )
