"""What the routes that take rows do: read the body, have it scored with those of other requests, answer."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray

from insphere.data.rows import Notice
from insphere.serving import inference
from insphere.serving.answers import Refusal, as_json, busy, finite
from insphere.serving.batching import Scores
from insphere.serving.discovering import asked_rate, discovered
from insphere.serving.feedback import Feedback
from insphere.serving.heatmap import heatmaps
from insphere.serving.limits import Memory, body_of
from insphere.serving.metrics import Metrics
from insphere.serving.models import ServedModel, Sources
from insphere.serving.registry import Registry, Watcher
from insphere.serving.settings import Settings
from insphere.serving.slot import Slot
from insphere.serving.uploads import Decoded, Form, Upload, decode_uploads, read_multipart, read_rows

_MOST_WAITING_HEATMAPS = 4
_FULL = (
    "No more rows are drawn: this model has as many rows for people to look at as it may keep. Fit it again with what they say, or begin a"
    " new file of verdicts."
)
_SMALL_BODY = 65_536  # bytes of JSON, read in a millisecond or two

Read = TypeVar("Read")


class Service:
    """What the routes share.

    Parameters
    ----------
    models : sequence of ModelPlace and ModelFolder, or mapping
        See `make_app`.
    settings : Settings
    """

    def __init__(self, models: Sources, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        # Before models are loaded, which takes longer than to refuse a file.
        self.feedback = None if settings.feedback is None else Feedback(settings, self.metrics)
        self.registry = Registry(models, settings, self.metrics)
        self.metrics.watch(self.registry.slots, self.registry.waiting)
        self.memory = Memory(settings.max_buffered_bytes)
        self.watcher = Watcher(self.registry, settings.reload_seconds)
        self._decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="insphere decoding")
        self._n_heatmaps = 0

    async def infer(self, request: Request, slot: Slot) -> Response:
        """Answer a request of the Open Inference Protocol."""
        model = ready_model(slot)
        check_type(request, ("application/json",))
        async with body_of(request, self.settings, self.memory) as body:
            asked = await self.read(inference.InferRequest, body, model)
            model.check_category(asked.category)
            scores = await slot.batcher.submit(model, asked.X)
        _note(request, model, len(asked.X))
        scores, _, _ = model.judged(scores, asked.category)
        self._draw(model, asked.X, scores, [None] * len(asked.X), asked.category)
        return as_json(asked.answer(model, scores))

    async def score(self, request: Request, slot: Slot, *, heatmap: bool) -> Response:
        """Answer an upload of images, or rows as JSON: one result each, in order."""
        model = ready_model(slot)
        kind = check_type(request, ("multipart/form-data", "application/json", "application/octet-stream", "image/"))
        category, rate = request.query_params.get("category"), asked_rate(request, model)
        model.check_category(category)
        async with body_of(request, self.settings, self.memory) as body:
            if kind == "application/json":
                X = await self.read(read_rows, body, model)
                uploads, notices = Form([Upload(None, b"")] * len(X), [])
                decoded = Decoded(X, {})
                scores = await slot.batcher.submit(model, X)
            else:
                _check_takes_files(model)
                content_type = request.headers["content-type"]
                bare = kind != "multipart/form-data"
                form = Form([Upload(None, body)], []) if bare else await self._read_form(body, content_type)
                uploads, notices = form
                decoded, waiting = await self._decode(uploads, slot, model)
                scores = await waiting
        if decoded.errors:
            self.metrics.unreadable(model.name, model.version, len(decoded.errors))
        _note(request, model, len(uploads))
        answer = self._answer(model, Form(uploads, notices), decoded, scores, category, rate)
        if heatmap:
            await self._add_heatmaps(answer, model, decoded.X)
        # Some rows have no score: a client that looks at nothing but the status must see that.
        return as_json(answer, 207 if answer["n_errors"] else 200)

    def _answer(
        self, model: ServedModel, form: Form, decoded: Decoded, scores: Scores, category: str | None, rate: float | None
    ) -> dict[str, Any]:
        """Return the answer of a request: its rows judged by their category and a false-discovery rate, and drawn for people to look at."""
        scores, decision, notices = model.judged(scores, category)
        columns: dict[str, list[Any]] = {}
        told: dict[str, Any] = {}
        notes: list[Notice] = []
        if rate is not None:
            columns, told["fdr"], notes = discovered(model, scores, rate)
        if model.alarms is not None:
            columns["is_alarm"] = model.alarms.update(scores.p_value)
            told["alarms"] = model.alarms.to_json()
        names = [upload.name for position, upload in enumerate(form.images) if position not in decoded.errors]
        drawing, notes_of_draw = self._draw(model, decoded.X, scores, names, category)
        results = _results(form.images, decoded, scores, columns | drawing)
        notices = [*form.notices, *notices, *notes, *notes_of_draw, *decoded.notices]
        of_all = {"model": model.name, "version": model.version, "decision": decision, **told, **results}
        return of_all | {"notices": [{"count": notice.count, "text": str(notice)} for notice in notices]}

    def _draw(
        self, model: ServedModel, X: NDArray[Any], scores: Scores, names: Sequence[str | None], category: str | None
    ) -> tuple[dict[str, list[Any]], list[Notice]]:
        """Draw rows for people to look at, where they do: the columns that say so, and what is to be told."""
        if self.feedback is None:
            return {}, []
        draw = self.feedback.keep(model, X, scores, names, category)
        told = [Notice("left out", len(names), _FULL)] if draw.is_full else []
        return {"row_id": draw.row_ids, "drawn": draw.drawn}, told

    async def _decode(self, uploads: list[Upload], slot: Slot, model: ServedModel) -> "tuple[Decoded, asyncio.Future[Scores]]":
        """Decode beside the event loop, and queue the rows before anything else can happen."""
        with slot.batcher.coming():
            loop, limits = asyncio.get_running_loop(), self.settings
            most = limits.max_pixels, limits.max_request_pixels
            decoded = await loop.run_in_executor(self._decoders, decode_uploads, uploads, model, *most)
            if len(decoded.X):
                return decoded, slot.batcher.submit(model, decoded.X)
        nothing: asyncio.Future[Scores] = loop.create_future()
        nothing.set_result(Scores(np.empty(0), np.empty(0), np.empty(0, np.bool_)))
        return decoded, nothing

    async def read(self, reader: Callable[[bytes, ServedModel], Read], body: bytes, model: ServedModel) -> Read:
        """Read a body: a small one here, a large one in a thread, so that no other request waits for it."""
        if len(body) <= _SMALL_BODY:
            return reader(body, model)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, reader, body, model)

    async def _read_form(self, body: bytes, content_type: str) -> Form:
        """Read a form beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, read_multipart, body, content_type, self.settings.max_rows)

    async def _add_heatmaps(self, answer: dict[str, Any], model: ServedModel, X: NDArray[Any]) -> None:
        pictures: list[str | None] = [None] * len(X)
        problem: str | None = "No heat-map: this model takes no images."
        if model.is_image and self._n_heatmaps >= _MOST_WAITING_HEATMAPS:
            problem = "No heat-map now: several are being made already."
        elif model.is_image:
            self._n_heatmaps += 1
            try:
                pictures, problem = await asyncio.to_thread(heatmaps, model, X) if len(X) else ([], None)
            finally:
                self._n_heatmaps -= 1
        following = iter(pictures)
        for result in answer["results"]:
            result["heatmap"] = next(following) if result["error"] is None else None
        answer["heatmap_problem"] = problem

    def close(self) -> None:
        """End the threads, after they have answered what waits."""
        self.registry.close()
        if self.feedback is not None:
            self.feedback.close()
        self._decoders.shutdown(wait=False)


