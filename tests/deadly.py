"""Work for an engine's processes that kills them; importable there, as this folder is on the path."""

import dataclasses
import os
import signal
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.benchmark.run.engines import Job
from insphere.benchmark.run.execution import Finished, Workplace, execute_job, failed
from insphere.detectors.classical import KNN
from insphere.errors import InsphereError


def work(job: Job, place: Workplace) -> list[Finished]:
    """Do the job; of the method "deadly" kill the process each time, of "unlucky" the first time only.

    The deadly one lets the unlucky one go first: it would otherwise take it along, unmarked, while its process is still starting.
    """
    run = job[0]
    mark = place.folder / f"{run.id}.killed"
    deadline = time.monotonic() + 60
    while run.method == "deadly" and not list(place.folder.glob("*unlucky*.killed")) and time.monotonic() < deadline:
        time.sleep(0.05)
    if run.method == "deadly" or (run.method == "unlucky" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return execute_job(job, place)


def threads(job: Job, place: Workplace) -> list[Finished]:
    """Report, as an error, the number of threads that the process was started with."""
    return [failed(run, place, InsphereError(os.environ["OMP_NUM_THREADS"])) for run in job]


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class DeadlyKNN(KNN):
    """Nearest neighbours that kill their process at the sight of a white image."""

    name = "deadly-knn"

    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        if (X == 255).reshape(len(X), -1).all(axis=1).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._score(X)
