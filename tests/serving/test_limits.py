"""Sizes, rates, keys and waiting times."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.detectors.base import AbstractDetector
from insphere.errors import ParameterError
from insphere.serving.limits import _MOST_CLIENTS, RateLimit
from insphere.serving.settings import Settings
from serving.conftest import digits, serving

KEY = "0123456789abcdef-key"


def test_a_client_may_burst_and_then_keeps_to_the_rate() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 3, clock=lambda: now[0])
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.seconds_to_wait("b") == 0
    now[0] = 0.5
    assert [limit.seconds_to_wait("a") for _ in range(2)] == [0, 0.5]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.floats(0.1, 20), st.integers(1, 10))
def test_never_more_than_burst_and_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    times = iter(list(itertools.accumulate(pauses)))
    limit = RateLimit(rate, burst, clock=lambda: next(times))
    allowed = sum(limit.seconds_to_wait("a") == 0 for _ in pauses)
    assert allowed <= burst + rate * sum(pauses[1:]) + 1e-6


def test_clients_are_forgotten_before_they_fill_the_memory() -> None:
    limit = RateLimit(1.0, 1, clock=lambda: 0.0)
    for number in range(_MOST_CLIENTS + 50):
        limit.seconds_to_wait(str(number))
    assert len(limit._buckets) == _MOST_CLIENTS


def test_too_many_requests_are_429(images: AbstractDetector) -> None:
    with serving({"digits": images}, rate=0.5, burst=3) as client:
        statuses = [client.get("/v2/health/live").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = client.get("/v2")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_too_large_a_body_is_413_whether_it_says_so_or_not(images: AbstractDetector) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 1024

    with serving({"digits": images}, max_body_bytes=20_000) as client:
        headers = {"Content-Type": "image/png"}
        for content in (b"x" * 20_001, pieces()):
            answer = client.post("/score", content=content, headers=headers)
            assert (answer.status_code, "20,000 bytes" in answer.json()["error"]) == (413, True)
        assert client.post("/score", content=b"x" * 20_000, headers=headers).status_code == 207


@pytest.mark.parametrize("length", ["9" * 30, "-1", "1e3", "0x10", "٣"])
def test_odd_lengths_are_no_trouble(images: AbstractDetector, length: str) -> None:
    with serving({"digits": images}) as client:
        headers = {"Content-Type": "image/png", "Content-Length": length.encode()}
        assert client.post("/score", content=digits(1)[0], headers=headers).status_code in (200, 413)  # type: ignore[arg-type]


def test_memory_for_bodies_is_shared_and_given_back(images: AbstractDetector) -> None:
    with serving({"digits": images}, max_body_bytes=50_000, max_buffered_bytes=50_000) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        service.memory.take(45_000)
        answer = client.post("/score", content=b"x" * 6_000, headers={"Content-Type": "image/png"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        service.memory.give_back(45_000)
        for _ in range(20):
            assert client.post("/score", content=b"x" * 6_000, headers={"Content-Type": "image/png"}).status_code == 207
        assert service.memory.taken == 0


def test_the_key_opens_and_nothing_else_does(images: AbstractDetector) -> None:
    with serving({"digits": images}, api_key=KEY) as client:
        for path in ("/models", "/metrics", "/v2/models/digits", "/v2", "/nothing"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "digits" not in answer.text
        assert client.post("/score", content=b"", headers={"X-API-Key": KEY[:-1]}).status_code == 401
        assert client.get("/v2", headers={"Authorization": f"Basic {KEY}"}).status_code == 401
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer  {KEY}"}):
            assert client.get("/v2/models/digits", headers=headers).status_code == 200
        for path in ("/", "/v2/health/live", "/v2/health/ready", "/openapi.json"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"api_key": "short"}, "at least 16"),
        ({"api_key": "with a space in it"}, "printable ASCII"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_buffered_bytes": 1024}, "max_buffered_bytes"),
        ({"rate": -1.0}, "rate"),
        ({"read_seconds": 0}, "read_seconds"),
        ({"max_pixels": 10**12}, "max_pixels"),
    ],
)
def test_settings_that_break_their_rules(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ParameterError, match=text) as raised:
        Settings(**settings)  # type: ignore[arg-type]
    assert str(settings.get("api_key", "no key")) not in str(raised.value)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(Settings(api_key=KEY))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "qa.example"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_pages_of_other_sites_send_nothing(vectors: AbstractDetector, headers: dict[str, str], status: int) -> None:
    with serving({"m": vectors}, host_names=("qa.example",)) as client:
        headers = {"Host": "127.0.0.1", **headers}
        assert client.post("/score", json={"rows": [[0, 0, 0]]}, headers=headers).status_code == status
        assert client.get("/models", headers=headers).status_code == (421 if status == 421 else 200)
