"""Work for an engine's processes that kills them; importable there, as this folder is on the path."""

import os
import signal

from insphere.benchmark.execution import Finished, Workplace, execute, failed
from insphere.benchmark.run import Run
from insphere.errors import InsphereError


def work(run: Run, place: Workplace) -> Finished:
    """Do the run; of the method "deadly" kill the process each time, of "unlucky" the first time only."""
    mark = place.folder / f"{run.id}.killed"
    if run.method == "deadly" or (run.method == "unlucky" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(run, place)


def threads(run: Run, place: Workplace) -> Finished:
    """Report, as an error, the number of threads that the process was started with."""
    return failed(run, place, InsphereError(os.environ["OMP_NUM_THREADS"]))
