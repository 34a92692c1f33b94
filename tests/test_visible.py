"""Text from elsewhere is shown and stored without control characters; names and cells come back as they were."""

import csv
import io
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from insphere.visible import csv_text, one_line, read_csv_text, read_name, visible, written_name

NAMES = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from("\\nrtxuU0'=\n\t\x1b")))


@given(NAMES)
def test_one_line_is_what_every_format_can_hold(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1 and line.encode().decode() == line
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in line)
    assert one_line(line) == line


@given(NAMES)
@example("a\\nb")
@example("a\\x1bb\x1b")
def test_a_name_comes_back_as_it_was(name: str) -> None:
    assert one_line(written_name(name)) == written_name(name)
    assert read_name(written_name(name)) == name


@given(st.text())
@example("\\U99999999")
@example("\\")
def test_any_text_can_be_read_as_a_name(text: str) -> None:
    read_name(text)


@given(NAMES.map(one_line))
@example("=1+1")
@example("'=1+1")
@example("'")
def test_a_cell_is_no_formula_and_comes_back_as_it_was(text: str) -> None:
    cell = csv_text(text)
    assert cell[:1] not in ("=", "+", "-", "@")
    assert read_csv_text(cell) == text
    written = io.StringIO()
    csv.writer(written).writerow([cell])
    assert next(csv.reader([written.getvalue()])) == [cell]


def test_line_ends_stay_visible_and_what_moves_the_cursor_does_not() -> None:
    assert visible("a\n\tb\r\x1b[2J\x9b\u202e\udcff") == "a\n\tb\\r\\x1b[2J\\x9b\\u202e\\udcff"
    assert one_line("a b\u3000c\u00a0") == "a b\u3000c\u00a0"
