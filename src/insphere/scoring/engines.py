"""Who computes: processes of this machine, Daft, or Ray. They schedule; what a chunk of images becomes is said once, in `Scorer`."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar

import pyarrow as pa

from insphere.errors import MissingDependencyError
from insphere.scoring.places import is_remote
from insphere.scoring.scorer import REMARKS, Chunk, Task, error_row, scorer_for
from insphere.validation import check_integer
from insphere.worker_processes import THREAD_VARIABLES, begin_work

_AHEAD = 2  # chunks a worker that are handed out, so that none waits for the driver
_KILLED = "the process that read this image was killed twice, the second time with nothing beside it (is the memory full?)."


class AbstractEngine(ABC):
    """Scores chunks, several at a time; writes nothing but heat-maps.

    Parameters
    ----------
    n_workers : int, optional
        Processes that hold the models, each computing on one thread; default: one a core. 0: no process but this one, which the engine
        "local" alone can do.

    Raises
    ------
    MissingDependencyError
        If the engine's package is not installed.
    """

    least_workers: ClassVar[int] = 1

    def __init__(self, n_workers: int | None = None) -> None:
        given = n_cores() if n_workers is None else n_workers
        self.n_workers = check_integer("n_workers", given, at_least=self.least_workers)

    @abstractmethod
    def scored(self, chunks: Sequence[Chunk], task: Task) -> Iterator[pa.Table]:
        """Yield the rows of all chunks, each row once: see `Scorer.score`. Closing the iterator ends what is still being computed."""


class LocalEngine(AbstractEngine):
    """Processes of this machine; the rows come in the order of the chunks.

    When a process dies, the pool cannot tell which of its chunks was the cause: each of them is done again by itself, in halves if that
    dies too, until a single image is left, which becomes an error row. Without processes (``n_workers=0``) such an image ends the run.
    """

    least_workers = 0

    def scored(self, chunks: Sequence[Chunk], task: Task) -> Iterator[pa.Table]:
        """Yield the rows of all chunks."""
        if self.n_workers == 0:
            yield from (_score(task, chunk) for chunk in chunks)
            return
        waiting = deque(chunks)
        while waiting:
            held: deque[tuple[Chunk, Future[pa.Table]]] = deque()
            pool = _pool(self.n_workers)
            try:
                while waiting or held:
                    while waiting and len(held) < _AHEAD * self.n_workers:
                        held.append((waiting[0], pool.submit(_score, task, waiting[0])))
                        waiting.popleft()
                    rows = held[0][1].result()
                    held.popleft()
                    yield rows
            except BrokenProcessPool:
                pass
            finally:
                pool.shutdown(wait=True, kill_workers=True)
            yield from self._alone([chunk for chunk, _ in held], task)

    def _alone(self, suspects: Iterable[Chunk], task: Task) -> Iterator[pa.Table]:
        """Score chunks one at a time, so that one that kills its process is known."""
        waiting = deque(suspects)
        while waiting:
            pool = _pool(1)
            try:
                while waiting:
                    rows = pool.submit(_score, task, waiting[0]).result()
                    waiting.popleft()
                    yield rows
            except BrokenProcessPool:
                cause = waiting.popleft()
                if len(cause.names) == 1:
                    yield error_row(task, cause, _KILLED)
                else:
                    waiting.extendleft(reversed(cause.halves()))
            finally:
                pool.shutdown(wait=True, kill_workers=True)


def n_cores() -> int:
    """Return how many cores this process may compute on."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def _pool(n_workers: int) -> Any:
    # Inside the function, because who scores by graphs alone need not have it.
    try:
        from joblib.externals.loky.process_executor import ProcessPoolExecutor
    except ImportError as error:
        raise MissingDependencyError(
            "Processes need joblib, which is not installed: pip install joblib, or score in this process (--workers 0)."
        ) from error
    return ProcessPoolExecutor(n_workers, initializer=begin_work, initargs=(os.getpid(),), env=dict.fromkeys(THREAD_VARIABLES, "1"))


def _score(task: Task, chunk: Chunk) -> pa.Table:
    return scorer_for(task).score(chunk)


