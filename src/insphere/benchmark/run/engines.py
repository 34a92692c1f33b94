"""Where runs are computed: processes of this machine (joblib) or a Ray cluster. A lost process costs a run, never the benchmark."""

import os
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import joblib

from insphere.benchmark.run.execution import Finished, Workplace, execute_job, failed
from insphere.benchmark.run.run import Run
from insphere.errors import MissingDependencyError, TrainingError
from insphere.validation import check_integer
from insphere.worker_processes import THREAD_VARIABLES, begin_work

MOST_JOBS = 8
"""Processes at most unless more are asked for: each holds PyTorch and a data set in memory, a gigabyte or so."""

Job = tuple[Run, ...]
"""What one process does at a time: a run, or several that are trained as one."""

Work = Callable[[Job, Workplace], Sequence[Finished]]


class AbstractEngine(ABC):
    """Computes jobs, in any order and several at a time; writes nothing.

    Parameters
    ----------
    n_jobs : int
        Jobs at a time, at least 1.
    work : callable
        Does one job and returns its runs in their order; it must be importable where the jobs are computed.
    """

    def __init__(self, n_jobs: int, work: Work = execute_job) -> None:
        self.n_jobs = check_integer("n_jobs", n_jobs, at_least=1)
        self.work = work

    @abstractmethod
    def finish(self, jobs: Sequence[Job], place: Workplace) -> Generator[Finished, None, None]:
        """Yield each run of the jobs once, as soon as its job is finished. Closing the iterator ends what is still being computed."""


class LocalEngine(AbstractEngine):
    """Processes of this machine. Also a single job gets a process of its own, so that the runner survives what kills it."""

    def finish(self, jobs: Sequence[Job], place: Workplace) -> Generator[Finished, None, None]:
        """Yield each run once.

        When a process dies, the pool cannot tell which of the runs in it was the cause. Each of them is done again on its own, before
        all others; the one that loses its process a second time, alone, is the cause and becomes a failed run.
        """
        waiting, suspects = deque(jobs), deque[Job]()
        while waiting or suspects:
            alone = bool(suspects)
            queue = deque([suspects.popleft()]) if alone else waiting
            held: dict[str, Job] = {}
            try:
                with _closing(self._pool(place)(self._taken(queue, held, place))) as results:
                    for done in results:
                        del held[done[0].report.run.id]
                        yield from done
            except BrokenProcessPool as error:
                _forget_pool()
                runs = [run for job in held.values() for run in job]
                if alone:
                    yield from (_lost(run, place, error) for run in runs)
                else:
                    suspects.extend((run,) for run in runs)
                    _tell_of_death(runs)

    def _pool(self, place: Workplace) -> Any:
        # A pool of one would compute in this process. The second of two stays idle, as one run at a time is handed out.
        # Those that have not been given a run watch the runner too.
        watching: dict[str, Any] = {"initializer": begin_work, "initargs": (os.getpid(),)}
        with joblib.parallel_config(backend="loky", n_jobs=max(2, self.n_jobs), inner_max_num_threads=place.n_threads, **watching):
            return joblib.Parallel(return_as="generator_unordered", pre_dispatch=self.n_jobs, batch_size=1)

    def _taken(self, queue: deque[Job], held: dict[str, Job], place: Workplace) -> Iterator[Any]:
        """Yield the calls for a pool, keeping in `held` the jobs that it has and has not given back, by the name of their first run."""
        while queue:
            job = queue.popleft()
            held[job[0].id] = job
            yield joblib.delayed(self.work)(job, place)


@contextmanager
def _closing(results: Any) -> Iterator[Any]:
    """Close the results at the end, without joblib's advice to those who did not want what they asked for."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _forget_pool() -> None:
    """End what is left of the pool that joblib keeps for the next call, whose last processes could still be dying."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(max_workers=2).shutdown(wait=True, kill_workers=True)


def _tell_of_death(runs: Iterable[Run]) -> None:
    names = ", ".join(run.id for run in runs)
    warnings.warn(f"A process was killed (is the memory full?). What it may have been at is done again: {names}.", stacklevel=3)


def _lost(run: Run, place: Workplace, error: Exception) -> Finished:
    reason = TrainingError(
        "The process of this run was killed twice, the second time with nothing beside it. Most often the memory was not enough:"
        f" look at the system's log, make the run smaller, or lower --jobs. ({str(error).splitlines()[0][:200]})"
    )
    return failed(run, place, reason)


class RayEngine(AbstractEngine):
    """Workers of a Ray cluster; insphere and the data must be on every machine of it.

    The cluster is that of the environment variable RAY_ADDRESS; without it, Ray is started on this machine.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    """

    def __init__(self, n_jobs: int, work: Work = execute_job) -> None:
        super().__init__(n_jobs, work)
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError("The engine 'ray' needs Ray: pip install 'insphere[bench]'.") from error
        self._ray: Any = ray

    def finish(self, jobs: Sequence[Job], place: Workplace) -> Generator[Finished, None, None]:
        """Yield each run once; a run whose worker dies is done once more, and then fails."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        environment = {"env_vars": dict.fromkeys(THREAD_VARIABLES, str(place.n_threads))}
        # Only a dead worker is worth a second try; what goes wrong in a run is in its report.
        task = ray.remote(num_cpus=place.n_threads, max_retries=0, runtime_env=environment)(self.work)
        waiting, held, lost_once = deque(jobs), dict[Any, Job](), set[str]()
        try:
            while waiting or held:
                while waiting and len(held) < self.n_jobs:
                    job = waiting.popleft()
                    held[task.remote(job, place)] = job
                done, _ = ray.wait(list(held), num_returns=1)
                for reference in done:
                    job = held.pop(reference)
                    try:
                        yield from ray.get(reference)
                    except ray.exceptions.RayError as error:
                        if job[0].id in lost_once:
                            yield from (_lost(run, place, error) for run in job)
                        else:
                            lost_once.update(run.id for run in job)
                            waiting.extendleft((run,) for run in job)
                            _tell_of_death(job)
        finally:
            for reference in held:
                ray.cancel(reference, force=True)


ENGINES: dict[str, type[LocalEngine] | type[RayEngine]] = {"local": LocalEngine, "ray": RayEngine}
"""Name of each engine and its class."""


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
