"""Detectors that other detectors are made of: as users name them."""

from collections.abc import Mapping
from typing import TypeVar

from sklearn.base import clone

from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import DETECTORS, installed, make
from insphere.errors import ParameterError
from insphere.validation import check_choice

Part = TypeVar("Part", bound=AbstractDetector)


def make_part(role: str, given: object, kind: type[Part], wanted: str) -> Part:
    """Return a new unfitted detector of the wanted kind.

    Parameters
    ----------
    role : str
        The parameter that names it, for errors.
    given : str, mapping or detector
        A name in the catalog, a mapping with that ``name`` and parameters, or a detector, of which a copy is made.
    kind : type
        Class that it must be of.
    wanted : str
        That class in words: "neural".

    Raises
    ------
    ParameterError
        If it is none of these, or not of that kind.
    """
    if isinstance(given, str):
        given = {"name": given}
    if isinstance(given, Mapping):
        parameters = dict(given)
        name = parameters.pop("name", None)
        if not isinstance(name, str):
            raise ParameterError(f'`{role}` as a mapping must have the "name" of a detector beside its parameters, got {dict(given)!r}.')
        if ":" not in name:
            check_choice(role, name, (*DETECTORS, *installed()))
        part: object = make(name, parameters)
    else:
        part = clone(given) if isinstance(given, AbstractDetector) else given
    if not isinstance(part, kind):
        what = f"a {wanted} detector" if wanted else "a detector"
        raise ParameterError(f"`{role}` must be {what}, its name or a mapping with its name, got {type(part).__name__}.")
    return part
