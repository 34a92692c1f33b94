"""Rows that people are to look at, kept as they are scored, and what they said: beside scoring, which never waits for it."""

import asyncio
import dataclasses
import datetime
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from insphere.decision.verdicts import VerdictJournal, are_drawn, row_id
from insphere.errors import DataError
from insphere.serving.answers import Refusal, busy
from insphere.serving.batching import Scores
from insphere.serving.metrics import Metrics
from insphere.serving.models import ServedModel
from insphere.serving.previews import content_of, previews
from insphere.serving.settings import Settings
from insphere.verdict_database import MOST_UNANSWERED, KeptRow, KeptRows, Noted, Origin, Queue, VerdictDatabase
from insphere.verdict_files import verdicts_in

_NEAR = 2.0  # times the target: rows with p-values up to there are uncertain, and worth a look
_MOST_PENDING_BYTES = 32 * 2**20  # of drawn rows, and as much of others: so that what others there are decides nothing about drawn ones
_NAME = 255  # characters of a name that a client gave

_log = logging.getLogger("insphere.serving")
Answer = TypeVar("Answer")


class Draw(NamedTuple):
    """What rows are known by (None for those that were given to `fit`), and which are drawn for a look."""

    row_ids: list[str | None]
    drawn: list[bool]
    is_full: bool


@dataclasses.dataclass(frozen=True, eq=False)
class _Pending:
    """Rows of one request on their way to the file: all of them drawn (of kind "drawn"), or none ("other")."""

    kind: str
    rows: KeptRows
    contents: NDArray[Any]

    def packed(self) -> KeptRows:
        """Return the rows with their contents."""
        packed = [row._replace(content=content_of(X)) for row, X in zip(self.rows.rows, self.contents, strict=True)]
        return self.rows._replace(rows=packed)


