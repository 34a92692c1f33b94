"""The OpenAPI document: what each route takes and answers, true for the models that are served."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Path, Query
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import BaseRoute

from insphere.serving.heatmap import MOST_HEATMAPS
from insphere.serving.registry import Registry
from insphere.serving.settings import Settings

Name = Annotated[str, Path(description="Name of a model; GET /models lists them.")]
Version = Annotated[str, Path(description="Version of the model.")]
Heatmap = Annotated[
    bool,
    Query(description=f"Whether each image (the first {MOST_HEATMAPS} at most) gets a picture of where it is anomalous. Slow."),
]

_LARGEST = 1.7976931348623157e308


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorAnswer(_Answer):
    """What every refusal looks like."""

    error: str = Field(description="What is wrong, and what to do.")


class Live(_Answer):
    """The process answers."""

    live: bool


class Ready(_Answer):
    """Whether every model scores."""

    ready: bool


class ModelReady(_Answer):
    """Whether a model scores."""

    name: str
    ready: bool


class ServerMetadata(_Answer):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(_Answer):
    """Name, datatype and shape of a tensor; -1 stands for the number of rows."""

    name: str
    datatype: Literal["UINT8", "FP32", "FP64", "BOOL"]
    shape: list[int]


class ModelMetadata(_Answer):
    """Tensors that a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(_Answer):
    """One output: a value for each row."""

    name: Literal["anomaly_score", "p_value", "is_anomaly"]
    datatype: Literal["FP64", "BOOL"]
    shape: list[int]
    data: list[float | bool | None]


