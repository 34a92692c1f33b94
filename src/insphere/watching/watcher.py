"""The loop of ``insphere watch``: look, score, write down, tell; and after a restart go on where it was cut off."""

import dataclasses
import datetime
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from insphere.data.folders import categories_of
from insphere.data.image_notices import told_of
from insphere.data.images import IMAGE_SUFFIXES
from insphere.data.rows import Notice, RowFacts
from insphere.data.stores import FileStore, ImageSource
from insphere.decision.online import OnlineDiscoveries
from insphere.detectors.base import AbstractDetector
from insphere.drift import DriftMonitor, DriftState
from insphere.errors import DataError
from insphere.output_file import locked, replacing
from insphere.validation import check_number
from insphere.visible import one_line, read_name
from insphere.watching.arrivals import Arrival, Arrivals
from insphere.watching.journal import AbstractJournal, Entry
from insphere.watching.notify import AbstractReceiver, Event, Notifier

_log = logging.getLogger("insphere.watch")

Answer = tuple[float | None, float | None, bool | None, str | None]
"""Score, p-value, decision and error of one file."""

_BATCH_FILES = 64
_SECONDS_TO_TELL = 20.0  # that a stop waits for events on their way


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    """How the folder is watched.

    Parameters
    ----------
    poll : float
        Seconds between two looks at the folder, above 0.
    settled_after : float
        Seconds without change after which a file counts as complete at first sight; a younger one when two looks find it unchanged.
    once : bool
        Whether to end when every file has its score, instead of waiting for more.
    drift_false_alarms, tolerated_share : float
        See `insphere.drift.DriftMonitor`.
    fdr : float, optional
        Share of false alarms among those told in a window, at most, on average; see `insphere.decision.online.OnlineDiscoveries`. None:
        every flagged image is told.
    fdr_window : int
        Images of a window.

    Examples
    --------
    >>> WatchOptions(poll=0.5).settled_after
    5.0
    """

    poll: float = 1.0
    settled_after: float = 5.0
    once: bool = False
    drift_false_alarms: float = 0.01
    tolerated_share: float = 0.05
    fdr: float | None = None
    fdr_window: int = 100

    def __post_init__(self) -> None:
        check_number("poll", self.poll, above=0, at_most=86_400)
        check_number("settled_after", self.settled_after, at_least=0)


