"""The OpenAPI document: what each route takes and answers, true for the models that are served."""

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from insphere.decision.verdicts import VERDICTS
from insphere.serving.answer_schemas import (
    ANSWERS,
    ErrorAnswer,
    FeedbackAnswer,
    InferAnswer,
    Live,
    ModelMetadata,
    ModelReady,
    Models,
    Ready,
    SaidAnswer,
    ScoreAnswer,
    ServerMetadata,
)
from insphere.serving.discovering import PARAMETER, least_rate
from insphere.serving.heatmap import MOST_HEATMAPS
from insphere.serving.inference import LARGEST, datatypes, input_name
from insphere.serving.models import ServedModel
from insphere.serving.registry import Registry
from insphere.serving.settings import Settings

Name = Annotated[str, Path(description="Name of a model; GET /models lists them.")]
Version = Annotated[str, Path(description="Version of the model.")]
Heatmap = Annotated[
    bool,
    Query(description=f"Whether each image (the first {MOST_HEATMAPS} at most) gets a picture of where it is anomalous. Slow."),
]


def _json(model: type[BaseModel], description: str = "As asked.") -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}}


def _error(text: str, *headers: str) -> dict[str, Any]:
    described = {name: {"schema": {"type": "string"}} for name in headers}
    return {**_json(ErrorAnswer, text), **({"headers": described} if described else {})}


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: _error("The API key is missing or wrong.", "WWW-Authenticate"),
    429: _error("Too many requests from this address.", "Retry-After"),
    500: _error("The service failed; its log says why."),
}
_NO_MODEL: dict[int | str, dict[str, Any]] = {
    404: _error("There is no such model or version."),
    503: _error("The model's file is being tried, or was refused.", "Retry-After"),
    422: _error("A parameter is not as described here."),
}
_BODY: dict[int | str, dict[str, Any]] = {
    400: _error("The body is not JSON, or not a form, as its content type says."),
    404: _error("There is no such model or version."),
    408: _error("The body did not arrive in time."),
    413: _error("The body has too many bytes."),
    415: _error("The content type is none that this model takes."),
    422: _error("The body does not fit the model, or has too many rows or images."),
    503: _error("The model does not score, or too much waits already.", "Retry-After"),
}


def _text(media_type: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


_V2, _SCORING, _SERVICE, _FEEDBACK = ["Open Inference Protocol"], ["Scoring"], ["Service"], ["Feedback"]


def _route(
    summary: str, tags: list[str], answers: dict[int | str, dict[str, Any]], *refusals: dict[int | str, dict[str, Any]], **more: Any
) -> dict[str, Any]:
    responses = dict(answers)
    for some in (*refusals, _REFUSALS):
        responses |= some
    # The plain class, because FastAPI would else call every answer, refusals too, by the type of the first.
    return {"summary": summary, "tags": tags, "responses": responses, "response_class": Response, **more}


PAGE = _route("Page to score an image on", _SERVICE, {200: _text("text/html", "HTML.")})
OPENAPI = _route("This document", _SERVICE, {200: {"description": "OpenAPI 3.1."}})
METRICS = _route("Prometheus metrics", _SERVICE, {200: _text("text/plain", "Text format 0.0.4.")})
MODELS = _route("Models and what they take", _SERVICE, {200: _json(Models)})
SERVER = _route("Server metadata", _V2, {200: _json(ServerMetadata)})
LIVE = _route("Whether the process answers", _V2, {200: _json(Live)})
READY = _route(
    "Whether every model scores",
    _V2,
    {200: _json(Ready), 503: _json(Ready, "One does not, or those there at the start are still being loaded.")},
)
METADATA = _route("Model metadata", _V2, {200: _json(ModelMetadata)}, _NO_MODEL)
MODEL_READY = _route(
    "Whether a model scores",
    _V2,
    _NO_MODEL | {200: _json(ModelReady), 503: _json(ModelReady, "It does not.")},
)

SHOWN, MOST_SHOWN, MOST_SAID = 12, 50, 1024
ROW_ID = "^[0-9a-f]{16}$"
Limit = Annotated[int, Query(ge=1, le=MOST_SHOWN, description="Rows to show at most.")]
_IN_TROUBLE: dict[int | str, dict[str, Any]] = {
    503: _error("The file of verdicts cannot be read or written now, or the model is being loaded.", "Retry-After")
}
_SAID = {
    "type": "object",
    "required": ["row_id", "verdict"],
    "additionalProperties": False,
    "properties": {
        "row_id": {"type": "string", "pattern": ROW_ID},
        "verdict": {"enum": [*VERDICTS, None], "description": "What it is found to be; null takes back what was said."},
    },
}
_VERDICTS = {"type": "array", "minItems": 1, "maxItems": MOST_SAID, "items": _SAID}
_VERDICTS_BODY = {"type": "object", "required": ["verdicts"], "additionalProperties": False, "properties": {"verdicts": _VERDICTS}}
FEEDBACK_PAGE = _route("Page to look at rows and say what they are", _FEEDBACK, {200: _text("text/html", "HTML.")})
FEEDBACK = _route("What verdicts say, and which rows wait for one", _FEEDBACK, {200: _json(FeedbackAnswer)}, _NO_MODEL, _IN_TROUBLE)
SAY = _route(
    "Say what rows are",
    _FEEDBACK,
    {200: _json(SaidAnswer), 207: _json(SaidAnswer, "Some verdicts are not noted; their results say why.")},
    _BODY,
    _IN_TROUBLE,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _VERDICTS_BODY}}}},
)

