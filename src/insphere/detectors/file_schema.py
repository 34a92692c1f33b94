"""What a model file may hold, declared once for all detectors: the types and ranges of its header, and what every array obeys.

What only one method has (the nodes of a tree, the shapes of its arrays) is checked by that detector's `_restore`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from insphere.data.preprocess import Preprocess, Scaling
from insphere.decision.health import LEVELS
from insphere.errors import ModelFileError
from insphere.validation import check_choice

MAX_VALUES = 2**28
"""Values of one row at most (16,384 × 16,384 pixels)."""

MAX_DEPTH = 32
"""Levels of lists and mappings within each other in a header at most."""

_MAX_ROWS = 2**53

_COMMON_ARRAYS = {
    "calibration/scores": "float64",
    "calibration/peaks": "float64",
    "calibration/categories": "int64",
    "data/row_hashes": "uint64",
}

Check = Callable[[Any, str], None]


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        _refuse(where, "a text", value)


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        _refuse(where, "true or false", value)


def _free(value: Any, where: str) -> None:
    """Take anything: a part that its own room checks."""


def _number(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e308 <= value <= 1e308:
        _refuse(where, "a finite number", value)


def _whole(low: int, high: int) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            _refuse(where, f"a whole number from {low} to {high}", value)

    return check


def _one_of(*words: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in words:
            _refuse(where, f"one of {', '.join(words)}", value)

    return check


def _or_null(check: Check) -> Check:
    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def _list(of: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            _refuse(where, "a list", value)
        for position, entry in enumerate(value):
            of(entry, f"{where}[{position}]")

    return check


def _mapping(of: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(where, "a mapping", value)
        for name, entry in value.items():
            of(entry, f"{where}.{name}")

    return check


def _record(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Return the check of a mapping that has the needed entries, and perhaps the optional ones; further ones are not looked at."""
    known = {**needed, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(where, "a mapping", value)
        for name in needed:
            if name not in value:
                raise ModelFileError(
                    f"The model file is incomplete or of another version: it has no {where}.{name}. Save the detector again."
                )
        for name, entry_check in known.items():
            if name in value:
                entry_check(value[name], f"{where}.{name}")

    return check


_COUNT = _whole(0, _MAX_ROWS)

_EPOCH = _record(
    {
        "epoch": _COUNT,
        "n_epochs": _COUNT,
        "terms": _mapping(_number),
        "validation_loss": _or_null(_number),
        "lr": _number,
        "seconds": _number,
        "stage": _text,
    }
)

_CHANGE = _record({"at": _text, "what": _text, "from": _number, "to": _number, "threshold_from": _number, "threshold_to": _number})

_VERDICT = _record(
    {"row": _text, "verdict": _text, "anomaly_score": _number, "is_anomaly": _flag, "drawn": _flag, "used": _flag, "at": _text},
    {"category": _or_null(_text)},
)

_INPUT = _record(
    {
        "shape": _list(_whole(1, MAX_VALUES)),
        "image": _or_null(_mapping(_free)),
        "from_files": _flag,
        "feature_names": _or_null(_list(_text)),
    }
)

HEADER = _record(
    {
        "detector": _text,
        "parameters": _mapping(_free),
        "input": _INPUT,
        "seed": _whole(0, 2**128),
        "decision": _record(
            {"by": _one_of("conformal", "radius"), "target_fpr": _number, "threshold": _number, "radius": _number},
            {
                "method": _one_of("split", "cross", "given"),
                "n_calibration": _COUNT,
                "n_rows": _COUNT,
                "history": _list(_CHANGE),
                "categories": _or_null(_list(_record({"name": _text}))),
            },
        ),
        "data": _record(
            {
                "source": _text,
                "n_rows": _COUNT,
                "n_unreadable": _COUNT,
                "fingerprint": _text,
                "n_train": _COUNT,
                "n_calibration": _COUNT,
            },
            {"n_labelled": _COUNT, "n_different": _COUNT, "n_trimmed": _COUNT},
        ),
        "health": _record(
            {
                "findings": _list(_record({"name": _text, "level": _one_of(*LEVELS), "value": _number, "text": _text})),
                "suspects": _list(_COUNT),
            }
        ),
        "versions": _mapping(_text),
        "created": _text,
        "model": _record({}, {"latent_dim": _whole(1, 100_000), "history": _list(_EPOCH)}),
    },
    {"verdicts": _list(_VERDICT)},
)
"""The check of a header: call it with the header and the word "header"."""


def check_file(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check what is the same for all detectors.

    Parameters
    ----------
    header : mapping
    arrays : mapping of str to ndarray
        Floating ones must be finite: weights, centres, scores and trees alike.

    Raises
    ------
    ModelFileError
        If an entry is missing, of another type or out of its range, or a value is not finite; the message names it.
    """
    _check_depth(header, "header", MAX_DEPTH)
    HEADER(header, "header")
    if math.prod(header["input"]["shape"]) > MAX_VALUES:
        _refuse("header.input.shape", f"a shape of at most {MAX_VALUES:,} values", header["input"]["shape"])
    for name, dtype in _COMMON_ARRAYS.items():
        if name in arrays and (arrays[name].ndim != 1 or arrays[name].dtype != dtype):
            raise ModelFileError(
                f"The stored array {name!r} does not fit the rest: it must be one list of {dtype}; save the detector again."
            )
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ModelFileError(
                f"The stored array {name!r} does not fit the rest: it has values that are not finite; save the detector again."
            )


def stored(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Return an array of floats from a model file whose shape fits (None stands for any size) and whose values are finite.

    Raises
    ------
    KeyError
        If it is missing.
    ModelFileError
        If it does not fit.
    """
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        size == wanted or (wanted is None and size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype != np.float64 or not np.isfinite(array).all():
        raise ModelFileError(f"The stored {name!r} of shape {array.shape} does not fit the rest of the model; save the detector again.")
    return array


def stored_weights(arrays: Mapping[str, NDArray[Any]], name: str, n: int) -> NDArray[np.float64]:
    """Return the weights of `n` kernels from a model file, each in (0, 1]: larger ones would give scores that are not finite.

    Raises
    ------
    KeyError
        If they are missing.
    ModelFileError
        If they do not fit.
    """
    weights = stored(arrays, name, (n,))
    if not ((weights > 0) & (weights <= 1 + 1e-9)).all():
        raise ModelFileError(f"The stored {name!r} has weights outside (0, 1]; save the detector again.")
    return weights


def restore_preprocess(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], row_shape: tuple[int, ...]) -> Preprocess:
    """Return the stored scaling of rows of this shape.

    Raises
    ------
    KeyError
        If a part is missing.
    ModelFileError
        If a part does not fit.
    ParameterError
        If no scaling has that name.
    """
    n_channels = (1,) if arrays["preprocess/offset"].shape == (1,) else row_shape[-1:]
    offset, scale = (stored(arrays, f"preprocess/{name}", n_channels) for name in ("offset", "scale"))
    if not (scale > 0).all():
        raise ModelFileError("The stored 'preprocess/scale' does not fit: it has values that are not above 0; save the detector again.")
    scaling = check_choice("scaling", header["scaling"], get_args(Scaling))
    if scaling != "whiten":
        return Preprocess(scaling, offset, scale)
    n_values = math.prod(row_shape)
    mean, whitening = stored(arrays, "preprocess/mean", (n_values,)), arrays["preprocess/whitening"]
    if whitening.shape != (n_values, n_values) or whitening.dtype != np.float32:
        raise ModelFileError("The stored 'preprocess/whitening' does not fit the rows; save the detector again.")
    return Preprocess(scaling, offset, scale, mean, whitening)


def _check_depth(value: Any, where: str, levels: int) -> None:
    if not isinstance(value, dict | list):
        return
    if levels == 0:
        raise ModelFileError(f"The stored {where[:100]} is nested more than {MAX_DEPTH} levels deep; save the detector again.")
    for entry in value.values() if isinstance(value, dict) else value:
        _check_depth(entry, where, levels - 1)


def _refuse(where: str, rule: str, value: Any) -> None:
    # Whole numbers beyond the floats have thousands of digits, which Python refuses to print.
    shown = "a number beyond 1e308" if isinstance(value, int) and not -(10**308) <= value <= 10**308 else repr(value)
    if len(shown) > 80:
        shown = f"{shown[:80]}…"
    raise ModelFileError(f"The stored {where[:200]!r} must be {rule}, got {shown}; save the detector again.")
