"""NumPy's .npy and .npz files as a source; objects in them are never unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from insphere.data.arrays import ArraySource
from insphere.data.file_rows import open_rows
from insphere.data.labels import binary_labels, label_texts
from insphere.data.options import OpenOptions
from insphere.data.rows import split_positions
from insphere.errors import DataError, did_you_mean

_ZIP_MAGIC = b"PK"
_LABELS = "y"


def open_array_file(path: Path, options: OpenOptions) -> ArraySource:
    """Return the source of a .npy file, read as its rows are asked for, or of the arrays `X` and, optionally, `y` of an .npz file.

    In an .npz file, `y` holds labels: 0 normal, 1 anomaly, or what `normal_label` says; `label_column` names another array.

    Raises
    ------
    DataError
        If the file cannot be read without unpickling, or has no array that can be taken for the rows.
    """
    options.refuse(("image_size", "mode", "columns", "groups", "header", "category"), "a NumPy file")
    X, y, label_name = _read(path, options.label_column, options.remembered.label_column)
    if y is None:
        options.refuse(("label_column", "normal_label"), "a NumPy file without labels")
        return ArraySource(X, name=path.name, channels=options.channels)
    subject = f"array {label_name!r} of {path.name}"
    remembered = options.remembered_normal(label_name, usual=_LABELS)
    normal = options.normal_label if remembered is None else remembered
    labels = binary_labels(y, subject=subject, normal_label=normal, strict=remembered is None, column=label_name)
    types = None if normal is None else label_texts(np.asarray(y), subject=subject)
    told = options.told_of_anomalies(labels)
    source = ArraySource(
        X, name=path.name, labels=labels, types=types, channels=options.channels, notices=told, table_spec=options.label_spec
    )
    if options.split != "train":
        return source
    return source.take(split_positions("train", len(source), labels.tolist(), None, name=path.name, remedy=" (every label is 1)"))


def _read(path: Path, label_name: str | None, remembered: str | None) -> tuple[Any, Any, str]:
    """Return the rows, the labels (None if there are none) and the name of the labels' array."""
    try:
        # Opened here, because numpy leaves a damaged archive's file open.
        with path.open("rb") as file:
            if file.read(2) == _ZIP_MAGIC:
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return _members(path.name, archive, label_name, remembered)
        return open_rows(path), None, ""
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    # On damaged bytes numpy raises ValueError, but also BadZipFile, EOFError, SyntaxError, tokenize's errors and MemoryError.
    except Exception as error:
        raise DataError(
            f"{path.name} cannot be read as NumPy arrays without unpickling objects ({error or type(error).__name__}); "
            "save plain numbers with `np.save` or `np.savez`."
        ) from error


def _members(path_name: str, archive: Mapping[str, Any], label_name: str | None, remembered: str | None) -> tuple[Any, Any, str]:
    names = list(archive)
    if label_name is not None and label_name not in names:
        raise DataError(f"{path_name} has no array {label_name!r}; its arrays are {names}.{did_you_mean(label_name, names)}")
    label_name = label_name or (remembered if remembered is not None and remembered in names else _LABELS)
    others = [name for name in names if name != label_name]
    if "X" not in others and len(others) != 1:
        raise DataError(f"{path_name} has no array 'X' for the rows; its arrays are {names}. Save it with `np.savez(path, X=X, y=y)`.")
    return archive["X" if "X" in others else others[0]], archive[label_name] if label_name in names else None, label_name
