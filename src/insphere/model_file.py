"""One file holds a JSON header and named arrays; writing it is atomic, and reading it checks everything and executes nothing.

The format is safetensors. Its metadata has one entry, ``insphere``: the JSON text of ``format_version``, ``kind``, ``header``,
``arrays`` (dtype and shape of each) and ``sha256``, taken over all of these and the bytes of the arrays.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from insphere.errors import InsphereError, ModelFileError, ParameterError
from insphere.output_file import OutputError, replacing

FORMAT_VERSION = 1
_ENTRY = "insphere"
_MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself
_DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_ARRAY_NAME = re.compile(r"[A-Za-z0-9_.:/-]+")
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint is one too)",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a .npy array",
    b"PAR1": "a Parquet table",
    b"%PDF": "a PDF document",
    b"\x80": "a Python pickle, which insphere never opens",
}


@dataclasses.dataclass(frozen=True, eq=False)
class ModelFile:
    """What a model file holds.

    Parameters
    ----------
    header : dict
        JSON values, as they were written (tuples come back as lists).
    arrays : dict of str to ndarray
        Equal to the arrays written, bit by bit; C-contiguous, native byte order, writable.
    digest : str
        SHA-256 of header and arrays, in hexadecimal: the same content has the same, wherever it lies.

    Examples
    --------
    >>> ModelFile({"note": "empty"}, {}).header["note"]
    'empty'
    """

    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    digest: str = ""


def write(path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `header` and `arrays` to `path`, all or nothing: a failure or a kill leaves an older file as it was.

    A new file gets the permissions of any new file (the umask), an overwritten one keeps its own; through a symbolic link the file
    it points to is replaced.

    Parameters
    ----------
    path : str or path-like
        File to write; its folder must exist.
    kind : str
        What the file is for, such as "detector"; `read` asks for the same word.
    header : mapping
        JSON values: None, bool, int, finite float, str, and lists, tuples and str-keyed mappings of them.
    arrays : mapping of str to ndarray
        Boolean, integer or float arrays (or numpy scalars) of any shape, memory layout and byte order. Names of ASCII letters, digits
        and ``_.:/-``.

    Raises
    ------
    ParameterError
        If `kind`, `header` or `arrays` break the rules above; nothing has been written then.
    ModelFileError
        If the file cannot be written: no such folder, no permission, disk full. Nothing half-written stays behind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/m.insphere", "detector", {"seed": 0}, {"centre": np.zeros(3)})
    ...     read(f"{folder}/m.insphere", "detector").arrays["centre"]
    array([0., 0., 0.])
    """
    data = _encode(kind, header, arrays)
    try:
        with replacing(path) as file:
            file.write(data)
    except OutputError as error:
        raise ModelFileError(str(error)) from error


def read(path: str | os.PathLike[str], kind: str, check: Callable[[bytes], None] | None = None) -> ModelFile:
    """Read a file that `write` wrote for `kind`, after checking that it is whole and unaltered.

    Parameters
    ----------
    path : path-like
    kind : str
    check : callable, optional
        Called with all bytes of the file before any of them is looked at; what it raises is raised.

    Raises
    ------
    ModelFileError
        If the file is missing, is not a model file, is truncated or altered, is of another kind, or needs a newer insphere.

    Examples
    --------
    >>> read("missing.insphere", "detector")
    Traceback (most recent call last):
    insphere.errors.ModelFileError: Model file 'missing.insphere' does not exist; check the path.
    """
    shown = repr(os.fspath(path))
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(f"Model file {shown} is a device, pipe or socket; name an ordinary file.")
            if check is None:
                return _read_open(file, status.st_size, kind, shown)
            data = file.read()
            check(data)
            return _read_open(io.BytesIO(data), len(data), kind, shown)
    except FileNotFoundError as error:
        raise ModelFileError(f"Model file {shown} does not exist; check the path.") from error
    except IsADirectoryError as error:
        raise ModelFileError(f"Model file {shown} is a folder; name the file inside it.") from error
    except OSError as error:
        if isinstance(error, InsphereError):  # of `check`
            raise
        raise ModelFileError(
            f"Model file {shown} cannot be read: {error.strerror or error}; check the path and its permissions."
        ) from error
    except ValueError as error:  # a path with a null character; our own errors are ValueErrors as well and pass
        if isinstance(error, InsphereError):
            raise
        raise ModelFileError(f"Model file {shown} cannot be read: {error}; check the path.") from error


# ---- writing


def _encode(kind: str, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    if not isinstance(kind, str) or not kind:
        raise ParameterError(f"`kind` must be a word such as 'detector', got {kind!r}.")
    if not isinstance(header, Mapping):
        raise ParameterError(f"`header` must be a mapping, got {type(header).__name__}.")
    _check_json(header, "header")
    stored = {name: _stored_array(name, array) for name, array in arrays.items()}
    content = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "header": header,
        "arrays": {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in stored.items()},
    }
    text = _canonical({**content, "sha256": _digest(content, stored)})
    data = save_safetensors(stored, metadata={_ENTRY: text})
    if int.from_bytes(data[:8], "little") > _MAX_HEADER_BYTES:
        raise ParameterError(f"`header` must be below {_MAX_HEADER_BYTES:,} bytes as JSON, got {len(text):,}; store long lists as arrays.")
    return data


