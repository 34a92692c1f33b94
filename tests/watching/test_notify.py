"""Receivers are told in order and again where that may help; their failures stop nothing."""

import http.server
import json
import logging
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.errors import ParameterError
from insphere.watching.notify import AbstractReceiver, Command, Event, Notifier, UntoldError, Webhook

EVENT = {"event": "anomaly", "id": "1f", "path": "/in/a b.png", "anomaly_score": 2.5, "p_value": 0.01}


class Server:
    """A server on this machine that answers with the given status codes, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        outer, self.codes, self.bodies, self.keys = self, list(codes), [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.keys.append(self.headers["Idempotency-Key"])
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                code = outer.codes.pop(0) if len(outer.codes) > 1 else outer.codes[0]
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/alarms"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(*getattr(request, "param", (200,)))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("server", "n_posts", "fails"),
    [((200,), 1, None), ((503, 429, 204), 3, None), ((500,), 3, "untold"), ((404,), 3, "untold"), ((422,), 1, "refused")],
    indirect=["server"],
)
def test_a_webhook_tries_again_where_that_may_help(
    server: Server, n_posts: int, fails: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "insphere.watch"), pytest.raises(UntoldError) if fails == "untold" else nullcontext():
        Webhook(server.url, pauses=(0.0, 0.0)).tell(EVENT)
    assert server.bodies == [EVENT] * n_posts
    assert server.keys == ['"1f-anomaly"'] * n_posts
    assert bool(caplog.records) == (fails == "refused")


def test_a_path_that_is_no_text_is_legal_json_all_the_same(server: Server) -> None:
    Webhook(server.url).tell(EVENT | {"path": "/in/\udcff.png"})
    assert server.bodies[0]["path"] == "/in/\\udcff.png"


def test_nobody_listening_and_no_http_are_tried_again_later() -> None:
    import socket

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(UntoldError, match="was not told of 1f"):
            Webhook(f"http://127.0.0.1:{deaf.getsockname()[1]}/", pauses=()).tell(EVENT)
    with socket.create_server(("127.0.0.1", 0)) as babbler:

        def babble() -> None:
            with babbler.accept()[0] as caller:
                caller.sendall(b"no http at all\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(UntoldError, match="was not told of 1f"):
            Webhook(f"http://127.0.0.1:{babbler.getsockname()[1]}/", timeout=2.0, pauses=()).tell(EVENT)
        thread.join()


@pytest.mark.parametrize("url", ["", "ftp://host/x", "file:///etc/passwd", "example.org", "http://", "http://[bad"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ParameterError, match="URL of http or https"):
        Webhook(url)


def test_a_command_gets_its_arguments_whole(tmp_path: Path) -> None:
    script = f"import sys, json; open({str(tmp_path / 'out')!r}, 'w').write(json.dumps(sys.argv[1:]))"
    event = EVENT | {"path": "/in/$(touch x); {score} 'b'.png"}
    Command(shlex.join([sys.executable, "-c", script, "--file={path}", "{score}", "{p_value} !"])).tell(event)
    assert json.loads((tmp_path / "out").read_text()) == ["--file=/in/$(touch x); {score} 'b'.png", "2.5", "0.01 !"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_no_name_becomes_more_than_one_argument(path: str) -> None:
    assert Command("echo {path} {score}").arguments(EVENT | {"path": path}) == ["echo", path, "2.5"]


def test_a_command_that_fails_hangs_or_vanishes_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = tmp_path / "once"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    command = Command(str(program))
    command.tell(EVENT)
    program.unlink()
    command.tell(EVENT)
    Command("sleep 30", timeout=0.1).tell(EVENT)
    texts = [record.getMessage() for record in caplog.records]
    assert ["exit code 3" in texts[0], "cannot be run" in texts[1], "killed after 0.1 seconds" in texts[2]] == [True] * 3


def test_a_command_hears_of_drift_only_where_it_asks_what_the_event_is(tmp_path: Path) -> None:
    drift = EVENT | {"event": "drift", "path": str(tmp_path / "made")}
    Command("touch {path}").tell(drift)
    assert not (tmp_path / "made").exists()
    Command("touch {path}-{event}").tell(drift)
    assert (tmp_path / "made-drift").exists()


@pytest.mark.parametrize(("line", "reason"), [("", "must name a program"), ("no-such-program x", "is not found"), ("echo 'x", "split")])
def test_commands_that_cannot_run_are_refused_at_once(line: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Command(line)


class Recorder(AbstractReceiver):
    """Cannot be reached for the first `n_failures` attempts."""

    def __init__(self, n_failures: int = 0, *, key: str = "recorder") -> None:
        self.told: list[Event] = []
        self.gate = threading.Event()
        self.gate.set()
        self.n_failures, self._key = n_failures, key

    @property
    def key(self) -> str:
        return self._key

    def tell(self, event: Event) -> None:
        self.gate.wait(10)
        if self.n_failures:
            self.n_failures -= 1
            raise UntoldError("nobody there")
        self.told.append(event)


def numbered(*numbers: int) -> list[tuple[int, list[Event]]]:
    return [(number, [EVENT | {"id": str(number)}]) for number in numbers]


def ids(recorder: Recorder) -> list[int]:
    return [int(event["id"]) for event in recorder.told]


def test_each_receiver_is_told_in_order_of_what_it_has_not_heard_and_none_waits_for_another() -> None:
    near, far, dead = Recorder(key="near"), Recorder(5, key="far"), Recorder(10**9, key="dead")
    noted: list[tuple[str, int]] = []
    notifier = Notifier([near, far, dead], lambda *told: noted.append(told), pauses=(0.01,))
    notifier.start({"near": 3, "far": 0, "dead": 0}, lambda: numbered(2, 3, 5))
    for number, events in numbered(7, 9):
        notifier.submit(number, events)
    assert notifier.close(5) == 5
    assert (ids(near), ids(far), ids(dead)) == ([5, 7, 9], [2, 3, 5, 7, 9], [])
    assert [number for key, number in noted if key == "far"] == [2, 3, 5, 7, 9]


def test_what_is_more_than_memory_may_hold_comes_later_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insphere.watching.notify._MOST_WAITING", 4)
    slow, so_far = Recorder(), numbered(*range(1, 11))
    slow.gate.clear()
    notifier = Notifier([slow], lambda *_: None)
    notifier.start({"recorder": 0}, lambda: so_far)
    so_far += numbered(11, 12)
    for number, events in so_far[-2:]:
        notifier.submit(number, events)
    slow.gate.set()
    end = time.monotonic() + 30
    while len(slow.told) < 12 and time.monotonic() < end:
        notifier.refill(lambda: so_far)
        time.sleep(0.01)
    assert ids(slow) == list(range(1, 13))
    assert notifier.close(10) == 0


def test_what_is_left_is_counted_and_a_receiver_that_breaks_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def tell(self, event: Event) -> None:
            super().tell(event)
            raise RuntimeError("oh")

    slow, broken = Recorder(key="slow"), Broken()
    slow.gate.clear()
    notifier = Notifier([slow, broken], lambda *_: None)
    notifier.start({"slow": 0, "recorder": 0}, lambda: numbered(1, 2))
    assert notifier.close(0.5) == 2
    assert ids(broken) == [1, 2] and "a receiver failed on 1" in caplog.text
    slow.gate.set()
