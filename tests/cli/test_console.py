"""Numbers and messages for people, JSON for programs."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.cli import console


@dataclass
class Point:
    x: float
    where: Path


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.builds(Path, st.just("a/b"))
    | st.builds(np.float64, st.floats()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(ANYTHING)
def test_anything_becomes_strict_json(value: Any) -> None:
    json.loads(json.dumps(console.as_json(value), allow_nan=False))


def test_records_and_numpy_scalars() -> None:
    value = {"point": Point(float("nan"), Path("a")), "n": np.int64(3), "flag": np.bool_(True), "set": {1}}
    assert console.as_json(value) == {"point": {"x": None, "where": "a"}, "n": 3, "flag": True, "set": [1]}


@pytest.mark.parametrize(
    ("value", "text"),
    [((0.9, 0.85, 0.9512), "90.0 (85.0–95.1)"), ((float("nan"),) * 3, "undefined"), ((1.0, 1.0, 1.0), "100.0 (100.0–100.0)")],
)
def test_percent(value: tuple[float, float, float], text: str) -> None:
    assert console.percent(SimpleNamespace(value=value[0], low=value[1], high=value[2])) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7322, "2 h 2 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_messages_are_never_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("[red]a[/blue] photo.png")
    console.warn("[b]")
    captured = capsys.readouterr()
    assert captured.err == "[red]a[/blue] photo.png\nwarning: [b]\n"
    assert captured.out == ""


def test_color_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.warn("x")
    assert "\x1b[" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR")
    console.warn("x")
    assert "\x1b[" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "found", "expected"),
    [
        ("/own place/bin/insphere", None, "'/own place/bin/insphere'"),
        ("/own/bin/insphere", "/own/bin/insphere", "insphere"),
        ("/own/bin/insphere", "/other/bin/insphere", "/own/bin/insphere"),
        ("/lib/insphere/__main__.py", None, "/python/bin/python3 -m insphere"),
        ("/lib/insphere/__main__.py", "/other/bin/insphere", "/python/bin/python3 -m insphere"),
        ("/lib/insphere/__main__.py", "/python/bin/insphere", "insphere"),
        ("/somewhere/pytest", None, "insphere"),
    ],
)
def test_what_comes_next_is_named_so_that_it_can_be_copied(
    called: str, found: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.setattr("sys.executable", "/python/bin/python3")
    monkeypatch.setattr("shutil.which", lambda name: found)
    assert console.program() == expected
