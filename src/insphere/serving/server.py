"""The process: a socket, signals, and what an HTTP server must do that an application cannot."""

import asyncio
import logging
import signal
import socket
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from insphere.errors import InsphereError
from insphere.serving.settings import Settings

_MOST_HEAD_BYTES = 64 * 1024
_KEEP_ALIVE_SECONDS = 30
_LINGER_SECONDS = 1.0

_log = logging.getLogger("insphere.serving")


class AddressError(InsphereError, OSError):
    """The service cannot listen at the address asked for."""


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 with a limit on how long, and how large, the head of a request may be: before it is whole, no application is asked."""

    header_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None
    _n_head_bytes = 0
    _n_field_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._n_field_bytes = 0
        if self._timer is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        # A head that comes in one piece with its end is counted here, one whose end does not come in `data_received`.
        if self._n_field_bytes > _MOST_HEAD_BYTES:
            self._refuse_head()
        else:
            super().on_headers_complete()

    def on_url(self, url: bytes) -> None:
        self._n_field_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._n_field_bytes += len(name) + len(value) + 4  # colon, space and line end
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._timer is None:
            return
        self._n_head_bytes += len(data)
        if self._n_head_bytes > _MOST_HEAD_BYTES:
            self._refuse_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def _begin_head(self) -> None:
        self._n_head_bytes = 0
        self._timer = self.loop.call_later(self.header_seconds, self._head_is_late)

    def _end_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self._n_head_bytes:
            self._refuse(b"408 Request Timeout", b"The head of the request did not arrive in time.")
        else:  # a connection opened in advance, as browsers do, and never used
            self.transport.close()

    def _refuse_head(self) -> None:
        self._refuse(b"431 Request Header Fields Too Large", b"The head of the request is too large.")

    def _refuse(self, status: bytes, text: bytes) -> None:
        self._end_head()
        if not self.transport.is_closing():
            body = b'{"error":"' + text + b'"}'
            head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
            self.transport.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            # Not at once: closed on a client that is still sending, the connection would lose what it has not yet read.
            self._refused = True
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 takes a free one.

    Raises
    ------
    AddressError
        If that cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise AddressError(f"The service cannot listen at {host} port {port}: {why}; choose another with --port or --host.") from error


def run(app: FastAPI, listener: socket.socket, *, trusted_proxies: str = "") -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is in flight. SIGHUP loads all models again.

    Parameters
    ----------
    app : FastAPI
        What `make_app` returned.
    listener : socket
        What `listen` returned.
    trusted_proxies : str
        Addresses, with commas between, whose X-Forwarded-For header says who the client is.
    """
    settings: Settings = app.state.service.settings
    config = uvicorn.Config(
        app,
        http=cast(Any, type("_ProtocolOfThisService", (_Protocol,), {"header_seconds": settings.header_seconds})),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
    )
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # The server handles these two itself while it runs, and raises them again when it has stopped: a wish fulfilled is not a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: app.state.service.watcher.ask())
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    models = [f"{slot.model.name}@{slot.model.version}" for slot in app.state.service.registry.slots()]
    _log.info("serving", extra={"facts": {"url": f"http://{shown}:{port}/", "models": models}})
    server.run(sockets=[listener])
    _log.info("stopped")