def _check_json(value: object, where: str) -> None:
    """Refuse what JSON would alter or cannot hold, naming the place; `json` itself turns keys into text and says no place."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ParameterError(f"`{where}` must have text keys to be stored as JSON, got {key!r}; use str(key).")
            _check_json(entry, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for position, entry in enumerate(value):
            _check_json(entry, f"{where}[{position}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(f"`{where}` must be finite to be stored as JSON, got {value!r}; store None or an array instead.")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ParameterError(
            f"`{where}` must be a JSON value, got {type(value).__name__}; convert it with int(), float(), str() or list()."
        )


def _stored_array(name: object, array: object) -> NDArray[Any]:
    """Return the array as the format holds it: little-endian and C-contiguous. The library reads raw memory and would not notice."""
    if not isinstance(name, str) or not _ARRAY_NAME.fullmatch(name) or name == "__metadata__":
        raise ParameterError(f"`arrays` must have names of ASCII letters, digits and _.:/- other than '__metadata__', got {name!r}.")
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.name not in _DTYPES:
        found = f"dtype {array.dtype}" if isinstance(array, np.ndarray | np.generic) else type(array).__name__
        raise ParameterError(f"`arrays[{name!r}]` must be an array of {', '.join(_DTYPES)}, got {found}.")
    # Not np.ascontiguousarray, which turns shape () into (1,).
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _canonical(content: Mapping[str, Any]) -> str:
    """Return the one JSON text of this content, in its order; ASCII, so that odd file names in it survive."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False, default=dict)


def _digest(content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(_canonical(content).encode("ascii"))
    # Dtype and shape are part of the content, so the lengths are fixed and the bytes need no separator.
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


# ---- reading


def _read_open(file: BinaryIO, size: int, kind: str, shown: str) -> ModelFile:
    # The head decides before the rest is read: a foreign file may be larger than the memory.
    head, tensors = _read_head(file, size, shown)
    content, expected = _checked_content(head, kind, shown)
    needed = file.tell() + _data_bytes(tensors, shown)
    if size < needed:
        raise ModelFileError(f"Model file {shown} is truncated: {size:,} of {needed:,} bytes; copy or save it again.")
    file.seek(0)
    try:
        # Copies, because the library's arrays are read-only views of the whole file's bytes.
        arrays = {name: array.copy() for name, array in load_safetensors(file.read()).items()}
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        _refuse_altered(shown, f"its arrays cannot be read ({error})", error)
    found = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
    if found != content["arrays"]:
        _refuse_altered(shown, "its arrays are not those that its header lists")
    digest = _digest(content, arrays)
    if digest != expected:
        _refuse_altered(shown, "its content does not match its checksum")
    return ModelFile(content["header"], arrays, digest)


def _read_head(file: BinaryIO, size: int, shown: str) -> tuple[str, dict[str, Any]]:
    """Return the text of our metadata entry and the table of arrays, leaving the file at the first byte of the arrays."""
    start = file.read(9)
    if not start:
        raise ModelFileError(f"Model file {shown} is empty; save the model again.")
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{" or length > _MAX_HEADER_BYTES:
        likely = next(
            (f"it looks like {what}" for magic, what in _FOREIGN.items() if start.startswith(magic)), "it is another kind of file"
        )
        if len(start) < 9:
            likely = f"it has {len(start)} bytes only"
        raise ModelFileError(f"{shown} is not an insphere model file: {likely}. Name a file that insphere saved.")
    if 8 + length > size:
        raise ModelFileError(
            f"Model file {shown} is truncated: {size:,} bytes, of which the header alone needs {8 + length:,}; copy or save it again."
        )
    try:
        table = json.loads(b"{" + file.read(length - 1))
    except (ValueError, RecursionError) as error:
        _refuse_altered(shown, "its header is no JSON", error)
    metadata = table.pop("__metadata__", None)
    text = metadata.get(_ENTRY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ModelFileError(f"{shown} is a safetensors file that insphere did not write. Name a file that insphere saved.")
    return text, table


def _checked_content(text: str, kind: str, shown: str) -> tuple[dict[str, Any], object]:
    """Return the content that the checksum covers, and the checksum; refuse a newer format and another kind."""
    try:
        content = json.loads(text)
        version, expected = content["format_version"], content.pop("sha256", None)
        _canonical(content)  # fails on NaN, and on a number too large for a float, which was read as infinite
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        _refuse_altered(shown, "its header is damaged", error)
    if type(version) is int and version > FORMAT_VERSION:
        rule = f"has format {version}, and this insphere reads formats up to {FORMAT_VERSION}"
        raise ModelFileError(f"Model file {shown} {rule}; upgrade it: pip install -U insphere.")
    types = {"format_version": int, "kind": str, "header": dict, "arrays": dict}
    if any(type(content.get(name)) is not needed for name, needed in types.items()) or version < 1:
        _refuse_altered(shown, "its header is damaged")
    if content["kind"] != kind:
        raise ModelFileError(f"Model file {shown} holds a {content['kind']!r}, and a {kind!r} is needed here; name another file.")
    return content, expected


def _data_bytes(tensors: Mapping[str, Any], shown: str) -> int:
    """Return how many bytes of arrays must follow the head."""
    try:
        return max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        _refuse_altered(shown, "its table of arrays is damaged", error)


def _refuse_altered(shown: str, why: str, cause: BaseException | None = None) -> NoReturn:
    raise ModelFileError(f"Model file {shown} was altered after it was saved: {why}. Copy or save it again.") from cause
