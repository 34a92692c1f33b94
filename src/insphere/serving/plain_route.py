"""A route without FastAPI's handling, whose share of a short request is as large as all the rest."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request, Response
from starlette.routing import Match, Route
from starlette.types import Scope


class PlainRoute(Route):
    """A route that says, as FastAPI's do, which one it is: for the log and the metrics.

    Parameters
    ----------
    path : str
    answer : callable
        From a request to its response.
    methods : sequence of str
        All that it answers; HEAD is none of them by itself, as for FastAPI's routes.
    """

    def __init__(self, path: str, answer: Callable[[Request], Awaitable[Response]], methods: Sequence[str]) -> None:
        super().__init__(path, answer, methods=methods)
        self.methods = set(methods)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for this route, and what is known of it then."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}
