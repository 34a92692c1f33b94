"""The process: signals, slow and rude clients, many at once."""

import concurrent.futures
import http.client
import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from insphere.cli import main
from insphere.detectors.base import AbstractDetector
from insphere.serving.server import AddressError, listen
from serving.conftest import Process, digits, running


def as_form(data: bytes) -> tuple[bytes, dict[str, str]]:
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + data + b"\r\n--x--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=x"}


def post(started: Process, data: bytes) -> tuple[int, Any]:
    body, headers = as_form(data)
    connection = http.client.HTTPConnection("127.0.0.1", started.port, timeout=20)
    connection.request("POST", "/models/digits/score", body, headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def talk(started: Process, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces over a bare connection, and return all that comes back until it is closed."""
    with socket.create_connection(("127.0.0.1", started.port), timeout=20) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_fifty_clients_at_once_get_the_scores_of_the_library(process: Process, images: AbstractDetector, tmp_path: Path) -> None:
    files = digits(50)
    for number, data in enumerate(files):
        (tmp_path / f"{number:02}.png").write_bytes(data)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda data: post(process, data), files * 4))
    assert {status for status, _ in answers} == {200}
    scores = [content["results"][0]["anomaly_score"] for _, content in answers]
    assert scores == images.anomaly_score(str(tmp_path)).tolist() * 4


def test_a_client_that_sends_its_body_too_slowly_gets_408(process: Process) -> None:
    head = b"POST /models/digits/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    began = time.monotonic()
    answer = talk(process, head, *[b"x"] * 4, pause=0.5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 1.5 seconds" in answer
    assert time.monotonic() - began < 20


def test_a_large_body_is_refused_and_the_client_can_read_why(process: Process) -> None:
    for head in (b"Content-Length: 8000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        start = b"POST /models/digits/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n" + head
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n" if b"chunked" in head else b"x" * 65536
        answer = talk(process, start, *[chunk] * 60)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer


def test_what_is_no_http_is_refused(process: Process) -> None:
    assert talk(process, b"\x16\x03\x01\x02\x00\x01\x00").startswith(b"HTTP/1.1 400 ")
    assert talk(process, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000).startswith(b"HTTP/1.1 431 ")
    lines = b"".join(b"X%d: %s\r\n" % (number, b"y" * 7000) for number in range(12))
    assert talk(process, b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n").startswith(b"HTTP/1.1 431 ")
    assert talk(process, b"POST /models/digits/score HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabc").startswith(
        b"HTTP/1.1 400 "
    )


def test_a_client_that_leaves_is_no_trouble(process: Process) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", process.port)) as connection:
            connection.sendall(
                b"POST /models/digits/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nabc"
            )
    assert post(process, digits(1)[0])[0] == 200


def test_the_log_is_json_and_without_tracebacks(process: Process) -> None:
    assert post(process, digits(1)[0])[0] == 200
    end = time.monotonic() + 30
    while not any(line.get("status") == 200 for line in process.lines):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not [line for line in process.lines if line["level"] == "error" or "traceback" in line]


def test_a_head_that_comes_too_slowly_is_refused(image_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from insphere.serving import Settings, make_app, server

    app = make_app({"digits": image_file}, Settings(header_seconds=0.3, load_seconds=0))
    listener = listen("127.0.0.1", 0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("uvicorn.Server.capture_signals", _no_signals)
    made: list[Any] = []
    monkeypatch.setattr("uvicorn.Server.__init__", _keeping(made))
    thread = threading.Thread(target=server.run, args=(app, listener))
    thread.start()
    started = Process(None, listener.getsockname()[1])  # type: ignore[arg-type]
    try:
        assert talk(started, b"GET / HTTP/1.1\r\nHo").startswith(b"HTTP/1.1 408 ")
        assert talk(started) == b""
        assert talk(started, b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /v2 HT").count(b"HTTP/1.1 ") == 2
    finally:
        made[0].should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def _keeping(made: list[Any]) -> Any:
    import uvicorn

    original = uvicorn.Server.__init__

    def keep(self: Any, config: Any) -> None:
        original(self, config)
        made.append(self)

    return keep


def _no_signals(self: Any) -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.slow
def test_the_life_of_a_service(image_file: Path) -> None:
    """Key from the environment; SIGHUP loads again; SIGTERM answers what is in flight, then ends well."""
    key = "key-of-the-environment"
    with running(image_file, "--reload-every", "0", INSPHERE_API_KEY=key) as started:
        started.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 30
        while not any(line["event"] == "model reloaded" for line in started.lines):
            assert time.monotonic() < end
            time.sleep(0.02)
        data = digits(1)[0]
        assert post(started, data)[0] == 401
        head = f"POST /score HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nX-API-Key: {key}\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", started.port), timeout=20) as connection:
            connection.sendall(head.encode() + data[:50])
            time.sleep(0.3)
            started.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            connection.sendall(data[50:])
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert started.process.wait(60) == 0
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", started.port), timeout=2)
    assert key not in "".join(started.raw)
    assert started.lines[-1]["event"] == "stopped"


def test_an_address_in_use_is_said_plainly(image_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"port {port}"):
            listen("127.0.0.1", port)
        assert main(["serve", str(image_file), "--load-timeout", "0", "--port", str(port)]) == 1
    assert "choose another with --port" in capfd.readouterr().err


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("insphere.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", "m.insphere"]) == 1
    assert "pip install 'insphere[serve]'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["missing.insphere"], 1, "does not exist"),
        ([], 2, "MODEL"),
        (["m.insphere", "--api-key-file", "missing.txt"], 2, "cannot be read"),
        (["m.insphere", "--max-rows", "0"], 2, "max_rows"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(words: list[str], code: int, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words]) == code
    assert text in capfd.readouterr().err


def test_what_a_library_complains_of_is_a_line_of_the_log_too(process: Process) -> None:
    body = b"--x\r\nContent-Dispo sition: form-data; name=images\r\n\r\n1\r\n--x--\r\n"
    head = f"POST /models/digits/score HTTP/1.1\r\nHost: [::1]\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n"
    answer = talk(process, head.encode() + b"Connection: close\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 4")
    limit = time.monotonic() + 30
    while not (complaints := [line for line in process.lines if "invalid character" in line["event"]]) and time.monotonic() < limit:
        time.sleep(0.05)
    assert complaints and complaints[0]["level"] == "warning"


def test_a_service_for_other_machines_without_a_key_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    for more, told in ((["--host", "0.0.0.0"], True), ([], False)):
        assert main(["serve", "missing.insphere", "--port", "0", *more]) == 1
        assert ("nobody is asked for a key" in " ".join(capfd.readouterr().err.split())) is told