@dataclasses.dataclass(frozen=True)
class WatchSummary:
    """What one run of a watch did.

    Attributes
    ----------
    n_files, n_anomalies, n_errors : int
        Files written down in this run; those of them flagged; those without a score.
    n_before : int
        Files that earlier runs had written down.
    n_untold : int
        Events that could not be told before the stop; the next run tells them.
    n_unsettled : int
        Files that were still being written; the next run scores them.
    drift : DriftState
    notices : tuple of Notice
        What was left out: of the folder at the last look, and of the images scored in this run.
    """

    n_files: int
    n_anomalies: int
    n_errors: int
    n_before: int
    n_untold: int
    n_unsettled: int
    drift: DriftState
    notices: tuple[Notice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict."""
        return dataclasses.asdict(self) | {"drift": self.drift.to_json()}


class Watcher:
    """Scores the images that arrive in a folder, each version of a file once.

    A file's score is on the disk before anybody is told of it, and what each receiver has been told is noted after it: killed at any
    moment, the next run scores no file twice and leaves none out. Each receiver is told of every event in order and at least once: one
    that cannot be reached is tried again, by the next run too, while the scoring and the other receivers go on. An event that was on its
    way may be told twice, with the same ``id``. Nothing but the journal is kept for that, however long a receiver is away.

    Parameters
    ----------
    detector : AbstractDetector
        Fitted on images.
    folder : path-like
    journal : AbstractJournal
        Where the scores go; see `insphere.watching.open_journal`.
    receivers : sequence of AbstractReceiver
        Who is told of anomalies and drift.
    options : WatchOptions, optional
    on_entry : callable, optional
        Called with each entry once it is written down.

    Raises
    ------
    DataError
        If the folder does not exist, the detector takes vectors, or the journal belongs to another model.
    """

    def __init__(
        self,
        detector: AbstractDetector,
        folder: str | os.PathLike[str],
        journal: AbstractJournal,
        *,
        receivers: Sequence[AbstractReceiver] = (),
        options: WatchOptions | None = None,
        on_entry: Callable[[Entry], None] | None = None,
    ) -> None:
        if detector.image_spec_ is None:
            raise DataError("Watching is for images, and this detector takes vectors; score tables with `insphere score` as they come.")
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise DataError(f"{os.fspath(folder)} is not a folder; give the path of an existing one to watch.")
        self._spec = detector.image_spec_
        self._detector, self._journal, self._options = detector, journal, options or WatchOptions()
        self._receivers, self._on_entry = receivers, on_entry
        self._arrivals = Arrivals(self._folder, IMAGE_SUFFIXES, settled_after=self._options.settled_after, ignored=journal.path)
        self._stream = self._new_stream()
        self._state_path = journal.path.with_name(f"{journal.path.name}.state")
        self._n_before = self._n_files = self._n_anomalies = self._n_errors = 0
        self._remarks: dict[str, dict[int, int]] = {}
        self._remarked: list[str] = []
        self._told: dict[str, int] = {}
        self._told_to: dict[str, int] = {}
        self._told_to_all: int | None = None
        self._noting = threading.Lock()

    def run(self, stop: threading.Event) -> WatchSummary:
        """Watch until `stop` is set, or, with ``once``, until every file has its score.

        Raises
        ------
        DataError
            If the journal cannot be read, or another watch writes to it.
        OutputError
            If a score cannot be written down.
        """
        lock = self._journal.path.with_name(f"{self._journal.path.name}.lock")
        busy = DataError(f"Another insphere watch writes to this journal ({lock} is locked); stop it, or name another file.")
        with locked(lock, busy):
            self._journal.clean_up()
            self._told_to = self._read_state()
            notifier = Notifier(self._receivers, self._note_told)
            n_untold = 0
            try:
                self._catch_up(notifier)
                self._loop(stop, notifier)
            finally:
                n_untold = notifier.close(_SECONDS_TO_TELL)
                if n_untold:
                    _log.warning("%d events could not be told before the stop; the next run tells them.", n_untold)
        counts = (self._n_files, self._n_anomalies, self._n_errors, self._n_before, n_untold, self._arrivals.n_unsettled)
        return WatchSummary(*counts, self._stream.drift.state, self._notices())

    def _loop(self, stop: threading.Event, notifier: Notifier) -> None:
        listable = True
        while not stop.is_set():
            try:
                arrived = self._arrivals.look()
                listable = True
            except DataError as error:  # a network share may be away for a while
                if self._options.once:
                    raise
                if listable:
                    _log.warning("%s Trying again every %g seconds.", error, self._options.poll)
                listable, arrived = False, []
            self._tell()
            notifier.refill(self._events_so_far)
            for start in range(0, len(arrived), _BATCH_FILES):
                if stop.is_set():
                    return
                self._take_in(arrived[start : start + _BATCH_FILES], notifier)
                self._tell()
            if self._options.once and not self._arrivals.n_unsettled:
                return
            stop.wait(self._options.poll)

    def _notices(self) -> tuple[Notice, ...]:
        return (*self._arrivals.notices, *told_of(self._remarks, self._remarked))

    def _tell(self) -> None:
        """Log what is left out: at first, and again when it has become twice as much."""
        for notice in self._notices():
            about = notice.text.partition(":")[0]
            if notice.count >= 2 * self._told.get(about, 0):
                self._told[about] = notice.count
                _log.warning("%s", notice)

    def _catch_up(self, notifier: Notifier) -> None:
        """Go through what earlier runs wrote down: what is scored, how the drift stands, what was not told."""
        for entry in self._journal.entries():
            self._n_before += 1
            self._arrivals.mark(entry.path, (entry.n_bytes, entry.modified_ns))
            self._events(entry, self._stream)
        for key in notifier.keys:
            # Who has not been told of anything yet hears of what comes from now on.
            self._told_to.setdefault(key, self._n_before if self._told_to_all is None else self._told_to_all)
        self._write_state()
        notifier.start(self._told_to, self._events_so_far)

    def _events_so_far(self) -> Iterator[tuple[int, list[Event]]]:
        """Yield the number of each entry in the journal of which there is something to tell, and what."""
        stream = self._new_stream()
        for number, entry in enumerate(self._journal.entries(), start=1):
            if events := self._events(entry, stream):
                yield number, events

    def _new_stream(self) -> "_Stream":
        options = self._options
        drift = DriftMonitor(
            self._detector.conformal_.scores, false_alarm_rate=options.drift_false_alarms, tolerated_share=options.tolerated_share
        )
        if options.fdr is None:
            return _Stream(drift)
        return _Stream(drift, OnlineDiscoveries(self._detector.decision_, fdr=options.fdr, window=options.fdr_window))

    def _take_in(self, arrived: Sequence[Arrival], notifier: Notifier) -> None:
        """Score some files, write down what came of it, and have it told."""
        scored = list(self._scored(arrived))
        # A file that changed while it was read, or was taken away, is looked at again.
        entries = [entry for arrival, entry in zip(arrived, scored, strict=True) if arrival.is_unchanged()]
        if not entries:
            return
        self._journal.append(entries)
        for entry in entries:
            self._n_files += 1
            self._n_anomalies += bool(entry.is_anomaly)
            self._n_errors += entry.error is not None
            self._arrivals.mark(entry.path, (entry.n_bytes, entry.modified_ns))
            if self._on_entry is not None:
                self._on_entry(entry)
            was_drifted = self._stream.drift.state.drifted
            events = self._events(entry, self._stream)
            state = self._stream.drift.state
            if state.drifted and not was_drifted:
                _log.warning(
                    "drift: since about %s the scores are no longer those of the held-out normal rows (%s). %s",
                    entry.path,
                    state.direction,
                    state.advice,
                )
            if events:
                notifier.submit(self._n_before + self._n_files, events)

    def _scored(self, arrived: Sequence[Arrival]) -> Iterator[Entry]:
        names = [arrival.name for arrival in arrived]
        store = FileStore([arrival.path for arrival in arrived])
        by = self._detector.input_.table.category_by
        categories = None if by is None or self._detector.decision_.categories is None else categories_of(names, by, asked=False)
        source = ImageSource(str(self._folder), store, RowFacts(tuple(names), categories=categories), self._spec)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        for batch in self._detector.score_batches(source):
            answers: dict[int, Answer] = {row: (None, None, None, one_line(text)) for row, text in batch.errors.items()}
            columns = (batch.index.tolist(), batch.anomaly_score.tolist(), batch.p_value.tolist(), batch.is_anomaly.tolist())
            answers |= {row: (score, p_value, flagged, None) for row, score, p_value, flagged in zip(*columns, strict=True)}
            for row in sorted(answers):
                yield Entry(names[row], *answers[row], *arrived[row].version, now)
        for kind, rows in source.remarks.items():
            for row, amount in sorted(rows.items()):
                self._remarks.setdefault(kind, {})[len(self._remarked)] = amount
                self._remarked.append(names[row])

    def _events(self, entry: Entry, stream: "_Stream") -> list[Event]:
        """Return what is to be told of an entry, and count it for drift and alarms."""
        facts: Event = {
            "id": hashlib.sha256(f"{entry.path}\0{entry.n_bytes}\0{entry.modified_ns}".encode()).hexdigest()[:16],
            "path": str(self._folder.absolute() / read_name(entry.path)),
            "name": entry.path,
            "anomaly_score": entry.anomaly_score,
            "p_value": entry.p_value,
            "threshold": self._detector.threshold_,
            "scored_at": entry.scored_at,
        }
        told, promise = bool(entry.is_anomaly), self._promise
        if stream.online is not None and entry.p_value is not None:
            told, promise = stream.online.update([entry.p_value])[0], stream.online.promise
        events: list[Event] = [{"event": "anomaly", **facts, "promise": promise}] if told else []
        if entry.p_value is not None and entry.anomaly_score is not None:
            was_drifted = stream.drift.state.drifted
            # Against the scores of all, as the monitor has them: of a model with categories, p-values are each against its own.
            state = stream.drift.update(self._detector.decision_.p_value(np.array([entry.anomaly_score])))
            if state.drifted and not was_drifted:
                events.append({"event": "drift", **facts, "drift": state.to_json()})
        return events

    @property
    def _promise(self) -> str:
        """What an alarm says where every flagged image is told."""
        most = self._detector.decision_.promised_fpr
        return "The paper's radius promises no rate." if most is None else f"At most {100 * most:.3g} % of normal images raise an alarm."

    def _read_state(self) -> dict[str, int]:
        """Return how many entries each receiver has been told of, by its key."""
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            model, told = state["model"], {str(key): int(number) for key, number in state.get("told", {}).items()}
            # How far all receivers were, in the files of version 0.1.0 and before.
            self._told_to_all = None if "n_told" not in state else int(state["n_told"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{self._state_path} cannot be read ({error}); remove it, and what has not been told until now never will be."
            ) from error
        if model != self._model():
            raise DataError(
                f"{self._journal.path} holds the scores of another model, which cannot be compared with this one's; name another file."
            )
        return told

    def _note_told(self, key: str, number: int) -> None:
        """Write down that a receiver has been told of everything up to an entry; called in the thread that told it."""
        with self._noting:
            self._told_to[key] = number
            self._write_state()

    def _write_state(self) -> None:
        with replacing(self._state_path) as handle:
            handle.write(json.dumps({"model": self._model(), "told": self._told_to}).encode())

    def _model(self) -> str:
        """Return what tells this model from others: its held-out scores."""
        return hashlib.sha256(self._detector.conformal_.scores.tobytes() + repr(self._detector.threshold_).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class _Stream:
    """What is counted over all entries, in their order."""

    drift: DriftMonitor
    online: OnlineDiscoveries | None = None
