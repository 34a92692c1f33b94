"""Each check on data that has exactly the fault it looks for, and on data that has none."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.sparse.csgraph import connected_components

from insphere.checking import LEVELS, CheckReport, check_source
from insphere.checking.likeness import exact_duplicates, linked, near_duplicates
from insphere.checking.survey import THUMBNAIL, _thumbnails, survey
from insphere.data import ArraySource, open_source
from insphere.errors import DataError


def photo(number: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """Return a smooth random picture: blobs that differ from number to number."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(120):
        photo(number).save(folder / f"{number:03}.png")
    return folder


def finding(report: CheckReport, name: str) -> Any:
    return next(found for found in report.findings if found.name == name)


def test_clean_photos_have_no_finding(photos: Path) -> None:
    report = check_source(open_source(photos))
    assert report.level == "ok", [found.text for found in report.at_least("note")]
    assert report.n_rows == 120


def test_a_truncated_file_is_an_error_with_its_name(photos: Path) -> None:
    whole = (photos / "003.png").read_bytes()
    (photos / "003.png").write_bytes(whole[: len(whole) // 2])
    report = check_source(open_source(photos))
    assert finding(report, "unreadable rows").level == "error"
    assert finding(report, "unreadable rows").groups == (("003.png",),)


def test_a_copy_and_a_picture_saved_anew_are_told_apart(photos: Path) -> None:
    (photos / "copy.png").write_bytes((photos / "007.png").read_bytes())
    photo(9).save(photos / "anew.jpg", quality=85)
    photo(11, (60, 60)).save(photos / "larger.png")
    report = check_source(open_source(photos))
    assert finding(report, "exact duplicates").groups == (("007.png", "copy.png"),)
    assert set(finding(report, "near duplicates").groups) == {("009.png", "anew.jpg"), ("011.png", "larger.png")}


def test_copies_in_the_test_part_are_an_error(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "new"
    other.mkdir()
    for number in range(200, 230):
        photo(number).save(other / f"{number}.png")
    assert finding(check_source(open_source(photos), test=open_source(other)), "copies across train and test").level == "ok"
    photo(50).save(other / "leak.png")
    photo(51).save(other / "leak.jpg", quality=90)
    found = finding(check_source(open_source(photos), test=open_source(other)), "copies across train and test")
    assert (found.level, found.n_rows) == ("error", 2)
    assert set(found.groups) == {("050.png", "leak.png"), ("051.png", "leak.jpg")}
    assert "that equal training rows: 1, that look almost like one: 1 (050.png = leak.png; 051.png = leak.jpg)." in found.text


def test_mixed_sizes_and_kinds_are_told(photos: Path) -> None:
    photo(300, (80, 20)).save(photos / "wide.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(photos / "colour.png")
    report = check_source(open_source(photos))
    assert finding(report, "sizes").groups == (("wide.png",),)
    assert finding(report, "modes").groups == (("colour.png",),)


def test_a_slightly_other_size_is_only_a_note(photos: Path) -> None:
    photo(301, (42, 40)).save(photos / "slightly.png")
    assert finding(check_source(open_source(photos)), "sizes").level == "note"


def test_constant_images_and_an_outlier_are_found(photos: Path) -> None:
    Image.new("L", (40, 40), 90).save(photos / "empty.png")
    Image.fromarray(np.kron(np.indices((2, 2)).sum(axis=0) % 2 * 255, np.ones((20, 20))).astype(np.uint8)).save(photos / "odd.png")
    report = check_source(open_source(photos))
    assert finding(report, "constant images").groups == (("empty.png",),)
    assert ("odd.png",) in finding(report, "outliers").groups
    assert finding(report, "outliers").n_rows <= 2


@pytest.mark.parametrize(("n_rows", "level"), [(5, "error"), (50, "warning"), (150, "ok")])
def test_too_few_rows(n_rows: int, level: str) -> None:
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    assert finding(check_source(ArraySource(X)), "enough rows").level == level


def test_columns_that_say_nothing_or_say_it_twice() -> None:
    X = np.random.default_rng(0).normal(size=(200, 4))
    X[:, 1], X[:, 3] = 5.0, X[:, 0]
    report = check_source(ArraySource(X, feature_names=["a", "b", "c", "d"]))
    assert finding(report, "constant columns").groups == (("b",),)
    assert finding(report, "duplicate columns").groups == (("a", "d"),)


def test_missing_values_are_unreadable_rows() -> None:
    X = np.random.default_rng(0).normal(size=(200, 4))
    X[17, 2] = np.nan
    found = finding(check_source(ArraySource(X)), "unreadable rows")
    assert (found.level, found.groups) == ("warning", (("17",),))
    X[:10] = np.nan
    assert finding(check_source(ArraySource(X)), "unreadable rows").level == "error"


def test_an_outlying_vector_is_named_first() -> None:
    X = np.random.default_rng(0).normal(size=(300, 5)) * [1, 100, 0.01, 1, 1]
    X[42, 2] = 5.0
    assert finding(check_source(ArraySource(X)), "outliers").groups[0] == ("42",)


@pytest.mark.parametrize("n_features", [2, 3, 10])
def test_draws_of_a_gaussian_are_no_outliers(n_features: int) -> None:
    for seed in range(5):
        X = np.random.default_rng(seed).normal(size=(1000, n_features))
        assert finding(check_source(ArraySource(X)), "outliers").level == "ok"


def test_labels_that_contradict_each_other_or_lie_in_training() -> None:
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[1] = X[0]
    labels = np.zeros(200, int)
    labels[1] = 1
    assert finding(check_source(ArraySource(X, labels=labels)), "labels").level == "error"
    X[1] += 1
    parts = ["train"] * 150 + ["test"] * 50
    assert finding(check_source(ArraySource(X, labels=labels, parts=parts)), "labels").groups == (("1",),)
    labels[1] = 0
    assert finding(check_source(ArraySource(X, labels=labels, parts=parts)), "labels").level == "note"


def test_sources_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="same kind"):
        check_source(ArraySource(np.zeros((9, 3))), test=ArraySource(np.zeros((9, 4))))


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_any_table_gets_a_report(X: np.ndarray[Any, Any]) -> None:
    report = check_source(ArraySource(X))
    assert report.n_rows == len(X)
    assert report.level in LEVELS
    assert report.to_json()["level"] == report.level


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]))))
def test_any_images_get_a_report_and_equal_ones_are_found(X: np.ndarray[Any, Any]) -> None:
    known = survey(ArraySource(np.concatenate([X, X[:1]])))
    assert any({0, len(X)} <= set(rows) for rows in exact_duplicates(known))
    assert all(len(rows) > 1 for rows in near_duplicates(known))
    assert check_source(ArraySource(X)).level in LEVELS


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_linked_equals_connected_components(pairs: list[tuple[int, int]]) -> None:
    edges = np.zeros((10, 10))
    for first, second in pairs:
        edges[first, second] = 1
    _, component = connected_components(edges, directed=False)
    members = sorted({member for pair in pairs for member in pair})
    groups = [[other for other in members if component[other] == component[member]] for member in members]
    assert linked(pairs) == sorted(group for member, group in zip(members, groups, strict=True) if group[0] == member)


@pytest.mark.parametrize("shape", [(16, 16), (40, 24), (5, 33)])
def test_thumbnails_keep_the_mean(shape: tuple[int, int]) -> None:
    X = np.random.default_rng(0).integers(0, 256, (3, *shape, 1), dtype=np.uint8)
    thumbnails = _thumbnails(X)
    assert thumbnails.shape == (3, THUMBNAIL**2)
    np.testing.assert_allclose(thumbnails.mean(axis=1), X.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_a_column_that_looks_like_the_label_is_an_error():
    table = pa.table({"volt": np.random.default_rng(0).normal(size=200), "target": np.arange(200) % 2})
    finding = check_source(open_source(table)).findings[0]
    assert (finding.name, finding.level) == ("columns", "error") and "--label-column target" in finding.text
    assert check_source(open_source(table, label_column="target")).findings[0].name != "columns"
