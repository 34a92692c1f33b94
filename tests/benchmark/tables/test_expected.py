"""Published values: what is read, and what is refused with which words."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.benchmark.tables.expected import Expected, read_expected
from insphere.errors import DataError

GOOD = """
format_version = 1
source = "An example"

[tables.table-1]
title = "Table 1"
dataset = "digits"
n_seeds = 3
methods = ["knn", "cae"]
labels = ["5-NN", "CAE"]
rows = { 3 = [99.0, 97], 8 = [95.0, 90.0] }

[figures.figure-1]
title = "Figure 1"
kind = "sweep"
dataset = "digits"
detector = "vae-svdd"
parameter = "alpha"
stated_spread = [1, 2.0]
"""


def read(folder: Path, text: str) -> Expected:
    path = folder / "expected.toml"
    path.write_text(text, encoding="utf-8")
    return read_expected(path)


def test_a_good_file_is_read(tmp_path):
    expected = read(tmp_path, GOOD)
    (table,), (figure,) = expected.tables, expected.figures
    assert expected.source == "An example"
    assert expected.table_of("digits") is table and expected.table_of("digits", attacked=True) is None
    assert dict(table.labels) == {"knn": "5-NN", "cae": "CAE"}
    assert table.value("3", "cae") == 97.0 and table.value("4", "cae") is None
    assert table.mean("knn") == 97.0 and table.mean("vae") is None
    assert (figure.detector, figure.parameter, figure.stated_spread) == ("vae-svdd", "alpha", (1.0, 2.0))


def test_labels_are_the_names_where_there_are_none(tmp_path):
    assert read(tmp_path, GOOD.replace('labels = ["5-NN", "CAE"]', "")).tables[0].labels["knn"] == "knn"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format_version = 1", "format_version = 2", "`format_version` must be 1, got 2"),
        ('source = "An example"', "", "`source` must be a text, got None"),
        ("8 = [95.0, 90.0]", "8 = [95.0]", r"row '8' of \[tables.table-1\] must be a list of one value per method: 2, got 1"),
        ("97]", "970]", "must hold percentages from 0 to 100, got 970"),
        ("97]", "nan]", "must hold percentages from 0 to 100, got nan"),
        ("97]", "true]", "got True"),
        ("97]", '"97"]', "got '97'"),
        ("n_seeds = 3", "n_seeds = 0", "`n_seeds` of .* must be a whole number of at least 1, got 0"),
        ("n_seeds = 3", "seeds = 3", "has no entry 'seeds'; .* Did you mean 'n_seeds'?"),
        ('methods = ["knn", "cae"]', 'methods = ["knn", "knn"]', "must name nothing twice"),
        ('"5-NN", "CAE"', '"5-NN"', "`labels` of .* must have one entry per method: 2, got 1"),
        ("rows = { 3 = [99.0, 97], 8 = [95.0, 90.0] }", "rows = {}", "`rows` of .* at least one normal class"),
        ('kind = "sweep"', 'kind = "swep"', "must be one of .* Did you mean 'sweep'?"),
        ('parameter = "alpha"', "", "`parameter` of .* must be a text"),
        ("[1, 2.0]", "[2, 1]", "must be two numbers of points, the smaller first"),
        ("[tables.table-1]", '[tables."../x"]', "must be named by lower-case letters"),
        ("[tables.table-1]", "tables = 3\n[other]", "has no entry 'other'"),
        ("format_version", "= broken", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_by_place_and_rule(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(DataError, match=message):
        read(tmp_path, GOOD.replace(old, new))


def test_two_tables_about_the_same_are_refused(tmp_path):
    second = GOOD[GOOD.index("[tables") : GOOD.index("[figures")].replace("table-1", "table-2")
    with pytest.raises(DataError, match="at most one table for a data set"):
        read(tmp_path, GOOD + second)
    assert len(read(tmp_path, GOOD + second.replace("n_seeds", "attacked = true\nn_seeds")).tables) == 2


def test_a_missing_file_and_one_of_bytes_are_refused(tmp_path):
    with pytest.raises(DataError, match="Cannot read"):
        read_expected(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not valid TOML"):
        read_expected(tmp_path / "b.toml")


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 30), st.text(alphabet='[]{}="0.,-\n a', max_size=5))
def test_a_damaged_file_is_read_or_refused_but_nothing_else(tmp_path_factory, start, length, filling):
    folder = tmp_path_factory.getbasetemp()
    try:
        expected = read(folder, GOOD[:start] + filling + GOOD[start + length :])
    except DataError:
        return
    for table in expected.tables:
        assert all(0 <= value <= 100 for row in table.rows.values() for value in row.values())
        assert all(tuple(row) == table.methods for row in table.rows.values())
