import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from insphere.data import open_source
from insphere.errors import DataError, ParameterError

N_STARTS = 50 if os.environ.get("INSPHERE_TEST_PROFILE") == "campaign" else 1


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_numeric_columns_are_features(write):
    source = open_source(write("a,b\n1,2.5\n3,-4e2\n"))
    assert source.feature_names == ("a", "b") and source.dtype == np.float64 and source.labels is None
    assert source.load().X.tolist() == [[1, 2.5], [3, -400]]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separator_is_found(write, separator):
    assert open_source(write(f"a{separator}b\n1{separator}2\n")).load().X.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "rows"),
    [("1.5,2\n3,4\n", 2), ("5,6\n", 1), ("0,1\n3,4\n", 1), (",0,1\n0,3,4\n", 1), ("1.5,,2\n3,4,5\n", 2), ("\ufeffa,b\n1,2\n", 1)],
)
def test_first_line_of_numbers_is_data_unless_it_counts_columns(write, text, rows):
    assert len(open_source(write(text))) == rows


def test_missing_and_infinite_values_are_error_rows(write):
    rows = open_source(write("a,b\n1,2\n,3\n4,inf\nnan,1\nNA,2\n")).load()
    assert rows.index.tolist() == [0]
    assert rows.errors == {1: "feature 0 'a' is nan", 2: "feature 1 'b' is inf", 3: "feature 0 'a' is nan", 4: "feature 0 'a' is nan"}


def test_fraction_after_a_megabyte_of_whole_numbers(write):
    assert open_source(write("a\n" + "1234567\n" * 300_000 + "0.5\n")).load().X[-1, 0] == 0.5


def test_text_column_is_named_with_its_value_and_remedy(write):
    path = write("a,state\n1,good\n2,crack\n")
    with pytest.raises(
        DataError, match=r"column 'state' of table\.csv does not hold numbers but string \(line 2: 'good'\).*columns.*label_column"
    ):
        open_source(path)
    assert open_source(path, columns=["a"]).row_shape == (1,)
    with pytest.raises(DataError, match=r"has text: 'crack', 'good'.*normal_label"):
        open_source(path, label_column="state")
    source = open_source(path, label_column="state", normal_label="good")
    assert source.labels.tolist() == [0, 1] and list(source.types) == ["good", "crack"] and source.feature_names == ("a",)


def test_one_bad_cell_is_one_row_that_cannot_be_read(write):
    source = open_source(write("a,b\n1,2\n\nERR,4\n5,x\n7,8\n9,10\n"))
    rows = source.load()
    assert rows.index.tolist() == [0, 3, 4] and rows.X.tolist() == [[1, 2], [7, 8], [9, 10]]
    assert rows.errors == {1: "line 4: column 'a' is not a number but 'ERR'", 2: "line 5: column 'b' is not a number but 'x'"}
    assert source.take([3, 2]).load().errors == {1: "line 5: column 'b' is not a number but 'x'"}
    with pytest.raises(DataError, match=r"column 'a' of table\.csv does not hold numbers but string \(line 2: 'x'\)"):
        open_source(write("a,b\nx,1\ny,2\n3,4\n"))


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("5", "it has 1 cells instead of 2"),
        ("5,6,7", "it has 3 cells instead of 2"),
        ("5,-", None),
        ("5,1e", "column 'b' is not a number but '1e'"),
    ],
)
def test_cut_last_line_is_one_row_that_cannot_be_read(write, last, why):
    rows = open_source(write(f"a,b\n1,2\n3,4\n3,4\n{last}")).load()
    assert rows.index.tolist() == [0, 1, 2]
    assert rows.errors == {3: "feature 1 'b' is nan" if why is None else f"line 5: {why}"}


