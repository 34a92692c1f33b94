"""The service as an ASGI application: its routes, each a few lines over the library."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from insphere.serving import document, inference, page
from insphere.serving.answers import Refusal, as_json
from insphere.serving.discovering import PARAMETER
from insphere.serving.feedback_routes import add_feedback
from insphere.serving.frame import Frame
from insphere.serving.limits import Gate
from insphere.serving.models import Sources
from insphere.serving.plain_route import PlainRoute
from insphere.serving.service import Service
from insphere.serving.settings import Settings

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
        If there is no model, or two have one name and version, or the file of verdicts was begun with another share.
    DataError
        If the file of verdicts cannot be written.

    Examples
    --------
    >>> import numpy as np
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
    add_feedback(app, service)
    app.openapi = lambda: document.openapi(app, service.registry, service.settings)  # type: ignore[method-assign]
    return app


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", **document.PAGE)
    async def show_page() -> Response:
        return page.answer("page.html")

    @app.get("/openapi.json", **document.OPENAPI)
    async def show_document() -> Response:
        return as_json(app.openapi())

    @app.get("/metrics", **document.METRICS)
    async def show_metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": _METRICS_TYPE})

    @app.get("/models", **document.MODELS)
    async def list_models() -> Response:
        waiting = [{"name": file.place.name, "version": file.place.version, "state": file.state} for file in service.registry.waiting()]
        models = [slot.model.describe() for slot in service.registry.slots()]
        return as_json({"models": models, "waiting": waiting, "feedback": service.feedback is not None})


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
        ready = registry.ready
        return as_json({"ready": ready, "models": registry.counts()}, 200 if ready else 503)

    def metadata(name: str, version: str | None) -> Response:
        return as_json(inference.metadata(registry.find(name, version).model, registry.versions(name)))

    def ready(name: str, version: str | None) -> Response:
        ready = not registry.waits(name, version) and registry.find(name, version).ready
        return as_json({"name": name, "ready": ready}, 200 if ready else 503)

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

    takes = ("category", "heatmap", PARAMETER)
    for path, answer, parameters in (
        ("/score", score, takes),
        ("/models/{name}/score", score_with, takes),
        ("/models/{name}/versions/{version}/score", score_with, takes),
        ("/v2/models/{name}/infer", infer, ()),
        ("/v2/models/{name}/versions/{version}/infer", infer, ()),
    ):
        app.router.routes.append(PlainRoute(path, answer, methods=["POST"], parameters=parameters))


def _heatmap_wanted(request: Request) -> bool:
    wanted = request.query_params.get("heatmap", "false").lower()
    if wanted not in ("true", "false", "1", "0"):
        raise Refusal(422, "The parameter heatmap must be true or false.")
    return wanted in ("true", "1")


async def _refused(request: Request, error: Exception) -> Response:
    return error.answer() if isinstance(error, Refusal) else as_json({"error": "Refused."}, 400)


async def _not_found(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return as_json({"error": "Refused."}, 400)
    allowed = (error.headers or {}).get("Allow", "other methods")
    text = {
        404: "There is nothing at this path; /openapi.json lists what there is.",
        405: f"This path takes {allowed}, not {request.method}; /openapi.json says what to send.",
    }
    return as_json({"error": text.get(error.status_code, str(error.detail))}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    places = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in problems})) or "request"
    return as_json({"error": f"These parameters are not as /openapi.json says: {places}."}, 422)
