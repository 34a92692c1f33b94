"""What other packages, or a user's own file, add by name: entry points, and ``module:name``. Nothing is imported that nobody named."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

from insphere.errors import ParameterError


def installed(group: str) -> dict[str, str]:
    """Return the entry points of a group that installed packages offer: name and ``module:name`` of each; nothing is imported.

    Examples
    --------
    >>> installed("insphere.nothing")
    {}
    """
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def imported(target: str) -> Any:
    """Return what ``module:name`` names; modules are looked for where Python finds them, and at last in the working folder.

    Raises
    ------
    ParameterError
        If there is no such module or name, or importing it fails.

    Examples
    --------
    >>> imported("math:sqrt")(4.0)
    2.0
    """
    module, _, name = target.partition(":")
    with _working_folder_last():
        return _found(target, module, name)


def is_module(name: str) -> bool:
    """Return whether there is a module of this name, in the working folder too; nothing of it is run.

    Examples
    --------
    >>> is_module("math"), is_module("no_such_module")
    (True, False)
    """
    with _working_folder_last():
        try:
            return importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            return False


@contextlib.contextmanager
def _working_folder_last() -> Iterator[None]:
    # At the end and for this import only: nothing in the folder can stand in for a library.
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _found(target: str, module: str, name: str) -> Any:
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError(f"{target!r} cannot be imported ({error}); give module:Class, and run where Python finds it.") from error
    return found
