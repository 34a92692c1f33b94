"""Scoring in bulk, from what is listed to parts that are written: what has a score is passed over, what has none is handed to an engine."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from insphere.data.image_notices import counted_remarks
from insphere.data.rows import Notice
from insphere.errors import ParameterError
from insphere.scoring.engines import ENGINES
from insphere.scoring.parts import open_parts, unseen
from insphere.scoring.places import Listing, is_remote, list_images
from insphere.scoring.scorer import REMARKS, Chunk, Scorer, Task
from insphere.validation import check_choice, check_integer

_FORMAT = 1
_ROWS_PER_CHUNK = 256
_BYTES_PER_CHUNK = 2**26


@dataclasses.dataclass(frozen=True)
class BulkOptions:
    """How images are scored in bulk.

    Parameters
    ----------
    engine : {"local", "daft", "ray"}
        Who computes. "local": processes of this machine. "daft", "ray": those libraries, here or on their clusters.
    n_workers : int, optional
        Processes that hold the models, each with one thread; default: one a core of this machine. 0, for the engine "local": none but
        this one, which starts soonest.
    rows_per_part : int
        Rows after which a part is written, at least 1; a part is also written each minute.
    maps : path-like, optional
        Folder for the heat-map of each image, a 16-bit PNG under the image's own path; for models that have them.
    require_signature : path-like, optional
        Public key with whose private half the models must be signed; see `insphere.load`.

    Raises
    ------
    ParameterError
        If a value breaks its rule.

    Examples
    --------
    >>> BulkOptions().engine
    'local'
    """

    engine: str = "local"
    n_workers: int | None = None
    rows_per_part: int = 10_000
    maps: str | os.PathLike[str] | None = None
    require_signature: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, tuple(ENGINES))
        check_integer("rows_per_part", self.rows_per_part, at_least=1)
        if self.n_workers is not None:
            check_integer("n_workers", self.n_workers, at_least=ENGINES[self.engine].least_workers)
        if self.maps is not None and is_remote(self.maps):
            raise ParameterError(f"`maps` must be a folder of this machine, got {os.fspath(self.maps)!r}.")


@dataclasses.dataclass(frozen=True)
class BulkProgress:
    """How far a run has come.

    Attributes
    ----------
    n_done, n_to_do : int
        Images with a score or an error so far, and images that had none when the run began.
    n_errors : int
        Of those done, the ones without a score.
    seconds : float
        Since the engine was started.
    """

    n_done: int
    n_to_do: int
    n_errors: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Images a second."""
        return self.n_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take at that rate; None before the first."""
        return (self.n_to_do - self.n_done) / self.rows_per_second if self.n_done and self.seconds > 0 else None


@dataclasses.dataclass(frozen=True)
class BulkSummary:
    """What a run did.

    Attributes
    ----------
    n_rows : int
        Images listed.
    n_before : int
        Those of them that earlier runs had written.
    n_scored, n_errors : int
        Images written by this run, with and without a score.
    n_anomalies : dict of str to int
        How many of them each model flags.
    n_changed : int
        Images that have changed since an earlier run scored them; they keep their scores.
    seconds : float
        Of this run, listing and starting included.
    notices : tuple of Notice
        What was left out.
    """

    n_rows: int
    n_before: int
    n_scored: int
    n_errors: int
    n_anomalies: dict[str, int]
    n_changed: int
    seconds: float
    notices: tuple[Notice, ...] = ()


def score_in_bulk(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: BulkOptions | None = None,
    *,
    on_progress: Callable[[BulkProgress], None] | None = None,
) -> BulkSummary:
    """Score all images of a folder or pattern, here or in an object store, into a folder of Parquet parts.

    Each part is written complete or not at all. Stopped or killed at any moment, the next call with the same arguments goes on: it
    scores what has no score, new images too, and nothing twice. The scores of an image are the same bits on every engine, with any number
    of workers; the order of rows is not promised.

    Columns of the parts: ``path``, relative to the folder that the source begins with; ``n_bytes`` and ``modified_ns``, the version that
    was scored; ``anomaly_score`` (higher = more anomalous), ``p_value``, ``is_anomaly``; ``error``, why an image has no score. With
    several models the middle three end in ``_NAME``, the name of the model's file.

    Parameters
    ----------
    models : path-like, or sequence of path-like
        Model files; each image is fetched once for all of them, and decoded once for those that take it at the same size.
    source : path-like
        A folder, a pattern ("photos/**/*.jpg"), or their address ("s3://bucket/photos/**/*.jpg").
    output : path-like
        Folder, or its address, that is new or was written by such a call.
    options : BulkOptions, optional
    on_progress : callable, optional
        Called with a `BulkProgress` after each piece of the listing.

    Raises
    ------
    DataError
        If there is not an image, or a model takes none, or the folder holds other scores.
    ParameterError
        If a value breaks its rule.
    ModelFileError, CollapseError, MissingDependencyError, OutputError
    """
    options = options or BulkOptions()
    started = time.monotonic()
    paths = (models,) if isinstance(models, str | os.PathLike) else tuple(models)
    if not paths:
        raise ParameterError("`models` must name at least one model file, got none.")
    listing = list_images(source)
    maps = None if options.maps is None else os.path.abspath(options.maps)
    key = None if options.require_signature is None else os.path.abspath(options.require_signature)
    task = Task(tuple(os.path.abspath(path) for path in paths), listing.base, maps, key)
    most_rows = min(_ROWS_PER_CHUNK, Scorer(task).most_rows)  # which checks the models before anything is made
    engine = ENGINES[options.engine](options.n_workers)
    tally = _Tally(task)
    with open_parts(output, task.schema, _identity(task), rows_per_part=options.rows_per_part) as parts:
        positions, n_changed = unseen(parts.held(), listing.names, listing.n_bytes, listing.modified_ns)
        chunks = list(_chunks(listing, positions, most_rows, engine.n_workers))
        began = time.monotonic()
        for rows in engine.scored(chunks, task) if chunks else ():
            tally.add(rows)
            parts.append(rows.drop_columns([REMARKS]))
            if on_progress is not None:
                on_progress(BulkProgress(tally.n_done, len(positions), tally.n_errors, time.monotonic() - began))
    if tally.n_done != len(positions):
        raise RuntimeError(f"the engine gave {tally.n_done} rows for {len(positions)} images")
    counts = len(listing.names), len(listing.names) - len(positions), tally.n_done - tally.n_errors, tally.n_errors
    notices = (*listing.notices, *tally.notices())
    return BulkSummary(*counts, tally.n_anomalies, n_changed, time.monotonic() - started, notices)


def _identity(task: Task) -> dict[str, Any]:
    models = {Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in task.models}
    return {"insphere_scores": _FORMAT, "models": models, "images": task.base}


def _chunks(listing: Listing, positions: NDArray[np.int64], most_rows: int, n_workers: int) -> Iterator[Chunk]:
    """Yield the images at some positions a piece at a time, so that neither their number nor their bytes fill a worker's memory."""
    # Few images are shared out too.
    most_rows = max(1, min(most_rows, -(-len(positions) // (4 * max(1, n_workers)))))
    start, n_bytes = 0, 0
    for stop, position in enumerate(positions.tolist()):
        size = int(listing.n_bytes[position])
        if stop > start and (stop - start >= most_rows or n_bytes + size > _BYTES_PER_CHUNK):
            yield _chunk(listing, positions[start:stop])
            start, n_bytes = stop, 0
        n_bytes += size
    if start < len(positions):
        yield _chunk(listing, positions[start:])


def _chunk(listing: Listing, positions: NDArray[np.int64]) -> Chunk:
    names = [listing.names[position] for position in positions.tolist()]
    return Chunk(names, listing.n_bytes[positions].tolist(), listing.modified_ns[positions].tolist())


class _Tally:
    """Counts what is in the rows of a run."""

    def __init__(self, task: Task) -> None:
        self._flags = {Path(model).name: f"is_anomaly{end}" for model, end in task.columns}
        self.n_anomalies = dict.fromkeys(self._flags, 0)
        self.n_done = self.n_errors = 0
        self._remarks: dict[str, tuple[int, int, list[str]]] = {}

    def add(self, rows: pa.Table) -> None:
        self.n_done += rows.num_rows
        self.n_errors += rows.num_rows - rows["error"].null_count
        for name, column in self._flags.items():
            self.n_anomalies[name] += pc.sum(rows[column]).as_py() or 0
        remarked = rows.filter(pc.is_valid(rows[REMARKS]))
        for path, text in zip(remarked["path"].to_pylist(), remarked[REMARKS].to_pylist(), strict=True):
            for remark in text.split(";"):
                kind, _, amount = remark.partition(":")
                n_rows, total, examples = self._remarks.get(kind, (0, 0, []))
                self._remarks[kind] = (n_rows + 1, total + int(amount), [*examples, path] if len(examples) < 5 else examples)

    def notices(self) -> list[Notice]:
        return counted_remarks(self._remarks)
