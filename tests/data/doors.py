"""The doors through which rows come, as functions: each puts the same table behind one door and returns what a detector is given.

A rule about rows is tested at all of them at once: `pytest.mark.parametrize("door", TABLE_DOORS, ids=door_name)`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from insphere.data import ArraySource

Columns = Mapping[str, Any]
Door = Callable[[Columns, Path], Any]


def csv_file(columns: Columns, folder: Path) -> Any:
    path = folder / "table.csv"
    lines = [",".join(columns), *(",".join(map(_cell, row)) for row in zip(*map(_listed, columns.values()), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def csv_with_semicolons(columns: Columns, folder: Path) -> Any:
    path = folder / "table.csv"
    rows = zip(*map(_listed, columns.values()), strict=True)
    lines = [";".join(columns), *(";".join(_cell(value).replace(".", ",") for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-16")
    return path


def parquet_file(columns: Columns, folder: Path) -> Any:
    pq.write_table(arrow_table(columns, folder), folder / "table.parquet")
    return folder / "table.parquet"


def parquet_folder(columns: Columns, folder: Path) -> Any:
    (folder / "shards").mkdir(exist_ok=True)
    table = arrow_table(columns, folder)
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), folder / "shards" / "0.parquet")
    pq.write_table(table.slice(half).select(table.column_names[::-1]), folder / "shards" / "1.parquet")
    return folder / "shards"


def pandas_frame(columns: Columns, folder: Path) -> Any:
    frame = pd.DataFrame({name: _listed(values) for name, values in columns.items()})
    return frame.set_index(np.arange(len(frame))[::-1])  # labels that disagree with positions


def polars_frame(columns: Columns, folder: Path) -> Any:
    return pl.DataFrame({name: _listed(values) for name, values in columns.items()})


def arrow_table(columns: Columns, folder: Path) -> Any:
    return pa.table({name: _listed(values) for name, values in columns.items()})


TABLE_DOORS: tuple[Door, ...] = (csv_file, csv_with_semicolons, parquet_file, parquet_folder, pandas_frame, polars_frame, arrow_table)
"""Doors through which names of columns come with the rows."""


def named_array(columns: Columns, folder: Path) -> Any:
    return ArraySource(np.column_stack([np.asarray(values, dtype=np.float64) for values in columns.values()]), feature_names=list(columns))


NUMERIC_DOORS: tuple[Door, ...] = (*TABLE_DOORS, named_array)
"""The same, and an array with names, which holds numbers only."""


def door_name(door: Door) -> str:
    return door.__name__


def _listed(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)
