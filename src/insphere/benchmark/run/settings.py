"""Checks and merges of the tables of a plan."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from insphere.detectors import catalog
from insphere.errors import ParameterError, did_you_mean
from insphere.validation import check_integer

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_MOST_SEEDS = 10_000


def check_table(place: str, value: object) -> Mapping[str, Any]:
    """Return `value` if it is a table.

    Raises
    ------
    ParameterError
        If it is not.
    """
    if not isinstance(value, Mapping):
        raise ParameterError(f"{place} must be a table, got {value!r}.")
    return value


def check_keys(place: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `ParameterError` if a key is not among the known ones.

    Examples
    --------
    >>> check_keys("[quick]", {"sedes": 1}, ("seeds", "overrides"))
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: [quick] has an unknown name 'sedes'; known are seeds, overrides. Did you mean 'seeds'?
    """
    for key in table:
        if key not in known:
            raise ParameterError(f"{place} has an unknown name {key!r}; known are {', '.join(known)}.{did_you_mean(key, known)}")


def check_name(place: str, name: str) -> str:
    """Return `name` if it is fit for a file name.

    Raises
    ------
    ParameterError
        If it is not.
    """
    if not _NAME.fullmatch(name):
        raise ParameterError(
            f"{place}: a name must be 1 to 48 letters, digits, '.', '_' or '-', the first a letter or digit, got {name!r}."
        )
    return name


def check_plain(place: str, value: object) -> None:
    """Raise `ParameterError` if `value` holds a date, a time, NaN or infinity, which no parameter takes and no report can hold."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            check_plain(f"{key} in {place}", entry)
    elif isinstance(value, list):
        for entry in value:
            check_plain(place, entry)
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise ParameterError(f"{place} must be text, a finite number, true, false, a list or a table, got {value!r}.")


def seeds_of(place: str, value: object) -> tuple[int, ...]:
    """Return the seeds that a list of them, or their number, says.

    Raises
    ------
    ParameterError
        If there is none, one is twice there, negative or no whole number.

    Examples
    --------
    >>> seeds_of("seeds", 3), seeds_of("seeds", [7, 1])
    ((0, 1, 2), (7, 1))
    """
    if not isinstance(value, list):
        return tuple(range(check_integer(place, value, at_least=1, at_most=_MOST_SEEDS)))
    seeds = tuple(check_integer(place, seed, at_least=0, at_most=2**31 - 1) for seed in value)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ParameterError(f"`{place}` must be a number, or a list of different seeds, at least one, got {value!r}.")
    return seeds


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, nested tables merged; where both say something, `above` wins.

    Examples
    --------
    >>> merge({"alpha": 1, "training": {"lr": 0.1}}, {"training": {"batch_size": 200}})
    {'alpha': 1, 'training': {'lr': 0.1, 'batch_size': 200}}
    """
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


def nested(path: str, value: object) -> dict[str, Any]:
    """Return the nested tables in which `value` stands at a dotted path.

    Examples
    --------
    >>> nested("training.lr", 0.1)
    {'training': {'lr': 0.1}}
    """
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def accepted(detector: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that the detector of this name has; shallow detectors have no network, for example."""
    known = catalog.detector_class(detector)._get_param_names()
    return {name: value for name, value in parameters.items() if name in known}
