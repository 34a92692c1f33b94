"""TOML of people is read or refused in words, whatever is in it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from insphere.errors import DataError
from insphere.toml_file import read_toml

DEEP = ("x = " + "[" * 50_000 + "]" * 50_000, "x = " + "{a = " * 3000 + "1" + "}" * 3000, f"[{'a.' * 3000}a]", f"{'a.' * 40}a = 1")


@pytest.mark.parametrize("text", DEEP)
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(DataError, match=r"The plan .* has lists or tables more than 32 levels within each other"):
        read_toml(tmp_path / "p.toml", "the plan")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
@example(b"x = " + b"9" * 5000)
@example(b"x = 1e400")
@example(b"\xff")
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.toml").write_bytes(data)
    try:
        assert isinstance(read_toml(tmp_path / "p.toml", "the plan"), dict)
    except DataError as error:
        assert "p.toml" in str(error)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(DataError, match="Cannot read the plan"):
            read_toml(path, "the plan")
