"""From the body of a request to rows: encoded images (multipart or bare) and JSON rows."""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from insphere.data.image_notices import told_of
from insphere.data.images import decode_telling, probe
from insphere.data.one_hot import cell_text, row_with_indicators
from insphere.data.rows import Notice
from insphere.data.stores import reason
from insphere.errors import DataError, did_you_mean
from insphere.serving.answers import Refusal
from insphere.serving.models import ServedModel

_MOST_HEADER_BYTES = 8192  # of one part
_MOST_HEADER_LINES = 8  # of one part
_MOST_FIELDS = 100  # of a form, besides its images
_MOST_BOUNDARY_BYTES = 70  # RFC 2046, section 5.1.1
MOST_JSON_VALUES = 250_000
"""Values that a JSON body may hold: reading them holds the interpreter, and nothing else is answered meanwhile."""

_PIECE_BYTES = 2**19  # of a body looked at before others get the interpreter
_MOST_SHOWN = 50  # characters of a name that a client gave


@dataclasses.dataclass(frozen=True)
class Upload:
    """One encoded image: the name its sender gave it, if any, and its bytes."""

    name: str | None
    data: bytes


class Form(NamedTuple):
    """The images of a form, and what is to be told of its other fields."""

    images: list[Upload]
    notices: list[Notice]


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Images brought to a model's size.

    Attributes
    ----------
    X : ndarray, shape (m, height, width, channels)
        The readable ones, in order.
    errors : mapping of int to str
        Position of each unreadable one, and why.
    notices : sequence of Notice
        What of the readable ones is not seen: further pages, colours, bits.
    """

    X: NDArray[Any]
    errors: Mapping[int, str]
    notices: Sequence[Notice] = ()


def read_multipart(body: bytes, content_type: str, max_parts: int) -> Form:
    """Return the files in the fields called images of a multipart/form-data body; other fields are left out and told.

    Raises
    ------
    Refusal
        400 if the body is not what its content type says, 422 if it has no such file, more than `max_parts`, or too many fields.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "The content type multipart/form-data must name its boundary; let the client library set it.")
    if len(boundary) > _MOST_BOUNDARY_BYTES:
        raise Refusal(400, f"The boundary of the form has more than {_MOST_BOUNDARY_BYTES} bytes; let the client library set it.")
    # Counted before it is read: what a part costs is paid for each part, however small.
    if _count(body, b"--" + boundary) > max_parts + _MOST_FIELDS + 1:
        raise Refusal(422, f"The form has more than {max_parts} images and {_MOST_FIELDS} other fields; send them in several requests.")
    parts = _Parts(max_parts)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        for start in range(0, len(body), _PIECE_BYTES):
            parser.write(body[start : start + _PIECE_BYTES])
        parser.finalize()
    except MultipartParseError as error:
        raise Refusal(400, "The body is not multipart/form-data as its content type says.") from error
    if not parts.ended:
        raise Refusal(400, "The multipart body is cut off: its closing boundary is missing.")
    if not parts.uploads:
        raise Refusal(422, "The form has no file in a field called images; send each image so: curl -F images=@photo.png")
    text = "Fields of the form that are not files called images are not read"
    return Form(parts.uploads, [Notice.counting("left out", text, parts.others)] if parts.others else [])


def _count(body: bytes, word: bytes) -> int:
    """Return how often a word is in a body; in pieces, so that no other thread waits for the whole.

    >>> _count(b"aab" * 400_000, b"ba"), (b"aab" * 400_000).count(b"ba")
    (399999, 399999)
    """
    starts = range(0, len(body), _PIECE_BYTES)
    return sum(body.count(word, start, min(start + _PIECE_BYTES + len(word) - 1, len(body))) for start in starts)


