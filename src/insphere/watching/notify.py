"""Telling of an event: a POST of JSON, or a command; in threads of their own, so that a slow receiver stops neither scoring nor others."""

import dataclasses
import hashlib
import itertools
import json
import logging
import queue
import shlex
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from insphere.errors import ParameterError
from insphere.output_file import OutputError

_log = logging.getLogger("insphere.watch")

Event = dict[str, Any]


_MOST_WAITING = 1000


class UntoldError(Exception):
    """A receiver could not be told, and trying again later may help."""


class AbstractReceiver(ABC):
    """Somebody who is told of events."""

    @property
    def key(self) -> str:
        """What tells this receiver from others, in this run and the next; holds no secret."""
        return type(self).__name__.lower()

    @abstractmethod
    def tell(self, event: Event) -> None:
        """Tell of one event; returns when it has been told, or has failed for good, which is logged.

        Raises
        ------
        UntoldError
            If it could not be told, and is to be tried again before any other event.
        """


@dataclasses.dataclass(frozen=True)
class Webhook(AbstractReceiver):
    """A POST of the event as JSON.

    The header ``Idempotency-Key`` is the same for every attempt at one event, in later runs too: an event may arrive twice. Answers 4xx
    are final where they are about the event and not about who may ask, where, and how often: 401, 403, 404, 408, 425 and 429.

    Parameters
    ----------
    url : str
        Of http or https.
    timeout : float
        Seconds that one attempt may take.
    pauses : sequence of float
        Seconds before each further attempt of one `tell`.

    Raises
    ------
    ParameterError
        If the URL is not of http or https.

    Examples
    --------
    >>> Webhook("https://example.org/line-3").timeout
    5.0
    """

    url: str
    timeout: float = 5.0
    pauses: Sequence[float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            known = False
        if not known:
            raise ParameterError(f"The webhook must be a URL of http or https, got {self.url!r}; for example https://example.org/alarms.")

    @property
    def key(self) -> str:
        return f"webhook-{_digest(self.url)}"

    def tell(self, event: Event) -> None:
        for pause in (*self.pauses, None):
            failure, is_final = self._post(event)
            if failure is None:
                return
            # The host alone: such addresses often hold a secret.
            text = f"webhook: {urlsplit(self.url).hostname} was not told of {event['id']} ({failure})"
            if is_final:
                _log.error("%s, and will not be: it refuses the event", text)
                return
            if pause is None:
                raise UntoldError(text)
            time.sleep(pause)

    def _post(self, event: Event) -> tuple[str | None, bool]:
        """Return why the event could not be posted (None: it was), and whether trying again is of no use."""
        # A path whose bytes are not UTF-8 is not legal JSON text.
        body = json.dumps(event | {"path": event["path"].encode("utf-8", "backslashreplace").decode()}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "insphere", "Idempotency-Key": f'"{event["id"]}-{event["event"]}"'}
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                response.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            return f"status {error.code}", 400 <= error.code < 500 and error.code not in _WORTH_ANOTHER_TRY
        # Refused, timed out, cut off, or no HTTP at all: of several exception types that mean the same.
        except (OSError, ValueError, urllib.error.URLError) as error:
            return str(getattr(error, "reason", error)) or type(error).__name__, False
        except Exception as error:  # http.client's own, which derive from nothing more special
            return type(error).__name__, False
        return None, True


_WORTH_ANOTHER_TRY = (401, 403, 404, 408, 425, 429)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Command(AbstractReceiver):
    """A program that is run with arguments, without a shell: nothing in a file's name can be taken for a command.

    It is run once for an event, whatever its exit code, which is logged: whether running it again does good, it alone can know.

    Parameters
    ----------
    line : str
        Program and arguments, quoted as in a shell; {event}, {path}, {score} and {p_value} in an argument are replaced. Without {event}
        it is run for anomalies only, else for drift too.
    timeout : float
        Seconds after which it is killed.

    Raises
    ------
    ParameterError
        If the line is empty or the program is not found.

    Examples
    --------
    >>> Command("echo {path} {score}").arguments({"event": "anomaly", "path": "a b.png", "anomaly_score": 2.5})
    ['echo', 'a b.png', '2.5']
    """

    line: str
    timeout: float = 60.0

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.line)
        except ValueError as error:
            raise ParameterError(f"The command {self.line!r} cannot be split into words: {error}.") from error
        if not words:
            raise ParameterError("The command must name a program, got an empty text.")
        if shutil.which(words[0]) is None:
            raise ParameterError(f"The command's program {words[0]!r} is not found; give its full path, or install it.")

    @property
    def key(self) -> str:
        return f"command-{_digest(self.line)}"

    def arguments(self, event: Event) -> list[str]:
        """Return program and arguments for an event."""
        values = {name: str(event.get(field, "")) for name, field in _PLACEHOLDERS.items()}
        words = shlex.split(self.line)
        for name, value in values.items():
            # A value that looks like another placeholder stays as it is: what comes from a file's name is put in last.
            words = [word.replace(f"{{{name}}}", value) for word in words]
        return words

    def tell(self, event: Event) -> None:
        if event["event"] != "anomaly" and "{event}" not in self.line:
            return
        try:
            done = subprocess.run(
                self.arguments(event), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=self.timeout, check=False
            )
            if done.returncode:
                _log.error("command: exit code %d for %s", done.returncode, event["id"])
        except subprocess.TimeoutExpired:
            _log.error("command: killed after %g seconds for %s", self.timeout, event["id"])
        except (OSError, ValueError) as error:
            _log.error("command: cannot be run for %s (%s)", event["id"], error)


