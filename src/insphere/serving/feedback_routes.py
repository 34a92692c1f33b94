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

    async def of_newest(name: document.Name, limit: document.Limit = document.SHOWN) -> Response:
        return as_json(await feedback.told(registry.find(name).model, limit))

    async def of_version(name: document.Name, version: document.Version, limit: document.Limit = document.SHOWN) -> Response:
        return as_json(await feedback.told(registry.find(name, version).model, limit))

    async def say_of_newest(request: Request, name: document.Name) -> Response:
        return await _noted(service, feedback, request, registry.find(name))

    async def say_of_version(request: Request, name: document.Name, version: document.Version) -> Response:
        return await _noted(service, feedback, request, registry.find(name, version))

    for path, show, say in (
        ("/models/{name}/feedback", of_newest, say_of_newest),
        ("/models/{name}/versions/{version}/feedback", of_version, say_of_version),
    ):
        app.add_api_route(path, show, methods=["GET"], **document.FEEDBACK)
        app.add_api_route(path, say, methods=["POST"], **document.SAY)


async def _noted(service: Service, feedback: Feedback, request: Request, slot: Slot) -> Response:
    """Note verdicts; answer what became of each, and what all of them say now."""
    model = slot.model
    check_type(request, ("application/json",))
    async with body_of(request, service.settings, service.memory) as body:
        said = await service.read(_said, body, model)
    problems = await feedback.answer(model, said)
    results = [{"row_id": row, "verdict": word, "error": problem} for (row, word), problem in zip(said, problems, strict=True)]
    n_errors = sum(problem is not None for problem in problems)
    answer = {**await feedback.told(model, 0), "n_errors": n_errors, "results": results}
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
