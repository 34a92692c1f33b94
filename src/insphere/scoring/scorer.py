"""What a worker holds: the models, loaded once, and the path from the bytes of some images to rows of scores."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from insphere.data import ArraySource, ImageSource, ImageSpec, RowFacts
from insphere.data.rows import Rows
from insphere.data.stores import BytesStore, reason
from insphere.decision.scored import ScoredRows
from insphere.errors import CollapseError, DataError, ParameterError
from insphere.output_file import make_folder
from insphere.runtime import GraphModel, load_any
from insphere.scoring.places import read_all, shown, store_of

if TYPE_CHECKING:
    from insphere.detectors.base import AbstractDetector

    Model = AbstractDetector | GraphModel


class Chunk(NamedTuple):
    """Some listed images: what an engine hands a worker at a time.

    Attributes
    ----------
    names : list of str
        Relative posix paths.
    n_bytes, modified_ns : list of int
        Size and time of the last change of each.
    """

    names: list[str]
    n_bytes: list[int]
    modified_ns: list[int]

    def halves(self) -> "tuple[Chunk, Chunk]":
        """Return the first and the second half."""
        middle = len(self.names) // 2
        first = Chunk(self.names[:middle], self.n_bytes[:middle], self.modified_ns[:middle])
        return first, Chunk(self.names[middle:], self.n_bytes[middle:], self.modified_ns[middle:])


@dataclass(frozen=True)
class Task:
    """What a worker is to do, as text that any process can be sent.

    Parameters
    ----------
    models : tuple of str
        Paths of model files, or of exported graphs.
    base : str
        Folder, or its address, that names lead on from.
    maps : str, optional
        Folder for heat-maps.
    require_signature : str, optional
        Public key with whose private half the models must be signed.
    """

    models: tuple[str, ...]
    base: str
    maps: str | None = None
    require_signature: str | None = None

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Model and end of its columns' names: nothing where there is one model, and else its file's name without the suffix."""
        if len(self.models) == 1:
            return ((self.models[0], ""),)
        return tuple((model, f"_{Path(model).stem}") for model in self.models)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows of scores."""
        fields = [("path", pa.string()), ("n_bytes", pa.int64()), ("modified_ns", pa.int64())]
        for _, end in self.columns:
            fields += [(f"anomaly_score{end}", pa.float64()), (f"p_value{end}", pa.float64()), (f"is_anomaly{end}", pa.bool_())]
        return pa.schema([*fields, ("error", pa.string())])


REMARKS = "_remarks"
"""Column of what is to be told of an image ("pages:3;colour:1"), which is counted and not written."""


class Scorer:
    """Models in memory, and what they say of images.

    Parameters
    ----------
    task : Task

    Raises
    ------
    ModelFileError
        If a file is neither a model nor an exported graph.
    ParameterError
        If two models have one name, a model has no heat-maps where they are asked for, or one does not take image files.
    CollapseError
        If a model cannot score.
    """

    def __init__(self, task: Task) -> None:
        ends = [end for _, end in task.columns]
        if len(set(ends)) < len(ends):
            raise ParameterError("Two of the models have the same file name, by which their columns are told apart; rename one.")
        self.task = task
        self.detectors = [load_any(path, require_signature=task.require_signature) for path in task.models]
        for path, detector in zip(task.models, self.detectors, strict=True):
            _check(path, detector, maps=task.maps is not None)
        # One thread, because the rounding of a sum depends on their number: scores are the same bits on every engine.
        self._one_thread: Callable[[], AbstractContextManager[Any]] = nullcontext  # a graph's session has one by itself
        if not all(isinstance(detector, GraphModel) for detector in self.detectors):
            from threadpoolctl import ThreadpoolController

            self._one_thread = functools.partial(ThreadpoolController().limit, limits=1)

    @property
    def most_rows(self) -> int:
        """How many images may be held decoded at a time, in 128 MiB."""
        largest = max(int(np.prod(_spec(detector).shape)) * np.dtype(_spec(detector).dtype).itemsize for detector in self.detectors)
        return max(1, 2**27 // largest)

    def score(self, chunk: Chunk, blobs: Sequence[bytes | None] | None = None) -> pa.Table:
        """Return one row an image, in the order of the chunk, with the columns of `Task.schema` and `REMARKS`.

        Parameters
        ----------
        chunk : Chunk
        blobs : sequence of bytes, optional
            The images' bytes where the engine has fetched them; None for one that it could not fetch, which is tried again here.
        """
        blobs, failed = self._fetched(chunk, blobs)
        errors = {row: reason(error) for row, error in failed.items()}
        decoded: dict[ImageSpec, Rows] = {}
        remarks: list[str | None] = [None] * len(chunk.names)
        for spec in {_spec(detector) for detector in self.detectors}:
            source = ImageSource("a piece of the listing", BytesStore(blobs), RowFacts(), spec)
            decoded[spec] = source.load()
            for kind, rows in source.remarks.items():
                for row, amount in rows.items():
                    remarks[row] = ";".join(filter(None, (remarks[row], f"{kind}:{amount}")))
        columns: dict[str, Any] = {"path": shown(chunk.names), "n_bytes": chunk.n_bytes, "modified_ns": chunk.modified_ns}
        for detector, (_, end) in zip(self.detectors, self.task.columns, strict=True):
            answers, unreadable = self._answers(detector, decoded[_spec(detector)], chunk)
            columns |= {f"{name}{end}": values for name, values in answers.items()}
            errors = {**unreadable, **errors}
        columns |= {"error": [errors.get(row) for row in range(len(chunk.names))], REMARKS: remarks}
        return pa.table(columns, schema=self.task.schema.append(pa.field(REMARKS, pa.string())))

    def _fetched(self, chunk: Chunk, blobs: Sequence[bytes | None] | None) -> tuple[list[bytes | None], Mapping[int, Exception]]:
        if blobs is None:
            return read_all(store_of(self.task.base, chunk.names, chunk.n_bytes))
        found = list(blobs)
        again = [row for row, blob in enumerate(found) if blob is None]
        if not again:
            return found, {}
        pick = [chunk.names[row] for row in again], [chunk.n_bytes[row] for row in again]
        retried, failed = read_all(store_of(self.task.base, *pick))
        for row, blob in zip(again, retried, strict=True):
            found[row] = blob
        return found, {again[row]: error for row, error in failed.items()}

    def _answers(self, detector: "Model", rows: Rows, chunk: Chunk) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """Return the columns of one model, None where an image has no score, and why it has none."""
        n_rows = len(chunk.names)
        answers: dict[str, list[Any]] = {name: [None] * n_rows for name in ("anomaly_score", "p_value", "is_anomaly")}
        errors = dict(rows.errors)
        if len(rows.X):
            source = ArraySource(rows.X, channels="last")
            with self._one_thread():
                batches: list[ScoredRows] = list(detector.score_batches(source, batch_size=len(rows.X), maps=self.task.maps is not None))
            for batch in batches:
                errors |= {int(rows.index[row]): text for row, text in batch.errors.items()}
                places = rows.index[batch.index].tolist()
                for name in answers:
                    for row, value in zip(places, getattr(batch, name).tolist(), strict=True):
                        answers[name][row] = value
                for row, heatmap in zip(places, batch.maps if batch.maps is not None else (), strict=False):
                    self._draw(chunk.names[row], heatmap)
        return answers, errors

    def _draw(self, name: str, heatmap: Any) -> None:
        from insphere.explain.map_files import to_16_bits, write_png  # with PyTorch, which graphs do without

        path = Path(str(self.task.maps), f"{name}-map.png")
        make_folder(path.parent)
        write_png(path, to_16_bits(heatmap))


@functools.lru_cache(maxsize=1)
def scorer_for(task: Task) -> Scorer:
    """Return the scorer of a task, which a process keeps for the next chunk."""
    return Scorer(task)


def error_row(task: Task, chunk: Chunk, text: str) -> pa.Table:
    """Return the rows of images of which nothing is known but why they have no score."""
    columns: dict[str, Any] = {name: [None] * len(chunk.names) for name in (*task.schema.names, REMARKS)}
    columns |= {"path": shown(chunk.names), "n_bytes": chunk.n_bytes, "modified_ns": chunk.modified_ns, "error": [text] * len(chunk.names)}
    return pa.table(columns, schema=task.schema.append(pa.field(REMARKS, pa.string())))


def _spec(detector: "Model") -> ImageSpec:
    spec = detector.image_spec_
    if spec is None:
        raise DataError("This detector takes rows of features, not images.")
    return spec


def _check(path: str, detector: "Model", *, maps: bool) -> None:
    if detector.image_spec_ is None:
        raise DataError(f"Scoring in bulk is for images, and {path} takes rows of features; name one file to write (-o scores.parquet).")
    if detector.image_spec_.channels not in (1, 3):
        raise DataError(f"{path} takes arrays of {detector.image_spec_.channels} channels, which image files do not have.")
    # A collapsed detector is never exported.
    if not isinstance(detector, GraphModel) and detector.health_.collapsed:
        raise CollapseError(f"{path} cannot score: {next(f.text for f in detector.health_.findings if f.level == 'critical')}")
    if not isinstance(detector, GraphModel) and detector.decision_.categories is not None:
        raise DataError(
            f"{path} judges each image by its category, which a listing does not say; name one file to write (-o scores.parquet)."
        )
    if maps and not detector.has_maps:
        raise ParameterError(f"Heat-maps need a detector that has them, but {path} ({detector.name}) gives one score an image.")