INFER = _route(
    "Score a tensor",
    _V2,
    {200: _json(InferAnswer)},
    _BODY,
    description="Requests of one and two rows are described here; those of more are like them.",
)

_DESCRIBED_ROWS = (1, 2)  # a schema cannot say that the shape's first number is the number of rows in the data
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


def _number(largest: float) -> dict[str, Any]:
    return {"type": "number", "minimum": -largest, "maximum": largest}


_NUMBER = _number(LARGEST["FP64"])
SCORE = _route(
    "Score images or rows",
    _SCORING,
    {
        200: _json(ScoreAnswer),
        207: _json(ScoreAnswer, "Some rows could not be read; their results say why."),
    },
    _BODY,
    description="Images as files of a form, in fields called images, or one image as the body (application/octet-stream or image/*);"
    " rows of numbers as JSON. An image that cannot be read is a result with an error, and the status is 207.",
)


def _routes_of_models(registry: Registry, *, has_feedback: bool) -> list[BaseRoute]:
    """Return routes that describe those that take rows or verdicts, each with its model's own name and body.

    The application answers them by routes of its own, in which the name is a variable.
    """
    described = APIRouter()

    async def score(heatmap: Heatmap = False) -> None: ...

    async def infer() -> None: ...

    async def feedback(limit: Limit = SHOWN) -> None: ...

    async def say() -> None: ...

    for name in registry.names:
        newest = registry.find(name).model
        places = [(f"/{name}", newest)]
        places += [(f"/{name}/versions/{version}", registry.find(name, version).model) for version in registry.versions(name)]
        for place, model in places:
            described.add_api_route(f"/models{place}/score", score, methods=["POST"], openapi_extra=_scored(model), **SCORE)
            described.add_api_route(f"/v2/models{place}/infer", infer, methods=["POST"], openapi_extra=_body(_infer_body(model)), **INFER)
            if has_feedback:
                described.add_api_route(f"/models{place}/feedback", feedback, methods=["GET"], **FEEDBACK)
                described.add_api_route(f"/models{place}/feedback", say, methods=["POST"], **SAY)
        if len(registry.names) == 1:
            described.add_api_route("/score", score, methods=["POST"], openapi_extra=_scored(newest), **SCORE)
    return described.routes


