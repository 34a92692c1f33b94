"""What processes started for work have in common: one thread of arithmetic each, an end with the process that started them, a rank."""

import os
import signal
import threading
import time

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables that libraries of arithmetic read their number of threads from, when they are loaded."""

_WATCH_SECONDS = 1.0


def begin_work(parent: int) -> None:
    """Leave Ctrl-C to the process that started this one, and end soon after it: nobody would take what is computed here.

    Parameters
    ----------
    parent : int
        Id of that process, as it knows it: by the time that this one asks, it may be gone.
    """
    # Ctrl-C reaches every process of the terminal; the one that started the others decides, and ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def place_in_group() -> tuple[int, int, int, int]:
    """Return what ``torchrun`` has told this process of those that it started together, by environment variables.

    Returns
    -------
    n, rank, n_local, local_rank : int
        How many they are, which of them (0..n−1) this one is; the same among those on this machine. 1, 0, 1, 0 for a process of its own.

    Examples
    --------
    >>> place_in_group()
    (1, 0, 1, 0)
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1, 0, 1, 0
    n, rank, n_local, local_rank = (int(os.environ[name]) for name in ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"))
    return n, rank, n_local, local_rank