class _Parts:
    """Gathers what the parser finds."""

    def __init__(self, max_parts: int) -> None:
        self.uploads: list[Upload] = []
        self.others: list[str] = []
        self.ended = False
        self._max_parts = max_parts
        self._begin()

    def callbacks(self) -> Any:
        """Return the functions that the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._data: list[bytes] = []
        self._name: str | None = None
        self._is_image, self._field_name = False, ""
        self._n_header_bytes = self._n_header_lines = 0
        self._field, self._value = b"", b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, n_bytes: int) -> None:
        self._n_header_bytes += n_bytes
        if self._n_header_bytes > _MOST_HEADER_BYTES:
            raise Refusal(400, f"A part of the form has a head of more than {_MOST_HEADER_BYTES:,} bytes.")

    def _end_header(self) -> None:
        self._n_header_lines += 1
        if self._n_header_lines > _MOST_HEADER_LINES:
            raise Refusal(400, f"A part of the form has a head of more than {_MOST_HEADER_LINES} lines.")
        if self._field.lower() == b"content-disposition":
            options = parse_options_header(self._value)[1]
            self._is_image = options.get(b"name") == b"images" and b"filename" in options
            self._field_name = options.get(b"name", b"").decode("utf-8", "replace")[:_MOST_SHOWN]
            self._name = options.get(b"filename", b"").decode("utf-8", "replace")[:255]
        self._field, self._value = b"", b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        if not self._is_image:
            self.others.append(self._field_name or "without a name")
            return
        if len(self.uploads) == self._max_parts:
            raise Refusal(422, f"The form has more than the limit of {self._max_parts} images; send them in several requests.")
        self.uploads.append(Upload(self._name, b"".join(self._data)))

    def _finish(self) -> None:
        self.ended = True


def decode_uploads(uploads: Sequence[Upload], model: ServedModel, max_pixels: int, max_request_pixels: int) -> Decoded:
    """Decode images exactly as those of a folder are; an unreadable one is an error of its own and stops no other.

    Raises
    ------
    Refusal
        422 if the model takes no image files, or the images have more than `max_request_pixels` together.
    """
    spec = model.image_spec
    if spec is None or model.refuses_files is not None:
        raise Refusal(422, model.refuses_files or "")
    _check_pixels(uploads, max_pixels, max_request_pixels)
    rows, errors = [], {}
    told: dict[str, dict[int, int]] = {}
    for position, upload in enumerate(uploads):
        try:
            header = probe(upload.data)
            if header.height * header.width > max_pixels:
                pixels = f"{header.height:,} x {header.width:,} pixels"
                raise DataError(f"has {pixels}, more than this service's limit of {max_pixels:,}; scale it down.")
            row, remarks = decode_telling(upload.data, spec)
            rows.append(row)
            for kind, amount in remarks.items():
                told.setdefault(kind, {})[position] = amount
        # As in a folder: whatever the bytes do to a reader, it is this image's error.
        except Exception as error:
            errors[position] = reason(error)
    names = [(upload.name or f"image {position}")[:_MOST_SHOWN] for position, upload in enumerate(uploads)]
    return Decoded(np.stack(rows) if rows else np.empty((0, *spec.shape), spec.dtype), errors, told_of(told, names))


def _check_pixels(uploads: Sequence[Upload], max_pixels: int, max_request_pixels: int) -> None:
    """Refuse a request whose images, by their headers, would take too long; those that will not be decoded cost nothing."""
    total = 0
    for upload in uploads:
        try:
            header = probe(upload.data)
        # An error of this image alone, told where it is decoded.
        except Exception:
            continue
        pixels = header.height * header.width
        total += pixels if pixels <= max_pixels else 0
    if total > max_request_pixels:
        text = f"The images have {total:,} pixels together, more than this service's limit of {max_request_pixels:,} for one request"
        raise Refusal(422, f"{text}; send them in several.")


def read_json(body: bytes) -> Any:
    """Return the JSON value of a body, without the words NaN and Infinity, which are not JSON.

    Raises
    ------
    Refusal
        400 if it is no JSON, or is nested too deeply, or holds a number too long to be read; 413 if it has too many values; 422 if an
        object has a name twice.
    """
    # Every value but the first follows one of these; a text may hold them too, which only makes the bound tighter.
    if sum(_count(body, mark) for mark in (b",", b"[", b"{")) > MOST_JSON_VALUES:
        text = f"The body has more than {MOST_JSON_VALUES:,} values as JSON; send rows in several requests, and images as files."
        raise Refusal(413, text)
    try:
        return json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, f"The body is no JSON: {why[:200]}.") from error


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise Refusal(422, f"The body has an object with the name {twice[:50]!r} twice; which of its values counts, nobody could tell.")
    return found


def read_rows(body: bytes, model: ServedModel) -> NDArray[np.float64]:
    """Return the rows of ``{"rows": [[...], ...]}``, each a list of numbers or an object with a number for each feature.

    ``{"columns": ["volt", ...], "rows": [[...], ...]}`` names the columns of all rows once (and "data" may stand for "rows"): they are put
    in the model's order. A feature that may be missing may be null.

    Raises
    ------
    Refusal
        400 or 422, saying what is wrong and where.
    """
    if model.is_image:
        raise Refusal(415, "This model takes images; upload them as multipart/form-data, or use /v2/models/NAME/infer for tensors.")
    content = read_json(body)
    rows = content.get("rows", content.get("data")) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise Refusal(422, 'The body must be an object with a list of rows: {"rows": [[0.5, 1.2], [0.4, 1.3]]}.')
    if unknown := [str(name)[:50] for name in content if name not in ("rows", "data", "columns")]:
        raise Refusal(422, f"The body has the unknown field {unknown[0]!r}; its fields are rows (or data) and columns.")
    if "rows" in content and "data" in content:
        raise Refusal(422, "The body has both rows and data, which are two names of one field; leave one out.")
    if model.one_hot:
        rows = _without_words(rows, content.pop("columns", None), model)
    order = _order(content["columns"], model) if "columns" in content else None
    if len(rows) > model.max_rows:
        raise Refusal(422, f"The body has {len(rows)} rows, more than the limit of {model.max_rows}; send them in several requests.")
    return np.array([_row(row, number, model, order) for number, row in enumerate(rows)], dtype=np.float64)


def _without_words(rows: list[Any], columns: Any, model: ServedModel) -> list[Any]:
    """Return rows that are given by name with indicators in place of words; lists without names are left as they are."""
    if columns is not None:
        _check_columns(columns)
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(columns):
                got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
                raise Refusal(422, f"Row {number} must be a list of {len(columns)} values, one for each of the columns, got {got}.")
        rows = [dict(zip(columns, row, strict=True)) for row in rows]
    for number, row in enumerate(rows):
        for entry in model.one_hot if isinstance(row, dict) else ():
            value = row.get(entry.column, "-")
            if value is not None and not isinstance(value, str | int | float):
                raise Refusal(422, f"The value at row {number}, column {entry.column} must be a text, got {type(value).__name__}.")
            if cell_text(value) is None and not model.may_be_missing:
                raise Refusal(422, f"The value at row {number}, column {entry.column} is missing; give a text.")
    changed = [row_with_indicators(row, model.one_hot) if isinstance(row, dict) else row for row in rows]
    indicators = {name for entry in model.one_hot for name in entry.names}
    for row in changed:
        if isinstance(row, dict):
            row |= {name: None for name in indicators & row.keys() if row[name] != row[name]}
    return changed


def _order(columns: Any, model: ServedModel) -> list[int]:
    """Return where each of the model's features is among the columns of the rows."""
    names = model.feature_names
    if names is None:
        raise Refusal(422, "This model was fitted on features without names, so its rows cannot be matched by columns; leave it out.")
    _check_columns(columns)
    _check_features(columns, names, "The field columns")
    return [columns.index(name) for name in names]


