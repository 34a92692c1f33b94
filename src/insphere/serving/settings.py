"""How much a service takes on: sizes, rates, waiting times, and who may ask."""

import dataclasses
from pathlib import Path

from insphere.data.images import MAX_PIXELS
from insphere.errors import ParameterError
from insphere.validation import check_integer, check_number
from insphere.verdict_database import SUFFIXES

MEBIBYTE = 2**20


@dataclasses.dataclass(frozen=True)
class Settings:
    """Limits of a service; what is beyond one is refused with the status code that says so.

    Parameters
    ----------
    max_body_bytes : int
        Bytes of one request's body; more is answered with 413.
    max_pixels : int
        Pixels (height times width) an uploaded image may have to be decoded; more makes it an unreadable row.
    max_request_pixels : int
        Pixels of all images of one request together, by their headers; more is answered with 422 before any is decoded.
    max_rows : int
        Images or rows in one request; more is answered with 422.
    max_batch_rows : int
        Rows scored at once; requests that arrive together share a batch.
    max_wait_ms : float
        Milliseconds for which a batch waits for requests that are being decoded; 0 never waits.
    max_queue_rows : int
        Rows waiting for one model; beyond it requests are answered with 503 and `Retry-After`.
    max_buffered_bytes : int
        Bytes of all bodies held in memory at a time; beyond it requests are answered with 503 and `Retry-After`.
    max_connections : int
        Connections open at a time; beyond it requests are answered with 503.
    read_seconds : float
        Seconds in which a body must have arrived, else 408.
    header_seconds : float
        Seconds in which the head of a request must have arrived, else the connection is closed with 408.
    rate : float
        Requests a second of one client (network address), on average; beyond it 429 and `Retry-After`. 0 sets no limit.
    burst : int
        Requests that one client may make at once before `rate` applies.
    host_names : tuple of str, optional
        Names by which a request may call the service in its Host header, besides localhost and network addresses; others are answered
        with 421. None takes any. A name that an attacker's page makes point here (DNS rebinding) is none of them.
    api_key : str, optional
        Key that clients must send; never shown or logged. At least 16 printable ASCII characters.
    reload_seconds : float
        Seconds between looks at the model files; 0 never looks.
    load_seconds : float
        Seconds that loading a model file and scoring two rows may take, in a process of its own, before the model answers; what takes
        longer is refused. 0 loads without that process and without a limit.
    require_signature : Path, optional
        Public key without whose signature no model file is opened, at the start and later; see `insphere.signatures`.
    stop_seconds : float
        Seconds that requests in flight are given when the service stops.
    fdr : float, optional
        Share of false ones among the alarms of a window of rows of a model, at most, on average; see
        `insphere.decision.online.OnlineDiscoveries`. None raises no alarms.
    fdr_window : int
        Rows of such a window.
    feedback : Path, optional
        SQLite file in which rows wait for people to look at them, with what they say. None keeps none.
    draw : float, optional
        Share of the rows, in (0, 1], that is drawn for a look whatever it scores. Default: that of the file, 0.02 for a new one.

    Raises
    ------
    ParameterError
        If a value breaks its rule.

    Examples
    --------
    >>> Settings(rate=20.0).burst
    50
    """

    max_body_bytes: int = 32 * MEBIBYTE
    max_pixels: int = 25_000_000
    max_request_pixels: int = 100_000_000
    max_rows: int = 1024
    max_batch_rows: int = 64
    max_wait_ms: float = 4.0
    max_queue_rows: int = 4096
    max_buffered_bytes: int = 256 * MEBIBYTE
    max_connections: int = 1000
    read_seconds: float = 30.0
    header_seconds: float = 10.0
    rate: float = 0.0
    burst: int = 50
    host_names: tuple[str, ...] | None = None
    api_key: str | None = dataclasses.field(default=None, repr=False)
    reload_seconds: float = 2.0
    load_seconds: float = 60.0
    require_signature: Path | None = None
    stop_seconds: float = 30.0
    fdr: float | None = None
    fdr_window: int = 100
    feedback: Path | None = None
    draw: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("max_rows", "max_batch_rows", "max_queue_rows", "max_connections", "burst", "fdr_window"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("max_body_bytes", self.max_body_bytes, at_least=1024)
        check_integer("max_buffered_bytes", self.max_buffered_bytes, at_least=self.max_body_bytes)
        check_integer("max_pixels", self.max_pixels, at_least=1, at_most=MAX_PIXELS)
        check_integer("max_request_pixels", self.max_request_pixels, at_least=self.max_pixels)
        for name in ("max_wait_ms", "rate", "reload_seconds", "load_seconds", "stop_seconds"):
            check_number(name, getattr(self, name), at_least=0)
        for name in ("read_seconds", "header_seconds"):
            check_number(name, getattr(self, name), above=0)
        if self.api_key is not None:
            check_api_key(self.api_key)
        if self.fdr is not None:
            check_number("fdr", self.fdr, above=0, below=1)
        self._check_feedback()

    def _check_feedback(self) -> None:
        if self.draw is not None:
            check_number("draw", self.draw, above=0, at_most=1)
        if self.feedback is None and self.draw is not None:
            raise ParameterError("`--draw` needs a file to keep the drawn rows in; name one with --feedback FILE.sqlite.")
        if self.feedback is not None and self.feedback.suffix.lower() not in SUFFIXES:
            raise ParameterError(f"The file for --feedback must end in {', '.join(SUFFIXES)}, got {self.feedback.name!r}; name it so.")


def check_api_key(key: str) -> str:
    """Return `key` if it is one that can be sent in a header and is not guessed in passing.

    Raises
    ------
    ParameterError
        If it is too short or has other characters. The message never holds the key.

    Examples
    --------
    >>> check_api_key("secret")
    Traceback (most recent call last):
    insphere.errors.ParameterError: The API key must have at least 16 characters, got 6; make one with: openssl rand -hex 32
    """
    if not all("!" <= character <= "~" for character in key):
        raise ParameterError("The API key must be printable ASCII without spaces; make one with: openssl rand -hex 32")
    if len(key) < 16:
        raise ParameterError(f"The API key must have at least 16 characters, got {len(key)}; make one with: openssl rand -hex 32")
    return key
