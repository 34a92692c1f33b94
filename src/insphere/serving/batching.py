"""One thread scores for one model: rows of requests that arrive together share a batch, and get the scores they would get alone."""

import asyncio
import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from insphere.nets.layers import SCORING_ROWS
from insphere.serving.answers import busy

COMPUTING = threading.Lock()
"""Held while a model computes: PyTorch's number of threads is one for the process, and each computation uses all cores."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of some rows.

    Attributes
    ----------
    anomaly_score, p_value : ndarray of float64, shape (n,)
        NaN where a row could not be scored.
    is_anomaly : ndarray of bool, shape (n,)
    hashes : ndarray of uint64, shape (n,), optional
        What each row is known by later, where somebody is to look at rows.
    seen : ndarray of bool, shape (n,), optional
        Whether each row was given to `fit`; there where `hashes` is.
    """

    anomaly_score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_anomaly: NDArray[np.bool_]
    hashes: NDArray[np.uint64] | None = None
    seen: NDArray[np.bool_] | None = None

    def part(self, start: int, stop: int) -> "Scores":
        """Return the scores of the rows from `start` to before `stop`."""
        values = (self.anomaly_score, self.p_value, self.is_anomaly, self.hashes, self.seen)
        return Scores(*(None if each is None else each[start:stop] for each in values))  # type: ignore[arg-type]


class Scorer(Protocol):
    """What rows are scored by."""

    def score(self, X: NDArray[Any]) -> Scores:
        """Return the scores of rows of the right shape and type; called in the scoring thread."""


class _Job:
    """Rows of one request, and where their scores go."""

    def __init__(self, scorer: Scorer, X: NDArray[Any]) -> None:
        self.scorer, self.X = scorer, X
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Scores] = self.loop.create_future()
        self.arrived = time.monotonic()

    def finish(self, result: Scores | Exception) -> None:
        """Hand the result to the request if it still waits; called in its event loop."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class Batcher:
    """A queue of rows, and the thread that scores them.

    Parameters
    ----------
    max_batch_rows, max_queue_rows : int
    max_wait_ms : float
        See `Settings`.
    on_batch : callable, optional
        Told of each batch, in the scoring thread: number of rows, and seconds that they took.
    """

    def __init__(
        self,
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        max_wait_ms: float,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._max_batch_rows, self._max_queue_rows, self._max_wait = max_batch_rows, max_queue_rows, max_wait_ms / 1000
        self._on_batch = on_batch
        self._jobs: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._n_queued = self._n_coming = 0
        self._seconds_per_row = 0.001
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def n_queued(self) -> int:
        """Rows that wait."""
        return self._n_queued

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Announce that rows will be submitted inside the block: while they are being decoded, a batch waits a little for them."""
        with self._changed:
            self._n_coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_coming -= 1
                if self._n_coming == 0:
                    self._changed.notify()

    def submit(self, scorer: Scorer, X: NDArray[Any]) -> asyncio.Future[Scores]:
        """Put rows into the queue; the future has their scores when their turn has come.

        Raises
        ------
        Refusal
            503 if too many rows wait already, or the service is stopping.
        """
        job = _Job(scorer, X)
        with self._changed:
            if self._closed:
                raise busy("The service is stopping.", 5)
            # A request larger than the queue is taken when nothing waits: it would never be otherwise.
            if self._n_queued and self._n_queued + len(X) > self._max_queue_rows:
                seconds = self._n_queued * self._seconds_per_row
                raise busy(f"{self._n_queued} rows wait for this model already; try again later.", seconds)
            self._jobs.append(job)
            self._n_queued += len(X)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="insphere scoring", daemon=True)
                self._thread.start()
            # The thread is woken for the first rows and for a full batch only; between them it waits by the clock.
            if len(self._jobs) == 1 or self._n_queued >= self._max_batch_rows:
                self._changed.notify()
        return job.future

    def close(self, seconds: float = 30.0) -> None:
        """Score what waits, then end the thread; wait for it for at most `seconds`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)

    # Everything below runs in the thread.

    def _work(self) -> None:
        while jobs := self._next():
            alive = [job for job in jobs if not job.future.cancelled()]
            if alive:
                _deliver(alive, self._score(alive))

    def _next(self) -> list[_Job]:
        """Return the jobs of the next batch; none when the batcher is closed and all is done."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            while self._jobs and self._n_coming and self._n_queued < self._max_batch_rows and not self._closed:
                seconds = self._jobs[0].arrived + self._max_wait - time.monotonic()
                if seconds <= 0:
                    break
                self._changed.wait(seconds)
            jobs: list[_Job] = []
            n_rows = 0
            while self._jobs and (not jobs or self._joins(self._jobs[0], jobs[0], n_rows)):
                jobs.append(self._jobs.popleft())
                n_rows += len(jobs[-1].X)
            # The library computes rows in blocks of a fixed size: what would fill its last block by a part waits for the next batch.
            while n_rows % SCORING_ROWS and n_rows - len(jobs[-1].X) >= max(1, n_rows // SCORING_ROWS) * SCORING_ROWS:
                self._jobs.appendleft(jobs.pop())
                n_rows -= len(self._jobs[0].X)
            self._n_queued -= n_rows
            return jobs

    def _joins(self, job: _Job, first: _Job, n_rows: int) -> bool:
        """Return whether a job goes into the batch of `first`: rows that came before a reload still go to the model of then."""
        return job.scorer is first.scorer and n_rows + len(job.X) <= self._max_batch_rows

    def _score(self, jobs: Sequence[_Job]) -> list[Scores | Exception]:
        began = time.monotonic()
        try:
            with COMPUTING:
                scores = jobs[0].scorer.score(jobs[0].X if len(jobs) == 1 else np.concatenate([job.X for job in jobs]))
        except Exception as error:
            # Whose rows they were shows when each request is scored alone; the others must not suffer.
            return [error] if len(jobs) == 1 else [result for job in jobs for result in self._score([job])]
        stops = np.cumsum([len(job.X) for job in jobs]).tolist()
        seconds, n_rows = time.monotonic() - began, stops[-1]
        self._seconds_per_row += 0.1 * (seconds / n_rows - self._seconds_per_row)
        if self._on_batch is not None:
            self._on_batch(n_rows, seconds)
        return [scores.part(stop - len(job.X), stop) for job, stop in zip(jobs, stops, strict=True)]


def _deliver(jobs: Sequence[_Job], results: Sequence[Scores | Exception]) -> None:
    """Hand the results to the event loops that wait for them, all results of a loop at once: waking it costs more than the rest."""
    for loop in {job.loop for job in jobs}:
        mine = [(job, result) for job, result in zip(jobs, results, strict=True) if job.loop is loop]

        def finish_all(mine: list[tuple[_Job, Scores | Exception]] = mine) -> None:
            for job, result in mine:
                job.finish(result)

        try:
            loop.call_soon_threadsafe(finish_all)
        except RuntimeError:  # the loop has been closed, and nobody waits any more
            continue