def _check_columns(columns: Any) -> None:
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise Refusal(422, "The field columns must be a list of names.")


def _check_features(given: Collection[str], names: Sequence[str], subject: str) -> None:
    """Refuse names that are not exactly the features, saying which are missing, unknown or repeated."""
    missing = [name for name in names if name not in set(given)]
    unknown = [str(name)[:50] for name in given if name not in set(names)]
    told = [f"missing: {', '.join(missing[:3])}"] if missing else []
    if unknown:
        told.append(f"unknown: {', '.join(unknown[:3])}.{did_you_mean(unknown[0], missing or names)}".rstrip("."))
    if not told and len(given) > len(names):
        told.append("one is there twice")
    if told:
        raise Refusal(422, f"{subject} must have the features {', '.join(names[:20])}; {'; '.join(told)}.")


def _row(row: Any, number: int, model: ServedModel, order: list[int] | None) -> list[float]:
    names, n_features, given = model.feature_names, model.input_shape[0], row
    if isinstance(row, dict) and names is not None:
        _check_features(row.keys(), names, f"Row {number}")
        row = [row[name] for name in names]
    if not isinstance(row, list) or len(row) != n_features:
        got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        raise Refusal(422, f"Row {number} must be a list of {n_features} numbers, got {got}.")
    if order is not None and not isinstance(given, dict):
        row = [row[position] for position in order]
    return [
        math.nan if value is None and feature in model.may_be_missing else as_number(value, f"row {number}, feature {feature}")
        for feature, value in enumerate(row)
    ]


def as_number(value: Any, where: str) -> float:
    """Return a JSON number as a finite float.

    Raises
    ------
    Refusal
        422 if it is something else, or beyond the range of float64.
    """
    if type(value) not in (int, float):
        raise Refusal(422, f"The value at {where} must be a number, got {type(value).__name__}.")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0:
        raise Refusal(422, f"The value at {where} must be a finite number, within ±1.8e308.")
    return number
