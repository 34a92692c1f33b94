"""A route without FastAPI's handling, whose share of a short request is as large as all the rest."""

from collections.abc import Awaitable, Callable, Collection, Sequence

from fastapi import Request, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from insphere.errors import did_you_mean
from insphere.serving.answers import Refusal


class PlainRoute(Route):
    """A route that says, as FastAPI's do, which one it is: for the log and the metrics.

    Parameters
    ----------
    path : str
    answer : callable
        From a request to its response.
    methods : sequence of str
        All that it answers; HEAD is none of them by itself, as for FastAPI's routes.
    parameters : collection of str
        Query parameters that it takes; a request with another one, or one twice, is refused.
    """

    def __init__(
        self, path: str, answer: Callable[[Request], Awaitable[Response]], methods: Sequence[str], parameters: Collection[str] = ()
    ) -> None:
        async def checked(request: Request) -> Response:
            check_parameters(request, parameters)
            return await answer(request)

        super().__init__(path, checked, methods=methods)
        self.methods = set(methods)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for this route, and what is known of it then."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}


def check_parameters(request: Request, known: Collection[str]) -> None:
    """Refuse query parameters that would not be looked at: unknown ones, and one that is there twice.

    Raises
    ------
    Refusal
        422, with the parameters that there are.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            takes = f"the parameters {', '.join(sorted(known))}" if known else "no parameters"
            raise Refusal(422, f"The parameter {name[:50]!r} is unknown; this path takes {takes}.{did_you_mean(name[:50], known)}")
        if given.count(name) > 1:
            raise Refusal(422, f"The parameter {name} is there {given.count(name)} times; give it once.")
