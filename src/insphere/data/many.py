"""Rows that come one by one: lists of paths, Pillow images or arrays; data sets with a length and items, known by what they can do."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.arrays import ArraySource
from insphere.data.folders import open_image_files
from insphere.data.images import bring_to, choose_spec, header_of, remarks
from insphere.data.labels import binary_labels
from insphere.data.options import OpenOptions
from insphere.data.rows import AbstractSource
from insphere.data.stores import told_of
from insphere.errors import DataError

_IMAGE_FIELDS = ("image", "img", "pixel_values", "x", "data")
_LABEL_FIELDS = ("label", "labels", "target", "y")


def is_many(source: Any) -> bool:
    """Return whether `source` is a list of paths, images or arrays of images, or a data set of such, and not a table of numbers."""
    if isinstance(source, str | bytes | Mapping) or hasattr(source, "shape") or not _has_items(source) or not len(source):
        return False
    first = source[0]
    if not isinstance(source, list | tuple):  # a data set: its items are rows with a label, fields by name, or tensors
        return True
    return isinstance(first, str | os.PathLike) or _is_picture(first) or np.ndim(first) > 1


def holds_files(source: Any) -> bool:
    """Return whether the rows can be brought to another size: paths or Pillow images, alone or as items of a data set."""
    if not is_many(source):
        return False
    first = source[0]
    if isinstance(first, Mapping):
        field = _field(first, _IMAGE_FIELDS, None)
        first = None if field is None else first[field]
    elif isinstance(first, tuple) and first:
        first = first[0]
    return isinstance(first, str | os.PathLike) or _is_picture(first)


def open_many(source: Any, options: OpenOptions) -> AbstractSource:
    """Return the source of rows that come one by one.

    Parameters
    ----------
    source : sequence
        Paths of image files; Pillow images; arrays (height, width[, channels]) of one shape; or a data set with ``len`` and items: an
        image or array, (image, label), or fields by name (``image``, and optionally ``label``), as data sets of PyTorch and Hugging
        Face have them. Neither library is needed.
    options : OpenOptions
        With `normal_label` (and `label_column`, the field's name) labels are read: every other one is an anomaly.

    Raises
    ------
    DataError
        If the items are of different kinds, or arrays of different shapes.
    """
    if isinstance(source[0], str | os.PathLike):
        _check_kinds(source, lambda item: isinstance(item, str | os.PathLike), "a path")
        return open_image_files(list(source), options)
    options.refuse(("columns", "groups", "header", "groups_by"), "a list of images")
    items, labels = _unpacked(source, options)
    name = f"a list of {len(items)} images"
    told: dict[str, dict[int, int]] = {}
    if _is_picture(items[0]):
        _check_kinds(items, _is_picture, "a Pillow image")
        spec = options.spec or choose_spec([header_of(item) for item in items], image_size=options.image_size, mode=options.mode)
        for row, item in enumerate(items):
            for kind, amount in remarks(item, spec).items():
                told.setdefault(kind, {})[row] = amount
        X: NDArray[Any] = np.stack([bring_to(item, spec) for item in items])
    else:
        options.refuse(("image_size", "mode"), "a list of arrays")
        arrays = [np.asarray(item) for item in items]
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) > 1:
            listed = ", ".join(map(str, shapes[:5]))
            raise DataError(
                f"The {len(arrays)} arrays of the list have {len(shapes)} shapes ({listed}); bring the images to one size first."
            )
        X = np.stack(arrays)
    opened = ArraySource(X, labels=labels, name=name, channels=options.channels, notices=told_of(told, None))
    return opened.part(options.split)


def _has_items(source: Any) -> bool:
    return hasattr(source, "__len__") and hasattr(source, "__getitem__")


def _is_picture(item: Any) -> bool:
    """Return whether an item is a Pillow image, by what it can do."""
    return hasattr(item, "getbands") and hasattr(item, "size") and hasattr(item, "convert")


def _check_kinds(items: Sequence[Any], fits: Any, kind: str) -> None:
    for row, item in enumerate(items):
        if not fits(item):
            raise DataError(
                f"Item {row} of the list is not {kind} as the first one is, but a {type(item).__name__}; give one kind of item."
            )


def _unpacked(source: Any, options: OpenOptions) -> tuple[list[Any], NDArray[np.int64] | None]:
    """Return the images of a data set, and its labels where their meaning is asked for."""
    items = [source[row] for row in range(len(source))]
    labels: list[Any] | None = None
    if isinstance(items[0], Mapping):
        image = _field(items[0], _IMAGE_FIELDS, None)
        label = _field(items[0], _LABEL_FIELDS, options.label_column)
        if image is None:
            raise DataError(f"The items have no field {' or '.join(_IMAGE_FIELDS)}; their fields are {', '.join(map(str, items[0]))}.")
        labels = None if label is None else [item[label] for item in items]
        items = [item[image] for item in items]
    elif isinstance(items[0], tuple) and len(items[0]) == 2 and not np.isscalar(items[0][0]):
        items, labels = [item[0] for item in items], [item[1] for item in items]
    if options.normal_label is None and options.label_column is None:
        return items, None
    if labels is None:
        raise DataError("`normal_label` and `label_column` need items with a label: (image, label), or fields by name.")
    return items, binary_labels(np.asarray(labels), subject="the label", normal_label=options.normal_label)


def _field(item: Mapping[str, Any], usual: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None:
        return wanted if wanted in item else None
    return next((name for name in usual if name in item), None)