def test_broken_lines_between_whole_ones_keep_their_places(write):
    rows = open_source(write("a,b\n1,2\n3\n4,5\n6,7,8\n9,10\n")).load()
    assert rows.index.tolist() == [0, 2, 4] and rows.X[:, 0].tolist() == [1, 4, 9]
    assert list(rows.errors) == [1, 3] and rows.errors[3].startswith("line 5: it has 3 cells")
    with pytest.raises(DataError, match="2 of 3 lines have another number of cells"):
        open_source(write("a,b\n1\n3\n4,5\n"))


@pytest.mark.parametrize(
    ("text", "expected", "told"),
    [
        ("a;b\n1,5;2,7\n3;4,1\n", [[1.5, 2.7], [3, 4.1]], "decimal commas"),
        ("a;b\n1.234,5;1\n2,5;2\n", [[1234.5, 1], [2.5, 2]], "decimal commas"),
        ('a,b\n"1,234,567",1\n"2,500",2\n', [[1234567, 1], [2500, 2]], "groups of digits"),
        ('a;b\n"1,5";1\n2;1\n', [[1.5, 1], [2, 1]], "decimal commas"),
    ],
)
def test_notation_of_numbers_is_read_where_it_is_beyond_doubt(write, text, expected, told):
    source = open_source(write(text))
    assert source.load().X.tolist() == expected
    assert len(source.notices) == 1 and told in source.notices[0].text


@pytest.mark.parametrize("text", ['a,b\n"1,234",1\n"2,500",2\n', "a;b\n1,234;1\n2,500;2\n"])
def test_notation_of_numbers_in_doubt_is_refused(write, text):
    with pytest.raises(DataError, match="'1,234'"):
        open_source(write(text))


def test_points_next_to_decimal_commas_are_in_doubt_where_they_may_part_groups(write):
    with pytest.raises(DataError, match=r"column 'a' of table\.csv has numbers like '1\.234' next to columns with decimal commas"):
        open_source(write("a;b\n1.234;1,5\n2.500;2,5\n"))
    assert open_source(write("a;b\n1.234;1,5\n0.5;2,5\n")).load().X.tolist() == [[1.234, 1.5], [0.5, 2.5]]
    assert open_source(write("a;b\n1.234;1.5\n2.500;2.5\n")).load().X.tolist() == [[1.234, 1.5], [2.5, 2.5]]


@pytest.mark.parametrize("mark", ["?", "NA", "null", "N/A", "-", "None", ""])
def test_marks_for_missing_values(write, mark):
    rows = open_source(write(f"a,b\n1,2\n{mark},4\n5,6\n")).load()
    assert rows.errors == {1: "feature 0 'a' is nan"} and rows.X[:, 0].tolist() == [1, 5]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings(write, encoding):
    marks = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}
    source = open_source(write((marks.get(encoding, "") + "Größe,b\n1,2\n").encode(encoding)))
    assert source.feature_names == ("Größe", "b") and source.load().X.tolist() == [[1, 2]]
    assert [notice.kind for notice in source.notices] == (["taken as"] if encoding == "latin-1" else [])


def test_utf_16_without_its_mark_is_named(write):
    with pytest.raises(DataError, match="UTF-16 without its mark; save it as UTF-8"):
        open_source(write("a,b\n1,2\n".encode("utf-16-le")))


@pytest.mark.parametrize("date", ["2024-05-01", "2024-05-01 10:30:00", "2024-05-01T10:30:00Z", "01.05.2024", "10:30"])
def test_dates_are_named(write, date):
    with pytest.raises(DataError, match=r"column 'when' of table\.csv does not hold numbers but dates or times.*--columns"):
        open_source(write(f"when,b\n{date},2\n{date},3\n"))


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("5.1,3.5,0.2\n4.9,3.0,0.2\n", ("f0", "f1", "f2"), 2),
        ("5.1,?,0.2\n4.9,3.0,0.2\n", ("f0", "f1", "f2"), 2),
        ("1,5;2,5\n3,5;4,5\n", ("f0", "f1"), 2),
        ("volt,2020,2021\n1,2,3\n", ("volt", "2020", "2021"), 1),
    ],
)
def test_first_line_in_doubt_is_told(write, text, names, rows):
    source = open_source(write(text))
    assert source.feature_names == names and len(source) == rows
    assert any("first line" in notice.text and "header=" in notice.text for notice in source.notices)


