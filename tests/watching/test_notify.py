"""Receivers are told in order and again where that may help; their failures stop nothing."""

import http.server
import json
import logging
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.errors import ParameterError
from insphere.watching.notify import AbstractReceiver, Command, Event, Notifier, Webhook

EVENT = {"event": "anomaly", "id": "1f", "path": "/in/a b.png", "anomaly_score": 2.5, "p_value": 0.01}


class Server:
    """A server on this machine that answers with the given status codes, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        outer, self.codes, self.bodies = self, list(codes), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
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
    [((200,), 1, False), ((503, 429, 204), 3, False), ((500,), 3, True), ((404,), 1, True)],
    indirect=["server"],
)
def test_a_webhook_tries_again_where_that_may_help(server: Server, n_posts: int, fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "insphere.watch"):
        Webhook(server.url, pauses=(0.0, 0.0)).tell(EVENT)
    assert server.bodies == [EVENT] * n_posts
    assert bool(caplog.records) == fails


def test_nobody_listening_and_no_http_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    import socket

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        Webhook(f"http://127.0.0.1:{deaf.getsockname()[1]}/", pauses=()).tell(EVENT)
    with socket.create_server(("127.0.0.1", 0)) as babbler:

        def babble() -> None:
            with babbler.accept()[0] as caller:
                caller.sendall(b"no http at all\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        Webhook(f"http://127.0.0.1:{babbler.getsockname()[1]}/", timeout=2.0, pauses=()).tell(EVENT)
        thread.join()
    assert len([record for record in caplog.records if "was not told of 1f" in record.getMessage()]) == 2


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
    def __init__(self) -> None:
        self.told: list[Event] = []
        self.gate = threading.Event()

    def tell(self, event: Event) -> None:
        self.gate.wait(10)
        self.told.append(event)


def test_events_are_told_in_order_and_what_is_left_is_counted() -> None:
    recorder, done = Recorder(), []
    recorder.gate.set()
    notifier = Notifier([recorder], done.append)
    for number in (3, 5, 9):
        notifier.submit(number, [EVENT | {"id": str(number)}])
    assert notifier.close(10) == 0 and done == [3, 5, 9] and [event["id"] for event in recorder.told] == ["3", "5", "9"]

    slow, done = Recorder(), []
    notifier = Notifier([slow], done.append)
    for number in (1, 2):
        notifier.submit(number, [EVENT])
    assert notifier.close(0.05) == 2 and done == []
    slow.gate.set()
