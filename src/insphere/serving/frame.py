"""What happens around every request: identity, log line, metrics, security headers, and an end that the client gets to read."""

import asyncio
import logging
import re
import time
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from insphere.serving.answers import Refusal
from insphere.serving.limits import Gate
from insphere.serving.metrics import Metrics

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CLOSED_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 * 2**20
_CLIENT_LEFT = 499  # no status of the protocol; the usual number in logs for a client that did not wait

_log = logging.getLogger("insphere.serving")


class Frame:
    """The outermost layer of the application.

    Parameters
    ----------
    app : ASGI application
    gate : Gate
        Says who is let in.
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics) -> None:
        self._app, self._gate, self._metrics = app, gate, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        self._metrics.in_flight.inc()
        try:
            refusal = self._gate.check(scope)
            await (self._app if refusal is None else refusal.answer())(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _CLIENT_LEFT
        except Exception:
            _log.exception("request failed", extra={"facts": {"request_id": exchange.request_id}})
            if exchange.status == 0:
                text = f"The service failed on this request; its log says why, under the request id {exchange.request_id}."
                await Refusal(500, text).answer()(scope, exchange.receive, exchange.send)
        finally:
            self._metrics.in_flight.dec()
            self._tell(scope, exchange)

    def _tell(self, scope: Scope, exchange: "_Exchange") -> None:
        seconds = time.monotonic() - exchange.began
        # The template of the path, never the path: that would be the client's to fill the log and the metrics with.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.answered(method, route, exchange.status, seconds)
        client = scope.get("client")
        facts = {
            "request_id": exchange.request_id,
            "client": client[0] if client else None,
            "method": method,
            "route": route,
            "status": exchange.status,
            "seconds": round(seconds, 6),
            "bytes_in": exchange.n_bytes,
        }
        _log.info("request", extra={"facts": facts | scope.get("state", {}).get("facts", {})})


class _Exchange:
    """One request and its response, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        self.request_id = given.decode("ascii") if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.began = time.monotonic()
        self.status = self.n_bytes = 0
        self._receive, self._send = receive, send
        # With Expect: 100-continue the client sends its body only when it is asked for.
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        self._body_comes = has_body and b"expect" not in headers

    async def receive(self) -> Message:
        """Pass a message on, counting bytes."""
        message = await self._receive()
        self.n_bytes += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._body_comes = False
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on; the first with more headers, the last only after what the client is still sending has been read."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._extra_headers(message["headers"])]}
        elif self._body_comes and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _extra_headers(self, present: Any) -> list[tuple[bytes, bytes]]:
        names = {name for name, _ in present}
        extra = [header for header in (*_HEADERS, _CLOSED_POLICY) if header[0] not in names]
        extra.append((b"x-request-id", self.request_id.encode()))
        if self._body_comes:
            extra.append((b"connection", b"close"))
        return extra

    async def _linger(self) -> None:
        """Read on for a moment: a connection closed on a client that is still sending loses the answer it has not yet read."""
        most = self.n_bytes + _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self._body_comes and self.n_bytes < most:
                    await self.receive()
        except TimeoutError:
            return