def _results(uploads: list[Upload], decoded: Decoded, scores: Scores, more: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return one result for each upload, in order, with more columns of the scored ones, and how many are anomalies and errors."""
    columns = {
        "anomaly_score": [finite(score) for score in scores.anomaly_score.tolist()],
        "p_value": scores.p_value.tolist(),
        "is_anomaly": scores.is_anomaly.tolist(),
        **more,
    }
    scored = iter(zip(*columns.values(), strict=True))
    results: list[dict[str, Any]] = []
    for position, upload in enumerate(uploads):
        error = decoded.errors.get(position)
        values = [None] * len(columns) if error is not None else next(scored)
        results.append({"name": upload.name, **dict(zip(columns, values, strict=True)), "error": error})
    n_anomalies = sum(result["is_anomaly"] is True for result in results)
    return {"n_rows": len(results), "n_anomalies": n_anomalies, "n_errors": len(decoded.errors), "results": results}


def ready_model(slot: Slot) -> ServedModel:
    """Return the model of a slot, or refuse: a model whose health is critical must not be asked."""
    if slot.model.problem is not None:
        raise busy(slot.model.problem, 60)
    return slot.model


def check_type(request: Request, allowed: tuple[str, ...]) -> str:
    """Return the media type of a request, in small letters, or refuse it with 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any(kind == name or (name.endswith("/") and kind.startswith(name)) for name in allowed):
        listed = ", ".join(f"{name}*" if name.endswith("/") else name for name in allowed)
        raise Refusal(415, f"The Content-Type must be one of {listed}.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise Refusal(415, "Compressed bodies (Content-Encoding) are not read; send the body as it is.")
    return kind


def _check_takes_files(model: ServedModel) -> None:
    if model.refuses_files is not None:
        raise Refusal(415, model.refuses_files)


def _note(request: Request, model: ServedModel, n_rows: int) -> None:
    """Add to the log line of a request which model answered, and how many rows."""
    request.scope.setdefault("state", {})["facts"] = {"model": model.name, "version": model.version, "n_rows": n_rows}