class Feedback:
    """The file of verdicts of a service, in which one thread reads and writes.

    Rows wait in memory while the file is in trouble, up to a bound, beyond which whole requests are lost, whatever they scored: that a
    row was lost says nothing of its score, so those that are kept are still a fair sample.

    Parameters
    ----------
    settings : Settings
        With `feedback` set.
    metrics : Metrics

    Raises
    ------
    ParameterError
        If the file was begun with another share.
    DataError
        If it cannot be written, or is none of this kind.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        if settings.feedback is None:
            raise ValueError("settings.feedback must be set")
        self._database, self._metrics = VerdictDatabase(settings.feedback, settings.draw), metrics
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="insphere feedback")
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []
        self._is_scheduled = self._fails = False
        self._full: frozenset[Origin] = frozenset()

    @property
    def share(self) -> float:
        """Share of the rows that is drawn."""
        return self._database.share

    def keep(self, model: ServedModel, X: NDArray[Any], scores: Scores, names: Sequence[str | None], category: str | None) -> Draw:
        """Draw among scored rows, and put those to be looked at on their way to the file; return at once.

        Drawn rows go first and whatever they score; of the others those flagged, and those near the threshold.
        """
        if scores.hashes is None or scores.seen is None:
            return Draw([], [], is_full=False)
        origin = origin_of(model)
        is_full = origin in self._full
        # A row without a finite score can have no verdict; one that was given to fit says nothing of new ones.
        new = ~scores.seen & np.isfinite(scores.anomaly_score) & np.isfinite(scores.p_value)
        drawn = are_drawn(scores.hashes, model.detector.draw_key, self.share) & new
        doubtful = scores.is_anomaly | (scores.p_value <= _NEAR * model.detector.decision_.target_fpr)
        others = np.flatnonzero(doubtful & new & ~drawn)[-MOST_UNANSWERED:]
        row_ids = [None if known else row_id(value) for value, known in zip(scores.hashes.tolist(), scores.seen.tolist(), strict=True)]
        for kind, chosen in (("drawn", np.flatnonzero(drawn)), ("other", others)):
            if len(chosen) and not is_full:
                rows = _rows(chosen, row_ids, scores, names, category, is_drawn=kind == "drawn")
                self._take(_Pending(kind, KeptRows(origin, model.name, model.version, rows), X[chosen]))
        return Draw(row_ids, (drawn & (not is_full)).tolist(), is_full)

    def _take(self, new: _Pending) -> None:
        with self._lock:
            n_bytes = sum(entry.contents.nbytes for entry in self._pending if entry.kind == new.kind)
            is_lost = n_bytes > 0 and n_bytes + new.contents.nbytes > _MOST_PENDING_BYTES
            if not is_lost:
                self._pending.append(new)
            is_idle, self._is_scheduled = not self._is_scheduled, True
        if is_lost:
            self._metrics.kept("lost", len(new.rows.rows))
        if is_idle:
            self._worker.submit(self._write_out)

    async def told(self, model: ServedModel, limit: int) -> dict[str, Any]:
        """Return the summary of the verdicts on a model's rows, and the next rows to look at.

        Raises
        ------
        Refusal
            503 if the file cannot be read.
        """
        origin = origin_of(model)

        def read() -> tuple[list[dict[str, Any]], Queue]:
            return self._database.records(origin), self._database.queue(origin, limit, model.detector.decision_.target_fpr)

        records, queue = await self._asked(read)
        return await asyncio.to_thread(self._described, model, records, queue, with_rows=limit > 0)

    async def answer(self, model: ServedModel, said: Sequence[tuple[str, str | None]]) -> list[Noted]:
        """Note what was said of rows; return for each what became of it.

        Raises
        ------
        Refusal
            503 if the file cannot be written.
        """
        used = frozenset(entry.row for entry in model.detector.verdicts_.entries if entry.used)
        return await self._asked(lambda: self._database.answer(origin_of(model), said, used))

    def close(self) -> None:
        """Write what is on its way, and end the thread."""
        self._worker.submit(self._write_out)
        self._worker.shutdown(wait=True)

    def _described(self, model: ServedModel, records: list[dict[str, Any]], queue: Queue, *, with_rows: bool) -> dict[str, Any]:
        try:
            verdicts, n_unsettled = verdicts_in(records, model.detector.draw_key, "the file of verdicts")
            journal: VerdictJournal = model.detector.verdicts_.with_verdicts(verdicts)
        except DataError as error:
            self._complain(error)
            raise self._in_trouble() from error
        told: dict[str, Any] = {
            "model": model.name,
            "version": model.version,
            "share": self.share,
            "summary": journal.summary(model.detector.decision_),
            "n_drawn_unanswered": queue.n_drawn,
            "n_drawn_held": max(0, n_unsettled - queue.n_drawn),
            "n_others_unanswered": queue.n_others,
            "is_full": queue.is_full,
        }
        if with_rows:
            shown = previews(model, queue.rows)
            rows = zip(queue.rows, shown, strict=True)
            told["queue"] = [{name: value for name, value in row._asdict().items() if name != "content"} | more for row, more in rows]
        return told

    async def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """Do something with the file, after all that is on its way has been written."""

        def run() -> Answer:
            self._write(self._taken())
            answer = ask()
            self._works()
            return answer

        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, run)
        except DataError as error:
            self._complain(error)
            raise self._in_trouble() from error

    def _in_trouble(self) -> Refusal:
        return busy("The file of verdicts cannot be read or written now; the log says why. Scoring goes on.", 10)

    # Below: in the thread.

    def _write_out(self) -> None:
        """Write all that is on its way; where that fails it stays in memory, and goes with the next."""
        try:
            self._write(self._taken())
        except DataError as error:
            self._complain(error)

    def _taken(self) -> list[_Pending]:
        with self._lock:
            taken, self._pending, self._is_scheduled = self._pending, [], False
            return taken

    def _write(self, pending: list[_Pending]) -> None:
        """Write rows in one transaction, or put them back and raise `DataError`."""
        if not pending:
            return
        try:
            self._full |= self._database.add([entry.packed() for entry in pending])
        except DataError:
            with self._lock:
                self._pending = pending + self._pending
            raise
        # Whatever else a row does to its writer must not keep the others away for ever.
        except Exception:
            _log.exception("rows for people to look at are lost")
            self._metrics.kept("lost", sum(len(entry.rows.rows) for entry in pending))
            return
        for entry in pending:
            self._metrics.kept(entry.kind, len(entry.rows.rows))
        self._works()

    def _works(self) -> None:
        if self._fails:
            _log.info("file of verdicts works again")
        self._fails = False

    def _complain(self, error: DataError) -> None:
        self._metrics.feedback_failed()
        if not self._fails:  # once, not for every row
            _log.error("file of verdicts in trouble; scoring goes on", extra={"facts": {"problem": str(error)}})
        self._fails = True


def origin_of(model: ServedModel) -> Origin:
    """Return whose rows a model's are."""
    return Origin(model.detector.draw_key, model.fit_key)


def _rows(
    chosen: NDArray[np.int64],
    row_ids: Sequence[str | None],
    scores: Scores,
    names: Sequence[str | None],
    category: str | None,
    *,
    is_drawn: bool,
) -> list[KeptRow]:
    """Return rows as they are kept, yet without their contents, which are packed in the thread."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    columns = (scores.anomaly_score, scores.p_value, scores.is_anomaly)
    judged = zip(*(values[chosen].tolist() for values in columns), strict=True)
    return [
        KeptRow(row_ids[row] or "", is_drawn, category, score, p_value, is_anomaly, (names[row] or "")[:_NAME] or None, now, None)
        for row, (score, p_value, is_anomaly) in zip(chosen.tolist(), judged, strict=True)
    ]
