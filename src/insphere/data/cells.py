"""Columns of a table as numbers: which cells are missing, which are not numbers, which notation of numbers is beyond doubt."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING_MARKS = ("", "?", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nil", "missing", "-", "--", ".", "<na>", "nat")
"""Cells that stand for a missing value, in whatever case."""

DECIMAL_COMMAS = "decimal commas"
"""Notation of numbers like 1,5."""

_POINT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$"
_GROUPED_COMMA = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$"
_GROUPED_POINT = r"^[+-]?\d{1,3}(\.\d{3})+(,\d*)?$"
_INFINITE = r"^[+-]?inf(inity)?$"
_DATE = re.compile(
    r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
    r"|^\d{1,2}:\d{2}(:\d{2})?$"
)


@dataclass(frozen=True)
class Numbers:
    """A column read as numbers.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        NaN where a cell is missing or is not a number.
    bad : dict of int to str
        Row of each cell that is filled but is not a number, to its text.
    n_filled : int
        Cells that are not missing.
    notation : str
        "" for plain numbers, else what the numbers were taken to be written with ("decimal commas").

    Examples
    --------
    >>> import pyarrow as pa
    >>> numbers = read_numbers(pa.chunked_array([["1.5", "ERR", "?"]]))
    >>> numbers.values.tolist(), numbers.bad
    ([1.5, nan, nan], {1: 'ERR'})
    """

    values: NDArray[np.float64]
    bad: dict[int, str]
    n_filled: int
    notation: str = ""


def read_numbers(texts: Any, *, separator: str = ",") -> Numbers:
    """Return a column of texts as numbers.

    A decimal comma and a comma or point between groups of three digits are read where the column leaves no doubt: ``1,5`` is one and
    a half, ``1,234,567`` and ``1,234.5`` have groups, and ``1,234`` alone is left as text unless the `separator` of the cells is
    another than the comma and some cell of the column can only be a decimal number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(pc.cast(texts, pa.string()))
    missing = pc.is_in(pc.utf8_lower(texts), pa.array(MISSING_MARKS))
    texts = pc.if_else(pc.fill_null(missing, True), pa.scalar(None, pa.string()), texts)
    notation, texts_of_numbers = _plain(texts, separator)
    fits = pc.fill_null(pc.or_(_fits(texts_of_numbers, _POINT), _fits(pc.utf8_lower(texts_of_numbers), _INFINITE)), False)
    plain = pc.utf8_ltrim(texts_of_numbers, characters="+")
    numbers = pc.cast(pc.if_else(fits, plain, pa.scalar(None, pa.string())), pa.float64())
    filled = pc.is_valid(texts)
    rows = np.flatnonzero(np.asarray(pc.and_(filled, pc.invert(fits))))
    bad = dict(zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True))
    values = np.array(numbers.to_numpy(), dtype=np.float64)
    return Numbers(values, bad, len(texts) - texts.null_count, notation)


def is_grouped_by_points(texts: Any) -> bool:
    """Return whether every point in a column of texts may part groups of three digits, and there is one.

    Examples
    --------
    >>> import pyarrow as pa
    >>> is_grouped_by_points(pa.array(["1.234", "500"])), is_grouped_by_points(pa.array(["1.234", "0.5"]))
    (True, False)
    """
    import pyarrow.compute as pc

    dotted = pc.match_substring(texts, ".")
    return _any(dotted) and not _any(pc.and_(dotted, pc.invert(_fits(pc.utf8_trim_whitespace(texts), r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"))))


def looks_like_data(cell: str, separator: str = ",") -> bool:
    """Return whether a text is what a table's cell holds rather than the name of a column: a number, a date, a mark for "missing".

    Examples
    --------
    >>> [looks_like_data(cell) for cell in ("1.5", "2024-05-01", "?", "volt")]
    [True, True, True, False]
    """
    cell = cell.strip()
    return cell.lower() in MISSING_MARKS or is_date(cell) or is_number(cell, separator)


def is_grouped_by_commas(cell: str) -> bool:
    """Return whether every comma of a number may part groups of three digits, or one of them be a decimal comma.

    Examples
    --------
    >>> [is_grouped_by_commas(cell) for cell in ("2,125", "1,250,000", "0,125", "12")]
    [True, True, False, False]
    """
    return "," in cell and re.match(_GROUPED_COMMA, cell.strip()) is not None


def is_number(cell: str, separator: str = ",") -> bool:
    """Return whether a text is a number; with a decimal comma too where commas do not separate cells."""
    patterns = (_POINT, _GROUPED_COMMA) if separator == "," else (_POINT, _COMMA, _GROUPED_COMMA, _GROUPED_POINT)
    return any(re.match(pattern, cell.strip()) for pattern in patterns) or bool(re.match(_INFINITE, cell.strip().lower()))


def is_date(cell: str) -> bool:
    """Return whether a text is a date or a time of day in digits."""
    return bool(_DATE.match(cell.strip()))


def _plain(texts: Any, separator: str) -> tuple[str, Any]:
    """Return what the numbers are written with, and the texts with a decimal point and without groups."""
    import pyarrow.compute as pc

    if not _any(pc.match_substring(texts, ",")):
        return "", texts
    comma, grouped_comma, grouped_point = (_fits(texts, pattern) for pattern in (_COMMA, _GROUPED_COMMA, _GROUPED_POINT))
    has_comma = pc.match_substring(texts, ",")
    with_point = _any(pc.and_(_fits(texts, _POINT), pc.match_substring(texts, ".")))
    decimal = pc.or_(comma, pc.and_(grouped_point, has_comma))
    surely_decimal = _any(pc.and_(pc.and_(decimal, has_comma), pc.invert(grouped_comma)))
    surely_grouped = _any(pc.and_(grouped_comma, pc.or_(pc.match_substring(texts, "."), _fits(texts, r",\d{3},"))))
    if surely_decimal and not surely_grouped and not with_point:
        return DECIMAL_COMMAS, pc.if_else(decimal, pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", "."), texts)
    if (surely_grouped or with_point) and not surely_decimal:
        return "commas between groups of digits", pc.if_else(grouped_comma, pc.replace_substring(texts, ",", ""), texts)
    return "", texts


def _fits(texts: Any, pattern: str) -> Any:
    import pyarrow.compute as pc

    return pc.match_substring_regex(texts, pattern)


def _any(mask: Any) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(mask).as_py())
