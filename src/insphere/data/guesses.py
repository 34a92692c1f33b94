"""What names and values suggest that nobody said: columns that are not features (an index, labels), labels of images that matter."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.folder_names import ABNORMAL_FOLDERS, NORMAL_FOLDERS, sense, word
from insphere.data.rows import Notice
from insphere.data.table_content import plain_column

if TYPE_CHECKING:
    import pyarrow as pa

_NAMELESS = re.compile(r"^(|unnamed: ?\d+(\.\d+)?|__index_level_\d+__|__null_dask_index__)$")
_INDEX_NAMES = frozenset({"index", "level_0", "rowid", "row_id", "row", "row_number", "rownames", "id", "no", "nr", "#"})
_LABEL_WORDS = frozenset(
    {
        "label",
        "labels",
        "target",
        "targets",
        "class",
        "classes",
        "outlier",
        "outliers",
        "anomaly",
        "anomalies",
        "anomalous",
        "abnormal",
        "fraud",
        "fraudulent",
        "defect",
        "defective",
        "defects",
        "fault",
        "faulty",
        "failure",
        "failed",
        "attack",
        "groundtruth",
        "gt",
        "isnormal",
        "novelty",
    }
)
_ALSO_LABELS = frozenset({"y", "y_true", "ground_truth", "normal", "is_normal", "good", "ok", "ng", "pass/fail", "pass_fail", "bad"})
_MOST_CLASSES = 20
_LEAST_COUNTED = 5  # rows of each of several tables put below one another, on average, so that their counting is not by chance
_TELLING = frozenset({*NORMAL_FOLDERS, *ABNORMAL_FOLDERS})
_LISTED = 10


def index_columns(table: "pa.Table") -> list[str]:
    """Return the columns that hold the index of a data frame: declared in the file, or found by name and values.

    A column without a name (or the names that pandas and R give to those) is one if its values are all different, and whole numbers or
    texts, or if they are whole numbers that never fall; one called index, id, row, ... is one if it counts k, k + 1, k + 2, ... Either is
    one if it counts again and again from k on.

    Examples
    --------
    >>> import pyarrow as pa
    >>> index_columns(pa.table({"": [7, 3, 9], "id": [4, 5, 6], "volt": [1, 2, 3]}))
    ['', 'id']
    """
    declared = _declared(table)
    named = {column for column in table.column_names if column not in declared and _names_an_index(column)}
    once = [column for column, count in Counter(table.column_names).items() if count == 1]
    return [column for column in once if column in declared or (column in named and _is_index(table, column))]


def label_columns(table: "pa.Table", columns: Sequence[str]) -> list[str]:
    """Return those of `columns` that are labels by name and by values: two values at most, or few whole numbers in one called class.

    Examples
    --------
    >>> import pyarrow as pa
    >>> label_columns(pa.table({"volt": [1, 2, 1], "Is_Fraud": [0, 1, 0], "target_temp": [20, 22, 24]}), ["volt", "Is_Fraud"])
    ['Is_Fraud']
    """
    return [column for column in columns if _names_a_label(column) and _holds_labels(plain_column(table.column(column)), column)]


def unread_labels(texts: Sequence[str], *, subject: str) -> tuple[tuple[Notice, ...], str | None]:
    """Return what is to be told of labels of images whose meaning is not asked for, and why a fit must not go on.

    Parameters
    ----------
    texts : sequence of str
        The label of each image.
    subject : str
        What the labels are called in messages.

    Returns
    -------
    notices : tuple of Notice
        That all images are taken as of one kind; nothing where they have one label.
    doubt : str or None
        With two values, or a value that sounds like normal images or anomalies: learning all of them is hardly meant.

    Examples
    --------
    >>> notices, doubt = unread_labels(["0", "1", "0"], subject="the label")
    >>> notices[0].text, doubt is None
    ('The label is not read: all 3 images are taken as of one kind, whatever it says (0 (2), 1 (1)).', False)
    >>> unread_labels(["cat", "dog", "eel"], subject="the label")[1]
    """
    counts = Counter(texts)
    if len(counts) < 2:
        return (), None
    listed = ", ".join(f"{text} ({count})" for text, count in sorted(counts.items())[:_LISTED]) + (", ..." if len(counts) > _LISTED else "")
    told = f"{subject[0].upper()}{subject[1:]} is not read: all {len(texts)} images are taken as of one kind, whatever it says ({listed})."
    doubt = (
        f"{subject} says of images what kind they are ({listed}), and nothing says which kind is normal, so that all would be learned as"
        " normal. Name it with `normal_label` (--normal-label)."
    )
    tells = len(counts) == 2 or any(word(text) in _TELLING or sense(text) is not None for text in counts)
    return (Notice("taken as", len(texts), told),), doubt if tells else None


def _declared(table: "pa.Table") -> frozenset[str]:
    """Return the columns that pandas wrote its index to, as the file's metadata says."""
    try:
        content = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
        columns = content.get("index_columns", []) if isinstance(content, dict) else []
    except (ValueError, RecursionError):  # another writer's metadata says nothing about an index
        return frozenset()
    return frozenset(column for column in columns if isinstance(column, str)) if isinstance(columns, list) else frozenset()


