"""Data frames (pandas, polars, Arrow tables and what behaves like them) as one kind of table; none of the libraries is imported."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from insphere.data.table_content import TableContent
from insphere.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def is_frame(X: Any) -> bool:
    """Return whether `X` is a data frame: something with named columns, or a stream of Arrow record batches.

    Examples
    --------
    >>> import pyarrow as pa
    >>> is_frame(pa.table({"volt": [1.0]})), is_frame(np.ones((2, 2)))
    (True, False)
    """
    # A series streams as a column does, but is a row or a column without a name of its own.
    # What is computed only when asked for is not looked into: even the names of its columns may cost.
    is_lazy = hasattr(X, "collect_schema") and not hasattr(X, "to_numpy")
    if is_lazy or isinstance(X, np.ndarray | type) or not (hasattr(X, "columns") or hasattr(X, "schema")):
        return False
    return hasattr(X, "__arrow_c_stream__") or hasattr(X, "__dataframe__") or (hasattr(X, "columns") and hasattr(X, "dtypes"))


def frame_content(frame: Any) -> TableContent:
    """Return a data frame as the content of a table; columns that count 0, 1, 2, ... are called as those of a file without a header."""
    table = frame_table(frame)
    counted = list(range(len(table.column_names)))
    named = list(getattr(frame, "columns", ())) != counted
    return TableContent("the data frame", table if named else table.rename_columns([f"f{column}" for column in counted]), named=named)


def frame_table(frame: Any) -> "pa.Table":
    """Return the columns of a data frame as an Arrow table; its index is not a column.

    Raises
    ------
    DataError
        If it cannot be taken apart into columns.

    Examples
    --------
    >>> import pyarrow as pa
    >>> frame_table(pa.table({"volt": [1.0]})).column_names
    ['volt']
    """
    import pyarrow as pa

    try:
        if hasattr(frame, "iloc"):
            names, columns = [str(name) for name in frame.columns], list(_series(frame))
            return pa.Table.from_arrays(columns, names=names)
        if hasattr(frame, "__arrow_c_stream__"):
            return pa.table(frame)
        if hasattr(frame, "__dataframe__"):
            from pyarrow.interchange import from_dataframe

            return from_dataframe(frame)
        values = np.asarray(frame)
        return pa.Table.from_arrays(
            [_array(values[:, position]) for position in range(values.shape[1])], names=[str(name) for name in frame.columns]
        )
    # Each library fails with errors of its own.
    except Exception as error:
        raise DataError(
            f"The data frame ({type(frame).__name__}) cannot be read as columns: {error}. Give its values as an array."
        ) from error


def _series(frame: Any) -> Iterator[Any]:
    """Yield the columns of a pandas frame by position, because names may be there twice."""
    for position in range(len(frame.columns)):
        yield _array(frame.iloc[:, position])


def _array(values: Any) -> Any:
    """Return a column as an Arrow array; mixed objects become texts, so that the bad cells can be named."""
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if value is None or value != value else str(value) for value in values], pa.string())
