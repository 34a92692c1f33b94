"""What one client, and all together, may ask for: requests a second, bytes of a body, seconds to send it, memory."""

import asyncio
import collections
import hashlib
import hmac
import ipaddress
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.types import Scope

from insphere.serving.answers import Refusal, busy
from insphere.serving.settings import Settings

_MOST_CLIENTS = 10_000

OPEN_PATHS = frozenset({"/", "/feedback", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no API key: the pages themselves, the description of the service, and what an orchestrator asks."""


class RateLimit:
    """A token bucket for each client.

    Parameters
    ----------
    rate : float
        Requests a second on average; 0 sets no limit.
    burst : int
        Requests at once.
    clock : callable
        Seconds, increasing.

    Examples
    --------
    >>> limit = RateLimit(1.0, 2, clock=lambda: 0.0)
    >>> [limit.seconds_to_wait("a") for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        # Client -> (tokens left, when they were counted), the client seen longest ago first.
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def seconds_to_wait(self, client: str) -> float:
        """Return 0 and count a request of this client if it may be made now, else the seconds until it may."""
        if self._rate == 0:
            return 0.0
        now = self._clock()
        tokens, then = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate


class Gate:
    """Decides from the head of a request whether it is let in."""

    def __init__(self, settings: Settings) -> None:
        self._rate = RateLimit(settings.rate, settings.burst)
        self._hosts = None if settings.host_names is None else {name.lower() for name in ("localhost", *settings.host_names)}
        self._key = None if settings.api_key is None else _digest(settings.api_key.encode())

    def check(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused (421, 403, 429 or 401), or None."""
        headers = dict(scope["headers"])
        if refusal := self._from_elsewhere(headers, scope["method"]):
            return refusal
        client = scope.get("client")
        seconds = self._rate.seconds_to_wait(client[0] if client else "")
        if seconds:
            wait = {"Retry-After": str(math.ceil(seconds))}
            return Refusal(429, "Too many requests from this address; wait as long as Retry-After says.", wait)
        if self._key is None or scope["path"] in OPEN_PATHS or self._has_key(scope):
            return None
        text = "This service needs its API key in the header X-API-Key, or as Authorization: Bearer KEY."
        return Refusal(401, text, {"WWW-Authenticate": "Bearer"})

    def _from_elsewhere(self, headers: dict[bytes, bytes], method: str) -> Refusal | None:
        """Refuse what a page of another site makes a browser send: by a name that it made point here, or as a form."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._hosts is not None and host and not _is_known(host, self._hosts):
            return Refusal(421, "This service is not called by that name; call it by its address, or start it with --allow-host NAME.")
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        site = headers.get(b"sec-fetch-site")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        # What the browser says of itself goes first: a proxy may have changed the name of the host.
        foreign = site not in (b"same-origin", b"none") if site is not None else bool(origin) and origin.partition("://")[2] != host
        return Refusal(403, "A page of another site may not send rows here; send them from the service's own page.") if foreign else None

    def _has_key(self, scope: Scope) -> bool:
        given = b""
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                given = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                given = given or value[7:].strip()
        # Digests, because comparing texts of unlike lengths tells how long the key is.
        return hmac.compare_digest(_digest(given), self._key or b"")


class Memory:
    """Bytes that the bodies of all requests in flight may take together.

    Parameters
    ----------
    max_bytes : int
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._taken = max_bytes, 0

    @property
    def taken(self) -> int:
        """Bytes taken now."""
        return self._taken

    def take(self, n_bytes: int) -> None:
        """Take some bytes, or raise a `Refusal` (503) if there are not as many left."""
        if self._taken + n_bytes > self._max_bytes:
            raise busy("The service holds as many uploads as it may at a time; try again later.", 1)
        self._taken += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Give bytes back."""
        self._taken -= n_bytes


@asynccontextmanager
async def body_of(request: Request, settings: Settings, memory: Memory) -> AsyncIterator[bytes]:
    """Read the body of a request and hold its share of the memory inside the block.

    Raises
    ------
    Refusal
        413 if it is too large (by its declared length before a byte is read, else when the limit is passed), 408 if it has not
        arrived in time, 503 if there is no memory for it.
    """
    declared = request.headers.get("content-length", "")
    too_large = Refusal(413, f"The body has more than the limit of {settings.max_body_bytes:,} bytes; send fewer or smaller images.")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > settings.max_body_bytes):
        raise too_large
    chunks: list[bytes] = []
    taken = 0
    try:
        async with asyncio.timeout(settings.read_seconds):
            async for chunk in request.stream():
                if taken + len(chunk) > settings.max_body_bytes:
                    raise too_large
                memory.take(len(chunk))
                taken += len(chunk)
                chunks.append(chunk)
        yield b"".join(chunks)
    except TimeoutError as error:
        raise Refusal(408, f"The body did not arrive within {settings.read_seconds:g} seconds.") from error
    finally:
        memory.give_back(taken)


def _is_known(host: str, names: set[str]) -> bool:
    """Return whether the value of a Host header is a network address or one of some names, with or without a port.

    >>> [_is_known(host, {"localhost"}) for host in ("localhost:80", "127.0.0.1", "[::1]:8080", "evil.example")]
    [True, True, True, False]
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.removesuffix(".") in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