def test_first_line_of_text_and_numbers_like_those_below_is_data(write):
    path = write("5.1,3.5,setosa\n4.9,3.0,setosa\n4.8,3.1,virginica\n")
    assert open_source(path, columns=["f0", "f1"]).load().X[:, 0].tolist() == [5.1, 4.9, 4.8]
    dated = write("2024-05-01,1.5\n2024-05-02,2.5\n")
    assert len(open_source(dated, columns=["f1"])) == 2


def test_separator_that_excel_says(write):
    source = open_source(write("sep=;\na;b\n1;2\nERR;3\n4;5\n"))
    assert source.feature_names == ("a", "b") and source.load().errors == {1: "line 4: column 'a' is not a number but 'ERR'"}


def test_blanks_around_names_are_not_part_of_them(write):
    assert open_source(write("a, b ,c\n1, 2,3\n")).feature_names == ("a", "b", "c")


def test_header_can_be_said(write):
    path = write("400,410\n0.5,0.25\n")
    assert open_source(path, header=True).feature_names == ("400", "410") and open_source(path, header=True).notices == ()
    assert len(open_source(path, header=False)) == 2 and open_source(path, header=False).notices == ()
    with pytest.raises(ParameterError, match="`header` must be"):
        open_source(path, header="yes")
    with pytest.raises(ParameterError, match="`header` does not apply"):
        open_source("digits:3", header=True)


def test_wide_tables_take_linear_time(write):
    width = 20_000
    line = ",".join(["1.5"] * width)
    path = write(",".join(f"c{column}" for column in range(width)) + f"\n{line}\n{line}\n")
    started = time.process_time()
    assert open_source(path).row_shape == (width,)
    assert time.process_time() - started < 20, "quadratic in the number of columns"


def test_labelled_table_trains_on_normal_rows(write):
    path = write("x,y\n1,0\n2,1\n3,0\n")
    train, test = (open_source(path, split=split, label_column="y") for split in ("train", "test"))
    assert train.load().X.ravel().tolist() == [1, 3] and train.labels.tolist() == [0, 0]
    assert test.labels.tolist() == [0, 1, 0] and test.types is None
    assert open_source(path).row_shape == (2,)
    with pytest.raises(DataError, match="no normal rows to train on"):
        open_source(write("x,y\n1,1\n"), split="train", label_column="y")


def test_group_column(write):
    source = open_source(write("x,part\n1,7\n2,7\n3,9\n"), groups="part")
    assert source.groups == ("7", "7", "9") and source.feature_names == ("x",)


def test_columns_that_are_not_there_or_twice(write):
    path = write("width,width,height,empty\n1,2,3,\n")
    with pytest.raises(DataError, match=r"no column 'heigth'.*Did you mean 'height'"):
        open_source(path, columns=["heigth"])
    with pytest.raises(DataError, match="no column 'label'"):
        open_source(path, label_column="label")
    with pytest.raises(DataError, match="several columns named 'width'"):
        open_source(path)
    with pytest.raises(DataError, match="2 columns named 'width'"):
        open_source(path, columns=["width"])
    with pytest.raises(DataError, match=r"'empty'.*is empty"):
        open_source(path, columns=["empty"])
    with pytest.raises(DataError, match="no column left"):
        open_source(path, columns=[])


def test_options_that_contradict_are_refused(write):
    path = write("x,y\n1,0\n")
    with pytest.raises(ParameterError, match="name that column with `label_column`"):
        open_source(path, normal_label=0)
    with pytest.raises(ParameterError, match="leave it out"):
        open_source(path, columns=["x", "y"], label_column="y")
    with pytest.raises(ParameterError, match="`columns` must be a list"):
        open_source(path, columns="x")
    with pytest.raises(ParameterError, match="`image_size` does not apply"):
        open_source(path, image_size=3)


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n", "a,b\n1,2,3\n", b"a,b\n\xff\xfe,1\n", b"\x00\x01\x02"])
def test_what_is_no_table_is_refused(write, text):
    with pytest.raises(DataError, match=r"table\.csv"):
        open_source(write(text))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=80), st.text(alphabet='01,;.-eanif"\n\r\t ', max_size=60).map(str.encode)))
