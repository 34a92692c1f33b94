import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.data import ArraySource, one_class_split
from insphere.errors import DataError, ParameterError


def rows_of(source):
    return source.load().X[:, 0].astype(int).tolist()


@given(st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(lambda labels: labels.count(0) >= 2), st.integers(0, 5))
def test_random_split_trains_on_half_of_the_normals(labels, seed):
    split = one_class_split(ArraySource(np.arange(len(labels))[:, np.newaxis], labels=labels), random_state=seed)
    train, test = rows_of(split.train), rows_of(split.test)
    assert sorted(train + test) == list(range(len(labels)))
    assert all(labels[row] == 0 for row in train) and abs(len(train) - labels.count(0) / 2) <= 0.5
    assert split.labels.tolist() == [labels[row] for row in test] == split.test.labels.tolist()


def test_same_seed_same_split_and_another_seed_another():
    source = ArraySource(np.arange(100)[:, np.newaxis], labels=np.zeros(100, int))
    first, again, other = (rows_of(one_class_split(source, random_state=seed).train) for seed in (1, 1, 2))
    assert first == again != other


def test_groups_stay_together():
    groups = np.repeat(np.arange(10), 5)
    split = one_class_split(ArraySource(np.arange(50)[:, np.newaxis], labels=np.zeros(50, int), groups=groups))
    assert not set(split.train.groups) & set(split.test.groups)


def test_layout_decides_where_there_is_one(write_tree, png):
    root = write_tree({"train/good/0.png": png(8, 8), "test/good/0.png": png(16, 16), "test/crack/0.png": png(16, 16)})
    split = one_class_split(root)
    assert list(split.train.ids) == ["train/good/0.png"] and split.labels.tolist() == [1, 0]
    assert split.test.spec == split.train.spec


def test_class_folders_are_split_at_random(write_tree, png):
    root = write_tree({**{f"good/{number}.png": png() for number in range(4)}, "crack/0.png": png()})
    split = one_class_split(root)
    assert len(split.train) == 2 and split.labels.sum() == 1
    assert not set(split.train.ids) & set(split.test.ids)


def test_digits_keep_their_own_split():
    split = one_class_split("digits:0")
    assert set(split.train.types) == {"0"} and len(set(split.test.types)) == 10


def test_unlabelled_and_too_few_rows_are_refused():
    with pytest.raises(DataError, match="has no labels"):
        one_class_split(ArraySource(np.ones((4, 2))))
    with pytest.raises(DataError, match="1 normal rows"):
        one_class_split(ArraySource(np.ones((4, 2)), labels=[0, 1, 1, 1]))
    with pytest.raises(ParameterError, match="train_fraction"):
        one_class_split("digits:0", train_fraction=1.0)
