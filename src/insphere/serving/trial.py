"""A model file is opened in a process of its own first: what is slow, endless or deadly there never touches the models that answer.

The process imports once and tries all files it is given in turn. What it says of each is a line of JSON; one that says nothing for too
long is killed, and the files behind it are tried by another.
"""

import contextlib
import dataclasses
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from insphere.detectors import catalog
from insphere.errors import InsphereError, ModelFileError
from insphere.serving.models import ModelPlace, ServedModel

_START_SECONDS = 300.0  # to import everything, on a machine that is busy with something else
_NICER = 5  # the trial gives way to the models that answer


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a trial says of one model file.

    Attributes
    ----------
    place : ModelPlace
    digest : str
        Checksum of the content that was tried; empty where there was none to read.
    problem : InsphereError or None
        Why the file is refused.
    seconds : float
        What loading it and scoring two rows took.
    """

    place: ModelPlace
    digest: str
    problem: InsphereError | None
    seconds: float


class Trials:
    """Tries model files, one after another, each for a limited time.

    Parameters
    ----------
    seconds : float
        Time that one file may take to be loaded and to score two rows; 0 tries nothing.
    require_signature : Path, optional
        See `Settings`.

    Examples
    --------
    >>> [verdict.problem for verdict in Trials(seconds=0).of([ModelPlace("tiles", "1", Path("tiles.insphere"))])]
    [None]
    """

    def __init__(self, seconds: float, require_signature: Path | None = None) -> None:
        self._seconds, self._key = seconds, require_signature
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def of(self, places: Sequence[ModelPlace]) -> Iterator[Verdict]:
        """Yield what is to be said of each file, in order; nothing more once `stop` has been called."""
        if self._seconds == 0:
            yield from (Verdict(place, "", None, 0.0) for place in places)
            return
        left = list(places)
        while left and not self._stopped:
            for verdict in self._of_one_process(left):
                if self._stopped:
                    return
                yield verdict
                left = left[1:]

    def stop(self) -> None:
        """End the trial that runs, at once, and make no other; safe to call from any thread."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    def _of_one_process(self, places: Sequence[ModelPlace]) -> Iterator[Verdict]:
        """Yield verdicts until all files are tried, or one has brought the process down: that one's verdict is then the last."""
        with self._started(places) as lines:
            if _said(lines, _START_SECONDS) is None:
                text = "The process that tries model files cannot be started; --load-timeout 0 loads them without it."
                yield from (Verdict(place, "", ModelFileError(text), 0.0) for place in places)
                return
            for place in places:
                began = time.monotonic()
                said = _said(lines, self._seconds)
                if said is None:
                    is_late = time.monotonic() - began >= self._seconds
                    yield Verdict(place, "", self._silent(is_late=is_late), time.monotonic() - began)
                    return
                problem = None if said["problem"] is None else ModelFileError(said["problem"])
                yield Verdict(place, said["digest"], problem, said["seconds"])

    def _silent(self, *, is_late: bool) -> ModelFileError:
        if is_late:
            return ModelFileError(
                f"Loading the model and scoring two rows took more than {self._seconds:g} seconds; fit a smaller one, or give it longer"
                " with --load-timeout."
            )
        return ModelFileError("The process that tried the model ended without a word: too little memory, perhaps; fit a smaller one.")

    @contextlib.contextmanager
    def _started(self, places: Sequence[ModelPlace]) -> Iterator["queue.Queue[str | None]"]:
        key = None if self._key is None else os.fspath(self._key)
        asked = {"seconds": self._seconds, "key": key, "places": [[place.name, place.version, os.fspath(place.path)] for place in places]}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-P", "-m", "insphere.serving.trial"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        # Signals for the service (Ctrl-C goes to all processes of a terminal) are none of the trial's: its end is the pipe's.
        process = subprocess.Popen(command, text=True, encoding="ascii", env=environment, start_new_session=True, **pipes)
        self._process = process
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), name="insphere trial", daemon=True)
        reader.start()
        try:
            if self._stopped:
                process.kill()
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.write(json.dumps(asked) + "\n")
                    process.stdin.flush()
            yield lines
        finally:
            process.kill()
            process.wait()
            reader.join()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None


def _read(stream: Any, lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _said(lines: "queue.Queue[str | None]", seconds: float) -> dict[str, Any] | None:
    """Return the next thing said, None if there is nothing within `seconds` or ever."""
    try:
        line = lines.get(timeout=seconds)
    except queue.Empty:
        return None
    return None if line is None else json.loads(line)


# Everything below runs in the process that tries.


def main() -> None:
    """Try the files named on standard input; end with the process that asked, or when one takes too long."""
    # What others print must not get between our lines.
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _give_way()
    print(json.dumps({"started": True}), file=ours, flush=True)
    for name, version, path in asked["places"]:
        # The system ends us then, even in the middle of a computation that never looks up, and if nobody is left to kill us.
        if hasattr(signal, "alarm"):
            signal.alarm(math.ceil(asked["seconds"]) + 1)
        print(json.dumps(_try(ModelPlace(name, version, Path(path)), asked["key"])), file=ours, flush=True)


def _try(place: ModelPlace, key: str | None) -> dict[str, Any]:
    began, digest, problem = time.monotonic(), "", None
    try:
        saved = catalog.read(place.path, require_signature=key)
        digest = saved.digest
        model = ServedModel(place.name, place.version, catalog.restore(saved, place.path), max_rows=1)
        if model.problem is None:
            model.warm_up()
    # Whatever a file does to its reader is said of that file.
    except Exception as error:
        problem = str(error) if isinstance(error, InsphereError) else type(error).__name__
    return {"digest": digest, "problem": problem, "seconds": round(time.monotonic() - began, 3)}


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        continue
    os._exit(1)


def _give_way() -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICER)
    # Where memory runs out on Linux, the trial goes first and not the service.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