def openapi(app: FastAPI, registry: Registry, settings: Settings) -> dict[str, Any]:
    """Return the document for the models served now."""
    made = get_openapi(
        title="insphere",
        version=app.version,
        description="Scores images and rows of numbers by how far they are from what is normal.",
        routes=[*_routes_of_models(registry, has_feedback=settings.feedback is not None), *app.routes],
    )
    _, schemas = models_json_schema([(model, "serialization") for model in ANSWERS], ref_template="#/components/schemas/{model}")
    made["components"] = {"schemas": schemas["$defs"]}
    if settings.api_key is not None:
        _add_security(made)
        return made
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("401", None)
    return made


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _rows_of_words(model: ServedModel, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schema of a row by names in which columns of words are as they are, where the model has such."""
    if not model.one_hot:
        return []
    indicators = {name for entry in model.one_hot for name in entry.names}
    plain = {name: value for name, value in values.items() if name not in indicators}
    words = {entry.column: {"type": ["string", "number"], "examples": list(entry.values[:3])} for entry in model.one_hot}
    both = plain | words
    return [{"type": "object", "required": list(both), "properties": both, "additionalProperties": False}]


def _scored(model: ServedModel) -> dict[str, Any]:
    """Return body and parameters of the scoring routes for this model."""
    what = "Also call anomalies so that at most this share of those called is false, on average over requests (Benjamini–Hochberg)."
    rate = {"type": "number", "minimum": least_rate(model), "exclusiveMaximum": 1}
    parameters = [{"name": PARAMETER, "in": "query", "description": what, "schema": rate}]
    known = model.detector.decision_.categories
    if known is not None:
        what = "Camera, product or shift that all rows are from; left out: judged by all together."
        parameters.append({"name": "category", "in": "query", "description": what, "schema": {"enum": list(known.names)}})
    return _body(_score_body(model)) | {"parameters": parameters}


def _request_parameters(model: ServedModel) -> dict[str, Any]:
    """Return the schema of the parameters of a request of the protocol: those that are unknown are not looked at."""
    known = model.detector.decision_.categories
    if known is None:
        return {"type": "object", "properties": {"category": False}}
    what = "Camera, product or shift that all rows are from; left out: judged by all together."
    return {"type": "object", "properties": {"category": {"enum": list(known.names), "description": what}}}


def _score_body(model: ServedModel) -> dict[str, Any]:
    """Return what the scoring routes take for this model."""
    if model.refuses_files is None:
        return _UPLOAD
    if model.is_image:  # no upload is taken: tensors only
        return {"application/json": {"schema": False}}
    n_features, names = model.input_shape[0], model.feature_names
    row: dict[str, Any] = {"type": "array", "items": _NUMBER, "minItems": n_features, "maxItems": n_features}
    if model.may_be_missing:
        row |= {"items": False, "prefixItems": [_value(model, feature) for feature in range(n_features)]}
    if names is not None:
        values = {name: _value(model, feature) for feature, name in enumerate(names)}
        named = {"type": "object", "required": names, "properties": values, "additionalProperties": False}
        row = {"anyOf": [row, named, *_rows_of_words(model, values)]}
    rows = {"type": "array", "minItems": 1, "maxItems": model.max_rows, "items": row}
    bodies: list[dict[str, Any]] = [
        {"type": "object", "required": [name], "properties": {name: rows}, "additionalProperties": False} for name in ("rows", "data")
    ]
    if names is not None:
        # In the model's order, because a schema cannot say that the values follow the columns.
        columns = {"const": names, "description": "Names of the rows' values, in any order; rows may then be in that order."}
        bodies += [
            {**body, "required": [*body["required"], "columns"], "properties": body["properties"] | {"columns": columns}} for body in bodies
        ]
    schema = {"anyOf": bodies}
    return {"application/json": {"schema": schema}}


def _value(model: ServedModel, feature: int) -> dict[str, Any]:
    """Return what a feature's value may be: null too where it may be missing."""
    return (
        {"type": ["number", "null"], **{key: bound for key, bound in _NUMBER.items() if key != "type"}}
        if (feature in model.may_be_missing)
        else _NUMBER
    )


def _infer_body(model: ServedModel) -> dict[str, Any]:
    """Return what the protocol's route takes for this model."""
    wanted = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": ["anomaly_score", "p_value", "is_anomaly"]}, "parameters": {"type": "object"}},
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Comes back with the answer."},
            "parameters": _request_parameters(model),
            "inputs": {"type": "array", "items": {"anyOf": list(_tensors(model))}, "minItems": 1, "maxItems": 1},
            "outputs": {"type": ["array", "null"], "items": wanted, "description": "Outputs wanted; all if there is none."},
        },
    }
    return {"application/json": {"schema": schema}}


def _tensors(model: ServedModel) -> Iterator[dict[str, Any]]:
    for n_rows, datatype in itertools.product(_DESCRIBED_ROWS, datatypes(model)):
        shape, n_values = [n_rows, *model.input_shape], n_rows * math.prod(model.input_shape)
        largest = LARGEST.get(datatype)
        value = {"type": "integer", "minimum": 0, "maximum": 255} if largest is None else _number(largest)
        yield {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"const": input_name(model)},
                "shape": {"const": shape},
                "datatype": {"const": datatype},
                "parameters": {"type": "object"},
                "data": {
                    "type": "array",
                    "items": value,
                    "minItems": n_values,
                    "maxItems": n_values,
                    "description": "Values in row-major order; they may also be nested as the shape says.",
                },
            },
        }


def _add_security(made: dict[str, Any]) -> None:
    from insphere.serving.limits import OPEN_PATHS

    made["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if path in OPEN_PATHS:
                operation["responses"].pop("401", None)
            else:
                operation["security"] = [{"key": []}, {"bearer": []}]