class InferAnswer(_Answer):
    """Scores of a tensor's rows, in order."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[OutputTensor]


class Decision(_Answer):
    """Rows that score above `threshold` are flagged; by "conformal", at most the share `target_fpr` of normal rows is."""

    by: Literal["conformal", "radius"]
    threshold: float
    target_fpr: float
    n_calibration: int


class Result(_Answer):
    """Score of one row, or why it has none."""

    name: str | None = Field(description="File name that the upload came with.")
    anomaly_score: float | None = Field(description="Higher = more anomalous.")
    p_value: float | None = Field(description="Share of normal rows expected to score at least as high.")
    is_anomaly: bool | None
    error: str | None = Field(description="Why the row has no score.")
    heatmap: str | None = Field(default=None, description="PNG as a data URI.")


class ScoreAnswer(_Answer):
    """One result for each row, in order."""

    model: str
    version: str
    decision: Decision
    n_rows: int
    n_anomalies: int
    n_errors: int
    results: list[Result]
    heatmap_problem: str | None = Field(default=None, description="Why there are no heat-maps.")


class ModelInput(_Answer):
    """What a model takes."""

    kind: Literal["image", "vector"]
    shape: list[int] = Field(description="(height, width, channels) or (features).")
    datatype: Literal["UINT8", "FP32", "FP64"]
    feature_names: list[str] | None
    files: bool = Field(description="Whether image files can be uploaded.")


class ServedModelAnswer(_Answer):
    """One model."""

    name: str
    version: str
    ready: bool
    problem: str | None = Field(description="Why it does not score.")
    detector: str
    input: ModelInput
    decision: Decision
    health: Literal["ok", "warning", "critical"]
    created: str


class Models(_Answer):
    """All models."""

    models: list[ServedModelAnswer]


def _error(text: str, *headers: str) -> dict[str, Any]:
    described = {name: {"schema": {"type": "string"}} for name in headers}
    return {"model": ErrorAnswer, "description": text, **({"headers": described} if described else {})}


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: _error("The API key is missing or wrong.", "WWW-Authenticate"),
    429: _error("Too many requests from this address.", "Retry-After"),
    500: _error("The service failed; its log says why."),
}
_NO_MODEL: dict[int | str, dict[str, Any]] = {
    404: _error("There is no such model or version."),
    422: _error("A parameter is not as described here."),
}
_BODY: dict[int | str, dict[str, Any]] = {
    400: _error("The body is no JSON, or no form, as its content type says."),
    404: _error("There is no such model or version."),
    408: _error("The body did not arrive in time."),
    413: _error("The body is too large, or has too many rows."),
    415: _error("The content type is none that this model takes."),
    422: _error("The body does not fit the model."),
    503: _error("The model does not score, or too much waits already.", "Retry-After"),
}
_V2, _SCORING, _SERVICE = ["Open Inference Protocol"], ["Scoring"], ["Service"]


def _route(
    summary: str, tags: list[str], answers: dict[int | str, dict[str, Any]], *refusals: dict[int | str, dict[str, Any]], **more: Any
) -> dict[str, Any]:
    responses = dict(answers)
    for some in (*refusals, _REFUSALS):
        responses |= some
    return {"summary": summary, "tags": tags, "responses": responses, **more}


PAGE = _route("Page to score an image on", _SERVICE, {200: {"description": "HTML."}}, response_class=HTMLResponse)
OPENAPI = _route("This document", _SERVICE, {200: {"description": "OpenAPI 3.1."}})
METRICS = _route("Prometheus metrics", _SERVICE, {200: {"description": "Text format 0.0.4."}}, response_class=PlainTextResponse)
MODELS = _route("Models and what they take", _SERVICE, {200: {"model": Models}})
SERVER = _route("Server metadata", _V2, {200: {"model": ServerMetadata}})
LIVE = _route("Whether the process answers", _V2, {200: {"model": Live}})
READY = _route("Whether every model scores", _V2, {200: {"model": Ready}, 503: {"model": Ready, "description": "One does not."}})
METADATA = _route("Model metadata", _V2, {200: {"model": ModelMetadata}}, _NO_MODEL)
MODEL_READY = _route(
    "Whether a model scores", _V2, {200: {"model": ModelReady}, 503: {"model": ModelReady, "description": "It does not."}}, _NO_MODEL
)

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"enum": ["images", "x"], "description": "As the model's metadata says."},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 4},
        "datatype": {"enum": ["UINT8", "FP32", "FP64"]},
        "parameters": {"type": "object"},
        "data": {"type": "array", "minItems": 1, "description": "Values in row-major order, flat or nested as the shape says."},
    },
}
_INFER_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"], "description": "Comes back with the answer."},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1, "maxItems": 1},
        "outputs": {
            "type": ["array", "null"],
            "description": "Outputs wanted; all if there is none.",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"enum": ["anomaly_score", "p_value", "is_anomaly"]}, "parameters": {"type": "object"}},
            },
        },
    },
}
INFER = _route(
    "Score a tensor",
    _V2,
    {200: {"model": InferAnswer}},
    _BODY,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _INFER_REQUEST}}}},
)

_FILE = {"type": "string", "format": "binary"}
_UPLOAD = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["images"],
            "properties": {"images": {"type": "array", "items": _FILE, "minItems": 1, "description": "Encoded images, as many fields."}},
        }
    },
    "application/octet-stream": {"schema": _FILE},
}
_NUMBER = {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST}
SCORE = _route(
    "Score images or rows",
    _SCORING,
    {200: {"model": ScoreAnswer}, 207: {"model": ScoreAnswer, "description": "Some rows could not be read; their results say why."}},
    _BODY,
    description="Images as files of a form (any field name), or one image as the body (application/octet-stream or image/*);"
    " rows of numbers as JSON. An image that cannot be read is a result with an error, and the status is 207.",
)


def scoring_routes() -> list[BaseRoute]:
    """Return routes that describe those that take rows; the application answers them by routes of its own."""
    described = APIRouter()

    async def of_query(
        model: Annotated[str | None, Query(description="Name of the model; not needed where only one is served.")] = None,
        version: Annotated[str | None, Query(description="Version of the model; the newest if not given.")] = None,
        heatmap: Heatmap = False,
    ) -> None: ...

    async def of_newest(name: Name, heatmap: Heatmap = False) -> None: ...

    async def of_version(name: Name, version: Version, heatmap: Heatmap = False) -> None: ...

    async def infer_newest(name: Name) -> None: ...

    async def infer_version(name: Name, version: Version) -> None: ...

    described.add_api_route("/score", of_query, methods=["POST"], **SCORE)
    described.add_api_route("/models/{name}/score", of_newest, methods=["POST"], **SCORE)
    described.add_api_route("/models/{name}/versions/{version}/score", of_version, methods=["POST"], **SCORE)
    described.add_api_route("/v2/models/{name}/infer", infer_newest, methods=["POST"], **INFER)
    described.add_api_route("/v2/models/{name}/versions/{version}/infer", infer_version, methods=["POST"], **INFER)
    return described.routes


def openapi(app: FastAPI, registry: Registry, settings: Settings) -> dict[str, Any]:
    """Return the document for the models served now."""
    made = get_openapi(
        title="insphere",
        version=app.version,
        description="Scores images and rows of numbers by how far they are from what is normal.",
        routes=[*scoring_routes(), *app.routes],
    )
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if path.endswith("/score"):
                operation["requestBody"] = {"required": True, "content": _score_bodies(registry, settings, alone=path == "/score")}
            _fill(operation, path, registry)
    if settings.api_key is not None:
        _add_security(made)
    else:
        for operations in made["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("401", None)
    return made


def _fill(operation: dict[str, Any], path: str, registry: Registry) -> None:
    """Name the models where the path takes them as a parameter of the query."""
    for parameter in operation.get("parameters", []):
        if path == "/score" and parameter["name"] == "model":
            parameter["schema"] = {"enum": registry.names}
            parameter["required"] = len(registry.names) > 1
        if path == "/score" and parameter["name"] == "version":
            parameter["schema"] = {"enum": sorted({version for name in registry.names for version in registry.versions(name)})}


def _score_bodies(registry: Registry, settings: Settings, *, alone: bool) -> dict[str, Any]:
    """Return what the scoring routes take: with one model, what that model takes."""
    models = [slot.model for slot in registry.slots()]
    bodies: dict[str, Any] = {}
    if any(model.refuses_files is None for model in models):
        bodies |= _UPLOAD
    if any(not model.is_image for model in models):
        rows: dict[str, Any] = {"type": "array", "minItems": 1, "maxItems": settings.max_rows}
        bodies["application/json"] = {"schema": _rows_schema(rows, [model for model in models if not model.is_image])}
    return bodies or {"application/json": {"schema": {"type": "object", "required": ["rows"]}}}


def _rows_schema(rows: dict[str, Any], models: list[Any]) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = []
    for n_features in sorted({model.input_shape[0] for model in models}):
        kinds.append({"type": "array", "items": _NUMBER, "minItems": n_features, "maxItems": n_features})
    for names in {tuple(model.feature_names) for model in models if model.feature_names is not None}:
        named = {"type": "object", "required": list(names), "properties": dict.fromkeys(names, _NUMBER), "additionalProperties": False}
        kinds.append(named)
    items = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {"type": "object", "required": ["rows"], "properties": {"rows": {**rows, "items": items}}, "additionalProperties": False}


def _add_security(made: dict[str, Any]) -> None:
    from insphere.serving.limits import OPEN_PATHS

    made.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if path in OPEN_PATHS:
                operation["responses"].pop("401", None)
            else:
                operation["security"] = [{"key": []}, {"bearer": []}]
