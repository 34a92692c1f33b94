"""Rows that come one by one: lists of paths, Pillow images or arrays; data sets with a length and items, known by what they can do."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.arrays import ArraySource, plain
from insphere.data.folders import open_image_files
from insphere.data.guesses import unread_labels
from insphere.data.image_kinds import is_deep, remarks
from insphere.data.image_notices import told_of, told_of_size
from insphere.data.image_sizes import choose_spec, natural_size
from insphere.data.images import bring_to, decode_upright, header_of
from insphere.data.labels import binary_labels, label_text
from insphere.data.options import OpenOptions
from insphere.data.rows import AbstractSource, Notice
from insphere.errors import DataError

_IMAGE_FIELDS = ("image", "img", "pixel_values", "x", "data")
_LOOKED_AT = 9  # items that are looked at to see how all are made
_LABEL_FIELDS = ("label", "labels", "target", "y")


def is_many(source: Any) -> bool:
    """Return whether `source` is a list of paths, images or arrays of images, or a data set of such, and not a table of numbers."""
    if _is_picture(source) or _holds_paths(source):
        return True
    if isinstance(source, str | bytes | Mapping) or hasattr(source, "shape") or not _has_items(source) or not len(source):
        return False
    if not isinstance(source, list | tuple):  # a data set: its items are rows with a label, fields by name, or tensors
        return True
    first: Any = next((item for item in source if item is not None), None)
    if isinstance(first, Mapping):
        return _field(first, _IMAGE_FIELDS, None) is not None
    if isinstance(first, tuple) and len(first) == 1:
        first = first[0]
    return isinstance(first, str | bytes | bytearray | os.PathLike) or _is_picture(first) or _is_pair(first) or np.ndim(first) > 1


def holds_files(source: Any) -> bool:
    """Return whether the rows can be brought to another size: paths or Pillow images, alone or as items of a data set."""
    if not is_many(source):
        return False
    first = _first(_listed(source))
    if isinstance(first, Mapping):
        field = _field(first, _IMAGE_FIELDS, None)
        first = None if field is None else first[field]
    elif isinstance(first, tuple) and first:
        first = first[0]
    return isinstance(first, str | os.PathLike) or _is_picture(first) or _is_encoded(first)


def open_many(source: Any, options: OpenOptions) -> AbstractSource:
    """Return the source of rows that come one by one.

    Parameters
    ----------
    source : sequence
        Paths of image files; Pillow images; encoded images (bytes); arrays (height, width[, channels]) of one shape; or a data set with
        ``len`` and items: an image or array, (image,), (image, label), or fields by name (``image``, and optionally ``label``), as data
        sets of PyTorch and Hugging Face have them. Neither library is needed. One Pillow image is a list of one; a list of paths may be
        an array or series of texts. An item that cannot be had, is None, or is made otherwise than most of the first nine, is a row error.
    options : OpenOptions
        With `normal_label` (and `label_column`, the field's name) labels are read: every other one is an anomaly.

    Raises
    ------
    DataError
        If no item can be had, the items are of different kinds, or arrays of different shapes.
    """
    source = _listed(source)
    if isinstance(_first(source), str | os.PathLike):
        _check_kinds(source, lambda item: isinstance(item, str | os.PathLike), "a path")
        return open_image_files(list(source), options)
    options.refuse(("columns", "groups", "header", "groups_by", "category", "category_by"), "a list of images")
    items, values, errors = _unpacked(source, options)
    labels, notices, doubt = _meaning(values, options)
    name = f"a list of {len(items)} images"
    told: dict[str, dict[int, int]] = {}
    good = {row: item for row, item in enumerate(items) if row not in errors}
    if _is_picture(next(iter(good.values()))):
        _check_kinds(good, _is_picture, "a Pillow image")
        headers = [header_of(item) for item in good.values()]
        spec = options.spec or choose_spec(headers, image_size=options.image_size, mode=options.mode, sized=options.sized)
        if options.spec is None and options.image_size is None:
            notices = (*notices, *told_of_size(len(items), natural_size(headers), spec))
        X: NDArray[Any] = np.zeros((len(items), *spec.shape), dtype=spec.dtype)
        for row, item in good.items():
            try:
                X[row] = bring_to(item, spec)
            except Exception as error:  # Pillow decodes only now; on damaged bytes it raises almost any type
                errors[row] = _why_not(error)
                continue
            for kind, amount in remarks(item, to_grey=spec.channels == 1, deep=spec.dtype == "uint8" and is_deep(item)).items():
                told.setdefault(kind, {})[row] = amount
    else:
        options.refuse(("image_size", "mode", "jpeg_draft"), "a list of arrays")
        arrays = {row: plain(item) for row, item in good.items()}
        shapes = sorted({array.shape for array in arrays.values()})
        if len(shapes) > 1:
            listed = ", ".join(map(str, shapes[:5]))
            raise DataError(
                f"The {len(arrays)} arrays of the list have {len(shapes)} shapes ({listed}); bring the images to one size first."
            )
        empty = np.zeros_like(next(iter(arrays.values())))
        X = np.stack([arrays.get(row, empty) for row in range(len(items))])
        if X.ndim == 2:
            name = f"a list of {len(items)} rows"
    notices = (*notices, *told_of(told, None))
    more: dict[str, Any] = {"notices": notices, "doubt": doubt, "table_spec": options.label_spec, "row_errors": errors}
    return ArraySource(X, labels=labels, name=name, channels=options.channels, **more).part(options.split)


def refuse_other_kinds(source: Any) -> None:
    """Raise `DataError` for what can only be gone through once, comes in batches, or is not rows in an order."""
    if hasattr(source, "__next__"):
        raise DataError(
            f"A {type(source).__name__} gives its rows once only, and they are gone through more than once; give list(...) of it."
        )
    if hasattr(source, "dataset") and hasattr(source, "batch_size"):
        raise DataError(f"A {type(source).__name__} gives batches, in an order of its own; give its `dataset`, whose items are rows.")

    if hasattr(source, "collect"):
        raise DataError(f"A {type(source).__name__} has its rows computed only when asked for; give `frame.collect()`.")
    first = source[0] if isinstance(source, list | tuple) and source else None
    if isinstance(first, Mapping) and not is_many(source):
        raise DataError(f"A {type(source).__name__} of dicts has no columns; give a data frame, as pandas.DataFrame(rows) makes one.")
    if isinstance(source, Mapping):
        raise DataError(f"A {type(source).__name__} is not rows; give a data frame, as pandas.DataFrame(columns) makes one, or an array.")
    if source is None or isinstance(source, set | frozenset):
        raise DataError(f"{type(source).__name__} is not rows in an order; give an array, a data frame, a path or a list of images.")


def _listed(source: Any) -> Any:
    """Return one image, or an array or series of paths, as the list that it stands for."""
    return [source] if _is_picture(source) else source.tolist() if _holds_paths(source) else source


def _holds_paths(source: Any) -> bool:
    """Return whether an array or series holds paths, by its first value."""
    if not hasattr(source, "tolist") or getattr(source, "ndim", 0) != 1 or not len(source):
        return False
    return isinstance(np.asarray(source[:1])[0], str | os.PathLike)


def _has_items(source: Any) -> bool:
    return hasattr(source, "__len__") and hasattr(source, "__getitem__")


def _is_picture(item: Any) -> bool:
    """Return whether an item is a Pillow image, by what it can do."""
    return hasattr(item, "getbands") and hasattr(item, "size") and hasattr(item, "convert")


def _is_encoded(item: Any) -> bool:
    """Return whether an item is an encoded image: bytes, or the fields that Hugging Face's data sets have for one undecoded."""
    return isinstance(item, bytes | bytearray) or (isinstance(item, Mapping) and {"bytes", "path"} >= set(item) and "bytes" in item)


def _is_pair(item: Any) -> bool:
    """Return whether an item is an image with its label: what comes second has fewer axes."""
    if not isinstance(item, tuple) or len(item) != 2:
        return False
    return _is_picture(item[0]) or np.ndim(item[0]) > np.ndim(item[1])


def _check_kinds(items: Any, fits: Any, kind: str) -> None:
    for row, item in items.items() if isinstance(items, Mapping) else enumerate(items):
        if not fits(item):
            raise DataError(
                f"Item {row} of the list is not {kind} as the first one is, but a {type(item).__name__}; give one kind of item."
            )


def _first(source: Any) -> Any:
    """Return the first item that says how the others are made: of the first that can be had, one made as most of them are.

    Raises
    ------
    DataError
        If none can be had.
    """
    why, found = "", []
    for row in range(len(source)):
        try:
            item = source[row]
        except Exception as error:  # of somebody's own data set
            why = why or _why_not(error)
            continue
        if item is not None:
            found.append(item)
            # Paths are all alike, and a list of them may be long.
            if len(found) == _LOOKED_AT or isinstance(item, str | os.PathLike):
                break
        why = why or "is None"
    if not found:
        raise DataError(f"None of the {len(source)} items can be read (item 0 {why}).")
    ways = [_way(item) for item in found]
    return found[max(range(len(found)), key=lambda number: (ways.count(ways[number]), -number))]


def _way(item: Any) -> Any:
    """Return what items that are made alike have in common."""
    if isinstance(item, tuple):
        return len(item), _is_pair(item)
    return tuple(map(str, item)) if isinstance(item, Mapping) else "item"


def _why_not(error: Exception) -> str:
    return str(error) if isinstance(error, DataError) else f"cannot be read: {type(error).__name__}: {str(error)[:200]}"


def _unpacked(source: Any, options: OpenOptions) -> tuple[list[Any], list[Any] | None, dict[int, str]]:
    """Return the images of a data set, the labels that come with them, and the rows that have no image, with the reason."""
    first = _first(source)
    image: Any
    label: Any
    if isinstance(first, Mapping) and not _is_encoded(first):
        remembered = options.remembered.label_column
        image = _field(first, _IMAGE_FIELDS, None)
        label = _field(first, _LABEL_FIELDS, options.label_column or (remembered if remembered in first else None))
        if image is None:
            raise DataError(f"The items have no field {' or '.join(_IMAGE_FIELDS)}; their fields are {', '.join(map(str, first))}.")
    elif isinstance(first, tuple) and not _is_pair(first) and len(first) != 1:
        kinds = ", ".join(type(part).__name__ for part in first[:5])
        raise DataError(f"The items are tuples of {len(first)} ({kinds}); give the image alone, (image, label), or fields by name.")
    else:
        image, label = (0, 1 if len(first) == 2 else None) if isinstance(first, tuple) else (None, None)
    items: list[Any] = []
    values: list[Any] = []
    errors: dict[int, str] = {}
    for row in range(len(source)):
        try:
            item = source[row]
            if not _is_made_alike(item, first, image, label):
                got = f"a tuple of {len(item)}" if isinstance(item, tuple) else "None" if item is None else f"a {type(item).__name__}"
                raise DataError(f"is {got} and not made as the others are")
            found = item if image is None else item[image]
            if found is None:
                raise DataError("has no image")
            items.append(_decoded(found) if _is_encoded(found) else found)
            values.append(None if label is None else item[label])
        except Exception as error:  # of somebody's own data set, or of the image itself
            errors[row] = _why_not(error)
            items.append(None)
            values.append(None)
    if len(errors) == len(items):
        raise DataError(f"None of the {len(items)} items can be read (item 0 {errors[0]}).")
    if label is None:
        return items, None, errors
    known = next(value for row, value in enumerate(values) if row not in errors)
    return items, [known if row in errors else value for row, value in enumerate(values)], errors


def _is_made_alike(item: Any, first: Any, image: Any, label: Any) -> bool:
    """Return whether an item has its image, and its label if any, where the first one has them."""
    if isinstance(first, tuple):
        return isinstance(item, tuple) and len(item) == len(first) and (len(item) == 1 or _is_pair(item))
    if image is not None:
        return isinstance(item, Mapping) and image in item and (label is None or label in item)
    return item is not None and not isinstance(item, tuple)


def _decoded(encoded: Any) -> Any:
    """Return an encoded image as Pillow has it, upright."""
    if not isinstance(encoded, Mapping):
        return decode_upright(bytes(encoded))
    data = encoded["bytes"]
    if data is None and encoded.get("path") is None:
        raise DataError("has neither bytes nor a path")
    return decode_upright(encoded["path"] if data is None else data)


def _meaning(values: list[Any] | None, options: OpenOptions) -> tuple[NDArray[np.int64] | None, tuple[Notice, ...], str | None]:
    """Return labels where their meaning is asked for; else what is to be told of them, and why a fit must not go on."""
    subject = "the label of the items"
    if options.normal_label is not None or options.label_column is not None:
        if values is None:
            raise DataError("`normal_label` and `label_column` need items with a label: (image, label), or fields by name.")
        labels = binary_labels(np.asarray(values), subject=subject, normal_label=options.normal_label, column=options.label_column)
        return labels, (), None
    remembered = options.remembered
    if values is not None and remembered.normal_label is not None and all(np.ndim(value) == 0 for value in values):
        return binary_labels(np.asarray(values), subject=subject, normal_label=remembered.normal_label, strict=False), (), None
    if values is None or any(np.ndim(value) > 0 for value in values):  # a picture as the second of a pair, for example
        return None, (), None
    notices, doubt = unread_labels([label_text(np.asarray(value).item()) for value in values], subject=subject)
    if doubt is not None and options.split == "train":
        raise DataError(doubt)
    return None, notices, doubt


def _field(item: Mapping[str, Any], usual: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None:
        return wanted if wanted in item else None
    return next((name for name in usual if name in item), None)
