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


def rank_in_group() -> int:
    """Return which this process is, 0.., among those that ``torchrun`` started together; 0 where it is alone.

    Examples
    --------
    >>> rank_in_group()
    0
    """
    return int(os.environ.get("RANK", "0")) if "TORCHELASTIC_RUN_ID" in os.environ else 0