_PLACEHOLDERS = {"event": "event", "score": "anomaly_score", "p_value": "p_value", "path": "path"}


class Notifier:
    """Tells receivers of events: each in order, at least once, and in a thread of its own, so that none waits for another.

    A receiver that cannot be reached is tried again, ever more rarely, for as long as the notifier lives. Of what waits for it, only the
    first thousand are held in memory; the others come from `refill`, when those have been told.

    Parameters
    ----------
    receivers : sequence of AbstractReceiver
    on_told : callable
        Called with a receiver's key and the number given to `submit` when all its events have been told, in that receiver's thread.
    pauses : sequence of float
        Seconds between attempts; the last one for ever.
    """

    def __init__(
        self,
        receivers: Sequence[AbstractReceiver],
        on_told: Callable[[str, int], None],
        *,
        pauses: Sequence[float] = (5.0, 15.0, 60.0, 300.0),
    ) -> None:
        self._tellers = {receiver.key: _Teller(receiver, on_told, pauses) for receiver in receivers}

    @property
    def keys(self) -> list[str]:
        """The receivers' keys; two that are the same are told once."""
        return list(self._tellers)

    def start(self, told_to: Mapping[str, int], events: Callable[[], Iterable[tuple[int, Sequence[Event]]]]) -> None:
        """Begin, with what each receiver has not been told of.

        Parameters
        ----------
        told_to : mapping
            Of each key, the number up to which the receiver has been told.
        events : callable
            Returns all numbers and their events so far, in order.
        """
        for key, teller in self._tellers.items():
            teller.told_to = told_to[key]
            teller.n_left_out = 1
        self.refill(events)

    def submit(self, number: int, events: Sequence[Event]) -> None:
        """Have the events told; returns at once."""
        for teller in self._tellers.values():
            teller.submit(number, events)

    def refill(self, events: Callable[[], Iterable[tuple[int, Sequence[Event]]]]) -> None:
        """Give what was not held in memory to the receivers who have been told of all that was; `events` as in `start`."""
        for teller in self._tellers.values():
            if teller.n_left_out and teller.n_open == 0:
                teller.n_left_out = 0
                for number, some in events():
                    if number > teller.told_to:
                        teller.submit(number, some)

    def close(self, timeout: float) -> int:
        """Wait until all has been told, `timeout` seconds at most, and return how many submissions were not, of all receivers."""
        end = time.monotonic() + timeout
        for teller in self._tellers.values():
            teller.finish()
        return sum(teller.close(end - time.monotonic()) for teller in self._tellers.values())


class _Teller:
    """One receiver, what it is still to be told, and the thread that tells it."""

    def __init__(self, receiver: AbstractReceiver, on_told: Callable[[str, int], None], pauses: Sequence[float]) -> None:
        self._receiver, self._on_told, self._pauses = receiver, on_told, pauses
        self._waiting: queue.Queue[tuple[int, Sequence[Event]] | None] = queue.Queue()
        self._stopped = threading.Event()
        self.told_to = self.n_left_out = self._n_submitted = self._n_told = 0
        self._thread = threading.Thread(target=self._run, name="insphere notifier", daemon=True)
        self._thread.start()

    @property
    def n_open(self) -> int:
        """How many submissions held in memory have not been told."""
        return self._n_submitted - self._n_told

    def submit(self, number: int, events: Sequence[Event]) -> None:
        if self.n_left_out or self.n_open >= _MOST_WAITING:
            self.n_left_out += 1
            return
        self._n_submitted += 1
        self._waiting.put((number, events))

    def finish(self) -> None:
        """Tell what waits, then end."""
        self._waiting.put(None)

    def close(self, timeout: float) -> int:
        self._thread.join(max(0.0, timeout))
        self._stopped.set()
        return self.n_open + self.n_left_out

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None and not self._stopped.is_set():
            number, events = item
            if not all(self._told(event) for event in events):
                return
            self.told_to = number
            try:
                self._on_told(self._receiver.key, number)
            # It has been told; that it cannot be noted means that the next run may tell it again.
            except OutputError as error:
                _log.error("%s", error)
            self._n_told += 1

    def _told(self, event: Event) -> bool:
        """Tell of an event, however often it takes; False if the notifier was stopped before."""
        for pause in itertools.chain(self._pauses, itertools.repeat(self._pauses[-1])):
            try:
                self._receiver.tell(event)
                return True
            except UntoldError as error:
                _log.error("%s; trying again in %g seconds, and by the next run.", error, pause)
            # An error of a receiver's own code: nobody knows whether it has told, and it must not end the thread.
            except Exception:
                _log.exception("a receiver failed on %s", event["id"])
                return True
            if self._stopped.wait(pause):
                return False
        raise AssertionError("the pauses never end")
