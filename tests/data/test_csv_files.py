import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insphere.data import open_source
from insphere.errors import DataError, ParameterError


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


@pytest.mark.parametrize("separator", [",", ";", "\t"])
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
    with pytest.raises(DataError, match=r"column 'state' of table\.csv is no number but string \(row 0: 'good'\).*columns.*label_column"):
        open_source(path)
    assert open_source(path, columns=["a"]).row_shape == (1,)
    with pytest.raises(DataError, match=r"has text: 'crack', 'good'.*normal_label"):
        open_source(path, label_column="state")
    source = open_source(path, label_column="state", normal_label="good")
    assert source.labels.tolist() == [0, 1] and list(source.types) == ["good", "crack"] and source.feature_names == ("a",)


def test_one_bad_cell_in_a_column_of_numbers_is_shown(write):
    with pytest.raises(DataError, match=r"row 1: '1,5'"):
        open_source(write('a;b\n1;1\n2;"1,5"\n'))


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


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=80), st.text(alphabet='01,;.-eanif"\n\r\t ', max_size=60).map(str.encode)))
def test_any_bytes_give_rows_or_a_data_error(write, data):
    path = write(data)
    try:
        source = open_source(path)
        rows = source.load()
    except DataError:
        return
    assert len(rows.X) + len(rows.errors) == len(source) and np.isfinite(rows.X).all()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2), min_size=1, max_size=8))
def test_numbers_survive_the_file(write, values):
    text = "a,b\n" + "".join(f"{first!r},{second!r}\n" for first, second in values)
    assert open_source(write(text)).load().X.tolist() == values