class RayEngine(AbstractEngine):
    """Actors of a Ray cluster, by Ray Data; models and images must be to be had on every machine of it.

    The cluster is that of the environment variable RAY_ADDRESS; without it, Ray is started on this machine.
    """

    def __init__(self, n_workers: int | None = None) -> None:
        super().__init__(n_workers)
        try:
            import ray.data
        except ImportError as error:
            raise MissingDependencyError("The engine 'ray' needs Ray: pip install 'insphere[scale]'.") from error
        self._ray: Any = ray

    def scored(self, chunks: Sequence[Chunk], task: Task) -> Iterator[pa.Table]:
        """Yield the rows of all chunks."""
        ray = self._ray
        started = not ray.is_initialized()
        if started:
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # A dead actor is replaced and its chunk done again, a few times; without end, one image could kill actors for ever.
        n_workers = min(self.n_workers, len(chunks))
        try:
            given = ray.data.from_arrow([_as_table(chunk) for chunk in chunks])
            answers = given.map_batches(
                RayWorker,
                batch_size=None,
                batch_format="pyarrow",
                fn_constructor_args=(task,),
                compute=ray.data.ActorPoolStrategy(size=n_workers),
                num_cpus=1,
                runtime_env={"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")},
            )
            yield from answers.iter_batches(batch_size=None, batch_format="pyarrow")
        finally:
            if started:
                ray.shutdown()


class RayWorker:
    """What an actor of Ray Data is made of."""

    def __init__(self, task: Task) -> None:
        self._scorer = scorer_for(task)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score one chunk."""
        return self._scorer.score(_as_chunk(rows["name"], rows["n_bytes"], rows["modified_ns"]))


class DaftEngine(AbstractEngine):
    """Daft fetches the bytes, many at a time, and shards; our own reader decodes them, since Daft's gives other pixels."""

    def __init__(self, n_workers: int | None = None) -> None:
        super().__init__(n_workers)
        try:
            import daft
        except ImportError as error:
            raise MissingDependencyError("The engine 'daft' needs Daft: pip install 'insphere[daft]'.") from error
        self._daft: Any = daft

    def scored(self, chunks: Sequence[Chunk], task: Task) -> Iterator[pa.Table]:
        """Yield the rows of all chunks."""
        daft = self._daft
        schema = task.schema.append(pa.field(REMARKS, pa.string()))
        worker = _daft_worker(daft, schema, min(self.n_workers, len(chunks)), max(len(chunk.names) for chunk in chunks))(task)
        listed = pa.concat_tables([_as_table(chunk) for chunk in chunks])
        addresses = _addresses(task.base, [name for chunk in chunks for name in chunk.names])
        frame = daft.from_arrow(listed.append_column("address", pa.array(addresses, pa.string())))
        frame = frame.with_column("data", daft.col("address").download(on_error="null"))
        columns = [daft.col(name) for name in ("name", "n_bytes", "modified_ns", "data")]
        for batch in frame.select(worker.score(*columns).alias("row")).to_arrow_iter():
            rows = pa.table(batch)["row"] if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])["row"]
            for piece in rows.chunks:
                yield pa.Table.from_arrays(piece.flatten(), names=schema.names).cast(schema)


def _daft_worker(daft: Any, schema: pa.Schema, n_workers: int, n_rows: int) -> Any:
    row = daft.DataType.from_arrow_type(pa.struct(list(schema)))

    class Worker:
        def __init__(self, task: Task) -> None:
            self._scorer = scorer_for(task)

        @daft.method.batch(return_dtype=row, batch_size=n_rows)  # type: ignore[untyped-decorator]
        def score(self, names: Any, n_bytes: Any, modified_ns: Any, data: Any) -> pa.Array:
            return self._scorer.score(_as_chunk(names, n_bytes, modified_ns), data.to_pylist()).to_struct_array().combine_chunks()

    return daft.cls(max_concurrency=n_workers, use_process=True)(Worker)


def _addresses(base: str, names: Sequence[str]) -> list[str | None]:
    """Return what Daft fetches each image by; None where a name is not valid Unicode, and our own reader fetches it."""
    start = base if is_remote(base) else f"file://{base}"
    return [f"{start}/{name}" if name.isprintable() else None for name in names]


def _as_table(chunk: Chunk) -> pa.Table:
    # Names as bytes, because those of files need not be valid Unicode.
    names = pa.array([os.fsencode(name) for name in chunk.names], pa.binary())
    return pa.table({"name": names, "n_bytes": chunk.n_bytes, "modified_ns": chunk.modified_ns})


def _as_chunk(names: Any, n_bytes: Any, modified_ns: Any) -> Chunk:
    return Chunk([os.fsdecode(name) for name in names.to_pylist()], n_bytes.to_pylist(), modified_ns.to_pylist())


ENGINES: dict[str, type[AbstractEngine]] = {"local": LocalEngine, "daft": DaftEngine, "ray": RayEngine}
"""Name of each engine and its class."""
