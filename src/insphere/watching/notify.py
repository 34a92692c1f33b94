"""Telling of an event: a POST of JSON, or a command; in a thread of its own, so that a slow receiver does not stop the scoring."""

import dataclasses
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
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from insphere.errors import ParameterError

_log = logging.getLogger("insphere.watch")

Event = dict[str, Any]


class AbstractReceiver(ABC):
    """Somebody who is told of events; a failure is logged and otherwise without consequence."""

    @abstractmethod
    def tell(self, event: Event) -> None:
        """Tell of one event; returns when it has been told, or has failed for good."""


@dataclasses.dataclass(frozen=True)
class Webhook(AbstractReceiver):
    """A POST of the event as JSON.

    Parameters
    ----------
    url : str
        Of http or https.
    timeout : float
        Seconds that one attempt may take.
    pauses : sequence of float
        Seconds before each further attempt. Answers 4xx other than 408 and 429 are final.

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

    def tell(self, event: Event) -> None:
        for pause in (*self.pauses, None):
            failure, is_final = self._post(event)
            if failure is None:
                return
            if pause is None or is_final:
                # The host alone: such addresses often hold a secret.
                _log.error("webhook: %s was not told of %s (%s)", urlsplit(self.url).hostname, event["id"], failure)
                return
            time.sleep(pause)

    def _post(self, event: Event) -> tuple[str | None, bool]:
        """Return why the event could not be posted (None: it was), and whether trying again is of no use."""
        body = json.dumps(event).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json", "User-Agent": "insphere"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                response.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            return f"status {error.code}", 400 <= error.code < 500 and error.code not in (408, 429)
        # Refused, timed out, cut off, or no HTTP at all: of several exception types that mean the same.
        except (OSError, ValueError, urllib.error.URLError) as error:
            return str(getattr(error, "reason", error)) or type(error).__name__, False
        except Exception as error:  # http.client's own, which derive from nothing more special
            return type(error).__name__, False
        return None, True


@dataclasses.dataclass(frozen=True)
class Command(AbstractReceiver):
    """A program that is run with arguments, without a shell: nothing in a file's name can be taken for a command.

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
    """Tells receivers of events in order, in a thread.

    Parameters
    ----------
    receivers : sequence of AbstractReceiver
    on_told : callable
        Called, in that thread, with the number given to `submit` when all its events have been told.
    """

    def __init__(self, receivers: Sequence[AbstractReceiver], on_told: Callable[[int], None]) -> None:
        self._receivers, self._on_told = receivers, on_told
        self._waiting: queue.Queue[tuple[int, Sequence[Event]] | None] = queue.Queue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="insphere notifier", daemon=True)
        self._thread.start()

    def submit(self, number: int, events: Sequence[Event]) -> None:
        """Have the events told; returns at once."""
        self._waiting.put((number, events))

    def close(self, timeout: float) -> int:
        """Wait until all has been told, `timeout` seconds at most, and return how many submissions were not."""
        self._waiting.put(None)
        self._thread.join(timeout)
        self._stopped.set()
        return sum(item is not None for item in list(self._waiting.queue)) + int(self._thread.is_alive())

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None and not self._stopped.is_set():
            number, events = item
            for event in events:
                for receiver in self._receivers:
                    receiver.tell(event)
            self._on_told(number)
