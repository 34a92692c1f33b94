"""What goes back to a client: JSON, and one shape of error for everything that is refused."""

import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import Response


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """A request is answered with an error: its status, one sentence for the client, and headers such as `Retry-After`."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})

    def answer(self) -> Response:
        """Return the response: ``{"error": text}``, the shape that the Open Inference Protocol has for errors."""
        return as_json({"error": self.text}, self.status, self.headers)


def busy(text: str, seconds: float) -> Refusal:
    """Return the refusal of what would be welcome later: 503 with `Retry-After`."""
    return Refusal(503, text, {"Retry-After": str(max(1, math.ceil(seconds)))})


def as_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `content` as a JSON response; numbers keep all their digits."""
    return Response(json.dumps(content, allow_nan=False, separators=(",", ":")), status, headers, "application/json")


def finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it.

    Examples
    --------
    >>> finite(float("inf")) is None
    True
    """
    return value if math.isfinite(value) else None
