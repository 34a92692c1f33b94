"""TOML files that people write: plans, configurations, published values."""

import os
import tomllib
from pathlib import Path
from typing import Any

from insphere.errors import DataError

MAX_DEPTH = 32
"""Levels of lists and tables within each other at most."""


def read_toml(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Return the content of a TOML file.

    Parameters
    ----------
    path : path-like
    what : str
        What messages call it: "the plan".

    Raises
    ------
    DataError
        If it cannot be read, is not TOML, or has lists and tables more than 32 levels within each other.
    """
    shown = f"{what} {os.fspath(path)}"
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        _check_depth(content, MAX_DEPTH)
    except OSError as error:
        raise DataError(f"Cannot read {shown}: {error.strerror or error}.") from error
    except RecursionError as error:
        text = f"{shown[0].upper()}{shown[1:]} has lists or tables more than {MAX_DEPTH} levels within each other; write it flatter."
        raise DataError(text) from error
    except ValueError as error:  # no TOML, no UTF-8, a null character in the path, or a number of more digits than Python reads
        raise DataError(f"{shown[0].upper()}{shown[1:]} is not valid TOML: {error}.") from error
    return content


def _check_depth(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if levels == 0:
            raise RecursionError
        for entry in value.values() if isinstance(value, dict) else value:
            _check_depth(entry, levels - 1)
