"""The service as an ASGI application: its routes, each a few lines over the library."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Scope

from insphere.serving import document, inference, page
from insphere.serving.answers import Refusal, as_json, busy, finite
from insphere.serving.batching import Scores
from insphere.serving.frame import Frame
from insphere.serving.heatmap import heatmaps
from insphere.serving.limits import Gate, Memory, body_of
from insphere.serving.metrics import Metrics
from insphere.serving.models import ServedModel, Sources
from insphere.serving.registry import Registry, Slot, Watcher
from insphere.serving.settings import Settings
from insphere.serving.uploads import Decoded, Upload, decode_uploads, read_multipart, read_rows

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST_WAITING_HEATMAPS = 4


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
        self.registry = Registry(models, settings, self.metrics)
        self.metrics.watch(self.registry.slots)
        self.memory = Memory(settings.max_buffered_bytes)
        self.watcher = Watcher(self.registry, settings.reload_seconds)
        self._decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="insphere decoding")
        self._n_heatmaps = 0

    async def infer(self, request: Request, slot: Slot) -> Response:
        """Answer a request of the Open Inference Protocol."""
        model = _ready(slot)
        _check_type(request, ("application/json",))
        async with body_of(request, self.settings, self.memory) as body:
            asked = await self._aside(inference.InferRequest, body, model, n_bytes=len(body))
            scores = await slot.batcher.submit(model, asked.X)
        _note(request, model, len(asked.X))
        return as_json(asked.answer(model, scores))

    async def score(self, request: Request, slot: Slot, *, heatmap: bool) -> Response:
        """Answer an upload of images, or rows as JSON: one result each, in order."""
        model = _ready(slot)
        kind = _check_type(request, ("multipart/form-data", "application/json", "application/octet-stream", "image/"))
        async with body_of(request, self.settings, self.memory) as body:
            if kind == "application/json":
                X = await self._aside(read_rows, body, model, n_bytes=len(body))
                uploads, decoded = [Upload(None, b"")] * len(X), Decoded(X, {})
                scores = await slot.batcher.submit(model, X)
            else:
                _check_takes_files(model)
                content_type = request.headers["content-type"]
                bare = kind != "multipart/form-data"
                uploads = [Upload(None, body)] if bare else read_multipart(body, content_type, self.settings.max_rows)
                decoded, waiting = await self._decode(uploads, slot, model)
                scores = await waiting
        if decoded.errors:
            self.metrics.unreadable(model.name, model.version, len(decoded.errors))
        _note(request, model, len(uploads))
        answer = {"model": model.name, "version": model.version, "decision": model.decision, **_results(uploads, decoded, scores)}
        if heatmap:
            await self._add_heatmaps(answer, model, decoded.X)
        # Some rows have no score: a client that looks at nothing but the status must see that.
        return as_json(answer, 207 if answer["n_errors"] else 200)

    async def _decode(self, uploads: list[Upload], slot: Slot, model: ServedModel) -> "tuple[Decoded, asyncio.Future[Scores]]":
        """Decode beside the event loop, and queue the rows before anything else can happen."""
        with slot.batcher.coming():
            loop = asyncio.get_running_loop()
            decoded = await loop.run_in_executor(self._decoders, decode_uploads, uploads, model, self.settings.max_pixels)
            if len(decoded.X):
                return decoded, slot.batcher.submit(model, decoded.X)
        nothing: asyncio.Future[Scores] = loop.create_future()
        nothing.set_result(Scores(np.empty(0), np.empty(0), np.empty(0, np.bool_)))
        return decoded, nothing

    async def _aside(self, function: Any, body: bytes, *arguments: Any, n_bytes: int) -> Any:
        """Call a reader of bodies: small ones here, large ones in a thread, so that no other request waits for them."""
        if n_bytes <= 65_536:
            return function(body, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, body, *arguments)

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
        self._decoders.shutdown(wait=False)


def make_app(models: Sources, settings: Settings | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    models : mapping or sequence
        ``NAME`` or ``NAME@VERSION`` to a fitted detector or the path of a model file; or what `find_models` returns.
    settings : Settings, optional
        Limits.

    Returns
    -------
    FastAPI
        For any ASGI server. `insphere.serving.server.run` adds what belongs to the server: time for the head of a request, signals.

    Raises
    ------
    ModelFileError
        If a model file cannot be loaded.
    ParameterError
        If there is no model, or two have one name and version.

    Examples
    --------
    >>> from insphere.detectors.classical import KNN
    >>> detector = KNN(random_state=0).fit(np.random.default_rng(0).normal(size=(60, 2)))
    >>> make_app({"sensors": detector}).title
    'insphere'
    """
    service = Service(models, Settings() if settings is None else settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.watcher.start()
        yield
        service.watcher.stop()
        await asyncio.to_thread(service.close)

    app = FastAPI(title="insphere", version=version("insphere"), docs_url=None, redoc_url=None, lifespan=lifespan, openapi_url=None)
    app.state.service = service
    app.add_middleware(Frame, gate=Gate(service.settings), metrics=service.metrics)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(RequestValidationError, _invalid)
    _add_scoring(app, service)
    _add_protocol(app, service)
    _add_pages(app, service)
    app.openapi = lambda: document.openapi(app, service.registry, service.settings)  # type: ignore[method-assign]
    return app


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", **document.PAGE)
    async def show_page() -> Response:
        return Response(page.html(), media_type="text/html", headers={"Content-Security-Policy": page.policy()})

    @app.get("/openapi.json", **document.OPENAPI)
    async def show_document() -> Response:
        return as_json(app.openapi())

    @app.get("/metrics", **document.METRICS)
    async def show_metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": _METRICS_TYPE})

    @app.get("/models", **document.MODELS)
    async def list_models() -> Response:
        return as_json({"models": [slot.model.describe() for slot in service.registry.slots()]})


def _add_protocol(app: FastAPI, service: Service) -> None:
    registry = service.registry

    @app.get("/v2", **document.SERVER)
    async def server_metadata() -> Response:
        return as_json({"name": "insphere", "version": version("insphere"), "extensions": []})

    @app.get("/v2/health/live", **document.LIVE)
    async def server_live() -> Response:
        return as_json({"live": True})

    @app.get("/v2/health/ready", **document.READY)
    async def server_ready() -> Response:
        return as_json({"ready": registry.ready}, 200 if registry.ready else 503)

    def metadata(name: str, version: str | None) -> Response:
        return as_json(inference.metadata(registry.find(name, version).model, registry.versions(name)))

    def ready(name: str, version: str | None) -> Response:
        slot = registry.find(name, version)
        return as_json({"name": name, "ready": slot.ready}, 200 if slot.ready else 503)

    for suffix, answer, described in (("", metadata, document.METADATA), ("/ready", ready, document.MODEL_READY)):
        _add_for_models(app, suffix, answer, described)


def _add_for_models(app: FastAPI, suffix: str, answer: Callable[[str, str | None], Response], described: dict[str, Any]) -> None:
    """Add a route for the newest version of a model, and one for each version."""

    async def of_newest(name: document.Name) -> Response:
        return answer(name, None)

    async def of_version(name: document.Name, version: document.Version) -> Response:
        return answer(name, version)

    app.add_api_route(f"/v2/models/{{name}}{suffix}", of_newest, methods=["GET"], **described)
    app.add_api_route(f"/v2/models/{{name}}/versions/{{version}}{suffix}", of_version, methods=["GET"], **described)


def _add_scoring(app: FastAPI, service: Service) -> None:
    """Add the routes that take rows: as plain ones, because FastAPI's own handling costs as much as all the rest of a request.

    The OpenAPI document has them for each model.
    """
    registry = service.registry

    async def score(request: Request) -> Response:
        return await service.score(request, registry.find(None), heatmap=_heatmap_wanted(request))

    async def score_with(request: Request) -> Response:
        slot = registry.find(request.path_params["name"], request.path_params.get("version"))
        return await service.score(request, slot, heatmap=_heatmap_wanted(request))

    async def infer(request: Request) -> Response:
        return await service.infer(request, registry.find(request.path_params["name"], request.path_params.get("version")))

    for path, answer in (
        ("/score", score),
        ("/models/{name}/score", score_with),
        ("/models/{name}/versions/{version}/score", score_with),
        ("/v2/models/{name}/infer", infer),
        ("/v2/models/{name}/versions/{version}/infer", infer),
    ):
        app.router.routes.append(_PlainRoute(path, answer, methods=["POST"]))


class _PlainRoute(Route):
    """A route without FastAPI's handling that says, as FastAPI's do, which one it is: for the log and the metrics."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self}


def _heatmap_wanted(request: Request) -> bool:
    wanted = request.query_params.get("heatmap", "false").lower()
    if wanted not in ("true", "false", "1", "0"):
        raise Refusal(422, "The parameter heatmap must be true or false.")
    return wanted in ("true", "1")


def _results(uploads: list[Upload], decoded: Decoded, scores: Scores) -> dict[str, Any]:
    """Return one result for each upload, in order, and how many are anomalies and errors."""
    columns = zip(scores.anomaly_score.tolist(), scores.p_value.tolist(), scores.is_anomaly.tolist(), strict=True)
    results: list[dict[str, Any]] = []
    for position, upload in enumerate(uploads):
        error = decoded.errors.get(position)
        score, p_value, is_anomaly = (None, None, None) if error is not None else next(columns)
        result = {"anomaly_score": score if score is None else finite(score), "p_value": p_value, "is_anomaly": is_anomaly}
        results.append({"name": upload.name, **result, "error": error})
    n_anomalies = sum(result["is_anomaly"] is True for result in results)
    return {"n_rows": len(results), "n_anomalies": n_anomalies, "n_errors": len(decoded.errors), "results": results}


def _ready(slot: Slot) -> ServedModel:
    """Return the model of a slot, or refuse: a model whose health is critical must not be asked."""
    if slot.model.problem is not None:
        raise busy(slot.model.problem, 60)
    return slot.model


def _check_type(request: Request, allowed: tuple[str, ...]) -> str:
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


async def _refused(request: Request, error: Exception) -> Response:
    return error.answer() if isinstance(error, Refusal) else as_json({"error": "Refused."}, 400)


async def _not_found(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return as_json({"error": "Refused."}, 400)
    text = {404: "There is nothing at this path; /openapi.json lists what there is.", 405: "This path has other methods; see Allow."}
    return as_json({"error": text.get(error.status_code, str(error.detail))}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    places = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in problems})) or "request"
    return as_json({"error": f"These parameters are not as /openapi.json says: {places}."}, 422)
