"""Errors and warnings of insphere: each message names its subject, the rule, the value and a remedy.

Every error derives from `InsphereError` and from the built-in exception that a caller would catch without knowing insphere.
"""

import difflib
import sys
import warnings
from collections.abc import Iterable


class InsphereError(Exception):
    """Base of every error that insphere raises on purpose."""


class ParameterError(InsphereError, ValueError):
    """A parameter has a value that its rule does not allow."""


class UnknownParameterError(ParameterError, TypeError):
    """A constructor is given a parameter that it does not have."""


class DataError(InsphereError, ValueError):
    """The input rows break a rule: wrong shape or type, not finite, too few, unreadable."""


class DatasetNotFoundError(InsphereError, FileNotFoundError):
    """A named data set is neither in the local folder nor to be had by download."""


class ModelFileError(InsphereError, ValueError):
    """A model file is truncated, altered, foreign, or of a format this version does not read."""


class MissingDependencyError(InsphereError, ImportError):
    """A feature needs an optional package; the message says which command installs it."""


class TrainingError(InsphereError, RuntimeError):
    """Training cannot go on, for example because a loss term is not finite."""


class CollapseError(InsphereError, RuntimeError):
    """The fitted detector gives every row the same score, so its answers would mean nothing."""


class ExportError(InsphereError, RuntimeError):
    """A detector cannot be written as a graph, or the graph does not give the detector's scores."""


class ExplainError(InsphereError, ValueError):
    """A detector or its rows cannot be explained in the way that was asked for; the message says in which ways they can."""


class DataNotice(UserWarning):
    """Something about given rows that their user should know: what was left out, or what something was taken to mean."""


class SourceNotice(DataNotice):
    """Something of a source is left out, or was taken to mean something: a `Notice` of it."""


class HealthWarning(UserWarning):
    """Something about a fitted detector deserves a look; the text says what to do."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest choice whatever its case, or an empty string.

    Examples
    --------
    >>> did_you_mean("eucldean", ["euclidean", "local"])
    " Did you mean 'euclidean'?"
    >>> did_you_mean("zzz", ["euclidean", "local"])
    ''
    """
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points at the line outside this package that called into it, however deep inside it was noticed.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_user("look", DataNotice)
    >>> caught[0].category.__name__, str(caught[0].message)
    ('DataNotice', 'look')
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == __name__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
