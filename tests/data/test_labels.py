import numpy as np
import pytest

from insphere.data.labels import binary_labels, class_texts
from insphere.errors import DataError


@pytest.mark.parametrize("values", [[0, 1, 0], [False, True, False], [0.0, 1.0, 0.0], np.array([0, 1, 0], np.uint8)])
def test_zero_and_one_are_taken_as_they_are(values):
    labels = binary_labels(values, subject="y")
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("normal_label", [8, 8.0, "8"])
@pytest.mark.parametrize("values", [[8, 3], [8.0, 3.0], ["8", "3"]])
def test_normal_label_is_compared_as_text(values, normal_label):
    assert binary_labels(values, subject="y", normal_label=normal_label).tolist() == [0, 1]


@pytest.mark.parametrize("values", [["good", "crack"], [-1, 1], [0, 1, 2], [0.5, 1.0], np.array(["0", "1"], dtype=object)])
def test_unclear_values_are_listed_with_the_remedy(values):
    with pytest.raises(DataError, match="normal_label") as caught:
        binary_labels(values, subject="column 'state'")
    assert "column 'state'" in str(caught.value)


def test_missing_labels_and_unknown_normal_labels_are_refused():
    with pytest.raises(DataError, match="no value in row 1"):
        binary_labels([0.0, np.nan], subject="y")
    with pytest.raises(DataError, match="no value in row 0"):
        binary_labels(np.array([None, "a"]), subject="y", normal_label="a")
    with pytest.raises(DataError, match="Did you mean 'good'"):
        binary_labels(["good", "bad"], subject="y", normal_label="god")
    with pytest.raises(DataError, match="one value per row"):
        binary_labels([[0], [1]], subject="y")


def test_many_values_are_not_all_listed():
    with pytest.raises(DataError, match=r", \.\.\."):
        binary_labels(list(range(1000)), subject="y")


def test_class_names_replace_numbers_that_have_one():
    assert class_texts(np.array([1, 0, -1]), ["cat", "dog"], subject="label") == ["dog", "cat", "-1"]
    assert class_texts(np.array(["x"], dtype=object), ["cat"], subject="label") == ["x"]


def test_truth_values_have_their_names_too():
    assert binary_labels([True, False], subject="y", normal_label="true").tolist() == [0, 1]
    assert binary_labels([1, 0], subject="y", normal_label="False").tolist() == [1, 0]
    assert binary_labels(["True", "False"], subject="y", normal_label="True").tolist() == [0, 1]