def _names_an_index(column: str) -> bool:
    name = column.strip().lower()
    return bool(_NAMELESS.match(name)) or name in _INDEX_NAMES


def _is_index(table: "pa.Table", column: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = plain_column(table.column(column))
    if values.null_count or not len(values):
        return False
    numbers = _whole_numbers(values)
    if numbers is None and not pa.types.is_string(values.type):
        return False
    distinct = bool(pc.count_distinct(values).as_py() == len(values))
    name = column.strip().lower()
    # A frame's index called so by pandas may be shuffled; the other names are features too often.
    if distinct and (name not in _INDEX_NAMES or (name in ("index", "level_0") and numbers is not None and len(values) > 1)):
        return True
    never_falls = numbers is not None and name not in _INDEX_NAMES and len(numbers) > 1 and bool((np.diff(numbers) >= 0).all())
    return numbers is not None and (never_falls or _counts(numbers))


def _whole_numbers(values: "pa.Array") -> NDArray[Any] | None:
    """Return the values if they are whole numbers, written as fractions or not."""
    import pyarrow as pa

    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return None
    numbers = np.asarray(values.to_numpy(zero_copy_only=False))
    return numbers if np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all() else None


def _counts(numbers: NDArray[Any]) -> bool:
    """Return whether numbers count k, k + 1, k + 2, ..., perhaps again from k on, as where tables were put one below the other."""
    goes_on = np.diff(numbers) == 1
    again = numbers[1:][~goes_on] == numbers[0]
    return len(numbers) > 1 and bool(again.all()) and (not len(again) or len(numbers) >= _LEAST_COUNTED * (1 + len(again)))


def _names_a_label(column: str) -> bool:
    name = column.strip().lower()
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.strip()).lower()) if word]
    if not words:
        return False
    return (
        name in _ALSO_LABELS or words[-1] in _LABEL_WORDS or words[0] in ("is", "has") or "".join(words) in _LABEL_WORDS or _is_joined(name)
    )


def _is_joined(name: str) -> bool:
    return name.startswith("is") and name[2:] in _LABEL_WORDS


def _holds_labels(values: Any, column: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    if not (types.is_boolean(values.type) or types.is_integer(values.type) or types.is_floating(values.type)):
        return False
    distinct = [value for value in pc.unique(values).slice(0, _MOST_CLASSES + 2).to_pylist() if value is not None and value == value]
    whole = all(float(value).is_integer() for value in distinct)
    is_class = column.strip().lower() in ("label", "labels", "class", "classes", "target")
    most = _MOST_CLASSES if is_class and len(values) > 5 * len(distinct) else 2
    return whole and 0 < len(distinct) <= most
