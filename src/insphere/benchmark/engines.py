"""Where runs are computed: processes of this machine (joblib) or a Ray cluster. A lost process costs a run, never the benchmark."""

import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any

import joblib

from insphere.benchmark.execution import Finished, Workplace, execute, failed
from insphere.benchmark.run import Run
from insphere.errors import MissingDependencyError, TrainingError

MOST_JOBS = 8
"""Processes at most unless more are asked for: each holds PyTorch and a data set in memory, a gigabyte or so."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class AbstractEngine(ABC):
    """Computes runs, in any order and several at a time; writes nothing."""

    @abstractmethod
    def finish(self, runs: Sequence[Run], place: Workplace) -> Generator[Finished, None, None]:
        """Yield each run once, as soon as it is finished. Closing the iterator ends what is still being computed."""


class LocalEngine(AbstractEngine):
    """Processes of this machine. Also a single job gets a process of its own, so that the runner survives what kills it.

    Parameters
    ----------
    n_jobs : int
        Runs at a time, at least 1.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def finish(self, runs: Sequence[Run], place: Workplace) -> Generator[Finished, None, None]:
        """Yield each run once.

        When a process dies, the pool cannot tell which of the runs in it was the cause. Each of them is done again on its own, before
        all others; the one that loses its process a second time, alone, is the cause and becomes a failed run.
        """
        waiting, suspects = deque(runs), deque[Run]()
        while waiting or suspects:
            alone = bool(suspects)
            queue = deque([suspects.popleft()]) if alone else waiting
            held: dict[str, Run] = {}
            try:
                with closing(self._pool(place)(_taken(queue, held, place))) as results:
                    for finished in results:
                        del held[finished.report.run.id]
                        yield finished
            except BrokenProcessPool as error:
                if alone:
                    yield from (_lost(run, place, error) for run in held.values())
                else:
                    suspects.extend(held.values())

    def _pool(self, place: Workplace) -> Any:
        # A pool of one would compute in this process. The second of two stays idle, as one run at a time is handed out.
        with joblib.parallel_config(backend="loky", n_jobs=max(2, self.n_jobs), inner_max_num_threads=place.n_threads):
            return joblib.Parallel(return_as="generator_unordered", pre_dispatch=self.n_jobs, batch_size=1)


def _taken(queue: deque[Run], held: dict[str, Run], place: Workplace) -> Iterator[Any]:
    """Yield the calls for a pool, keeping in `held` the runs that it has and has not given back."""
    while queue:
        run = queue.popleft()
        held[run.id] = run
        yield joblib.delayed(_in_a_process)(run, place)


def _in_a_process(run: Run, place: Workplace) -> Finished:
    # Ctrl-C reaches every process of the terminal; the runner alone decides, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return execute(run, place)


def _lost(run: Run, place: Workplace, error: Exception) -> Finished:
    reason = TrainingError(
        "The process of this run was killed twice, the second time with nothing beside it. Most often the memory was not enough:"
        f" look at the system's log, make the run smaller, or lower --jobs. ({str(error).splitlines()[0][:200]})"
    )
    return failed(run, place, reason)


class RayEngine(AbstractEngine):
    """Workers of a Ray cluster; insphere and the data must be on every machine of it.

    Parameters
    ----------
    address : str, optional
        Of a running cluster, as `ray.init` takes it; None takes that of the environment variable RAY_ADDRESS, or else starts Ray here.
    n_jobs : int
        Runs at a time at most.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    """

    def __init__(self, n_jobs: int, address: str | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError("The engine 'ray' needs Ray: pip install 'insphere[bench]'.") from error
        self._ray: Any = ray
        self.n_jobs, self.address = n_jobs, address

    def finish(self, runs: Sequence[Run], place: Workplace) -> Generator[Finished, None, None]:
        """Yield each run once; a run whose worker dies is done once more, and then fails."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        environment = {"env_vars": dict.fromkeys(_THREAD_VARIABLES, str(place.n_threads))}
        # Only a dead worker is worth a second try; what goes wrong in a run is in its report.
        task = ray.remote(num_cpus=place.n_threads, max_retries=0, runtime_env=environment)(execute)
        waiting, held, lost_once = deque(runs), dict[Any, Run](), set[str]()
        try:
            while waiting or held:
                while waiting and len(held) < self.n_jobs:
                    run = waiting.popleft()
                    held[task.remote(run, place)] = run
                done, _ = ray.wait(list(held), num_returns=1)
                for reference in done:
                    run = held.pop(reference)
                    try:
                        yield ray.get(reference)
                    except ray.exceptions.RayError as error:
                        if run.id in lost_once:
                            yield _lost(run, place, error)
                        else:
                            lost_once.add(run.id)
                            waiting.appendleft(run)
        finally:
            for reference in held:
                ray.cancel(reference, force=True)


ENGINES: dict[str, Callable[[int], AbstractEngine]] = {"local": LocalEngine, "ray": RayEngine}
"""Name of each engine, and what makes it for a number of jobs."""


def threads_per_job(n_jobs: int) -> int:
    """Return how many threads a run may use, so that all together are no more than the cores, nor one run more than OMP_NUM_THREADS says.

    Examples
    --------
    >>> threads_per_job(10_000)
    1
    """
    share = max(1, int(joblib.cpu_count()) // n_jobs)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(wanted)) if wanted.isdecimal() and int(wanted) > 0 else share


def default_jobs() -> int:
    """Return how many runs are done at a time unless the user says: one a core, up to `MOST_JOBS`."""
    return min(int(joblib.cpu_count()), MOST_JOBS)