def test_any_bytes_give_rows_or_a_data_error(write, data):
    path = write(data)
    try:
        source = open_source(path)
        rows = source.load()
    except DataError:
        return
    assert len(rows.X) + len(rows.errors) == len(source) and np.isfinite(rows.X).all()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2), min_size=1, max_size=8))
def test_numbers_survive_the_file(write, values):
    text = "a,b\n" + "".join(f"{first!r},{second!r}\n" for first, second in values)
    assert open_source(write(text)).load().X.tolist() == values


CELLS = st.one_of(
    st.floats(-1e9, 1e9).map(repr),
    st.integers(-999, 999).map(str),
    st.sampled_from(["", "?", "NA", "ERR", "1,5", "1e", "2024-05-01", "x y", "inf"]),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=12),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ending=st.sampled_from(["\n", "\r\n", ""]),
)
@example(rows=[["0.0", "1,5"]], separator=",", encoding="utf-8", ending="\n")
def test_every_line_is_a_row_or_an_error_in_its_place(write, rows, separator, encoding, ending):
    lines = [separator.join(row) for row in rows]
    path = write((separator.join("abc") + "\n" + "\n".join(lines) + ending).encode(encoding))
    try:
        source = open_source(path)
    except DataError:
        return
    filled = [line.split(separator) for line in lines if line]  # a decimal comma between commas parts its cell in two
    loaded = source.load()
    assert len(source) == len(filled) and np.isfinite(loaded.X).all()
    assert sorted([*loaded.index.tolist(), *loaded.errors]) == list(range(len(filled)))
    for position, values in zip(loaded.index.tolist(), loaded.X.tolist(), strict=True):
        row = filled[position]
        assert len(row) == 3, "a line with another number of cells was read"
        assert values == [float(cell.replace(",", ".")) for cell in row]


@pytest.mark.parametrize("end", ["\n", "\n1,2\n", ""])
def test_a_million_columns_are_refused_at_once(tmp_path, end):
    (tmp_path / "t.csv").write_text(",".join(["c"] * 1_000_000) + end)
    with pytest.raises(DataError, match=r"1,000,000 cells in its first line.*np.save"):
        open_source(tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["a;b\n3,125;1\n1,250;2\n2,375;3\n", 'a,b\n"3,125",1\n"1,250",2\n"2,375",3\n'])
def test_commas_before_three_digits_everywhere_are_in_doubt(write, text):
    with pytest.raises(DataError, match=r"numbers like '3,125', whose comma may be a decimal one or part groups of three digits"):
        open_source(write(text))


def test_a_column_without_a_name_that_never_falls_is_no_feature(write):
    lines = [f"{row // 2},{(7 * row) % 5},{(3 * row) % 4}" for row in range(20)]
    source = open_source(write("\n".join([",a,b", *lines]) + "\n"))
    assert source.feature_names == ("a", "b")
    (text,) = [str(notice) for notice in source.notices]
    assert text.endswith("Namely: (no name).")


def test_no_group_of_digits_begins_with_a_nought(write):
    assert open_source(write("a;b\n0,125;1\n1,250;2\n")).load().X.tolist() == [[0.125, 1], [1.25, 2]]


def test_programs_that_read_a_csv_end_without_a_word(write):
    """Some aborted at exit while threads of the reader were still there: rarely, so that a campaign tries more often."""
    path = write("a,b\n" + "\n".join(f"{row % 7},{row % 5}" for row in range(50)) + "\n")
    program = "import sys, insphere; insphere.KNN(random_state=0).fit(insphere.open_source(sys.argv[1])).anomaly_score(sys.argv[1])"
    for _ in range(N_STARTS):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
