"""The routes by which people see rows that wait for them, and say what they are."""

import re
from typing import Any

from fastapi import FastAPI, Request, Response

from insphere.decision.verdicts import VERDICTS
from insphere.errors import did_you_mean
from insphere.serving import document, page
from insphere.serving.answers import Refusal, as_json
from insphere.serving.document import MOST_SAID
from insphere.serving.feedback import Feedback
from insphere.serving.limits import body_of
from insphere.serving.models import ServedModel
from insphere.serving.plain_route import PlainRoute
from insphere.serving.service import Service, check_type
from insphere.serving.slot import Slot
from insphere.serving.uploads import read_json

_ROW_ID = re.compile(document.ROW_ID)


def add_feedback(app: FastAPI, service: Service) -> None:
    """Add the page and the routes of each model, where the service keeps a file of verdicts."""
    feedback, registry = service.feedback, service.registry
    if feedback is None:
        return

    @app.get("/feedback", **document.FEEDBACK_PAGE)
    async def show_page() -> Response:
        return page.answer("feedback.html")

    async def answer(request: Request) -> Response:
        slot = registry.find(request.path_params["name"], request.path_params.get("version"))
        if request.method == "POST":
            return await _noted(service, feedback, request, slot)
        return as_json(await feedback.told(slot.model, _limit(request)))

    # One route for both methods, so that what it answers others with names both.
    for path in ("/models/{name}/feedback", "/models/{name}/versions/{version}/feedback"):
        app.router.routes.append(PlainRoute(path, answer, methods=["GET", "POST"], parameters=("limit",)))


def _limit(request: Request) -> int:
    """Return how many rows a request asks to be shown."""
    text = request.query_params.get("limit", str(document.SHOWN))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= document.MOST_SHOWN:
        raise Refusal(422, f"The parameter limit must be a whole number from 1 to {document.MOST_SHOWN}.")
    return int(text)


async def _noted(service: Service, feedback: Feedback, request: Request, slot: Slot) -> Response:
    """Note verdicts; answer what became of each, and what all of them say now."""
    model = slot.model
    check_type(request, ("application/json",))
    async with body_of(request, service.settings, service.memory) as body:
        said = await service.read(_said, body, model)
    noted = await feedback.answer(model, said)
    results = [
        {"row_id": row, "verdict": word, "error": found.problem, "replaced": found.replaced}
        for (row, word), found in zip(said, noted, strict=True)
    ]
    n_errors, n_replaced = (sum(part is not None for part in parts) for parts in zip(*noted, strict=True))
    answer = {**await feedback.told(model, 0), "n_errors": n_errors, "n_replaced": n_replaced, "results": results}
    return as_json(answer, 207 if n_errors else 200)


def _said(body: bytes, model: ServedModel) -> list[tuple[str, str | None]]:
    """Return the row ids and words of ``{"verdicts": [{"row_id": ..., "verdict": ...}, ...]}``.

    Raises
    ------
    Refusal
        400 or 422, saying what is wrong and where; then nothing is noted.
    """
    content = read_json(body)
    entries = content.get("verdicts") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or len(content) != 1:
        raise Refusal(422, 'The body must be an object with a list of verdicts: {"verdicts": [{"row_id": "...", "verdict": "normal"}]}.')
    if len(entries) > MOST_SAID:
        raise Refusal(422, f"The body has {len(entries)} verdicts, more than the limit of {MOST_SAID}; send them in several requests.")
    return [_one(entry, number) for number, entry in enumerate(entries)]


def _one(entry: Any, number: int) -> tuple[str, str | None]:
    if not isinstance(entry, dict) or entry.keys() != {"row_id", "verdict"}:
        raise Refusal(422, f"Item {number} of verdicts must be an object with row_id and verdict, and nothing else.")
    row, word = entry["row_id"], entry["verdict"]
    if not isinstance(row, str) or not _ROW_ID.fullmatch(row):
        raise Refusal(422, f"The row_id of item {number} must be 16 of the digits 0-9 and a-f, as the answer of a score has it.")
    if word is not None and word not in VERDICTS:
        hint = did_you_mean(word[:40], VERDICTS) if isinstance(word, str) else ""
        raise Refusal(422, f"The verdict of item {number} must be {', '.join(VERDICTS)}, or null to take it back.{hint}")
    return row, word
