"""Generated blocks and comparisons of two methods."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.benchmark.tables.comparisons import compare
from insphere.benchmark.tables.measured import Measured
from insphere.benchmark.tables.pages import fill_blocks
from insphere.errors import DataError

PAGE = "# Title\n\n<!-- generated: a -->\nold\n<!-- end of: a -->\n\nText.\n\n<!-- generated: b -->\n<!-- end of: b -->\nEnd.\n"


def test_blocks_are_replaced_and_the_rest_stays():
    filled = fill_blocks(PAGE, {"a": "1\n", "b": "| 2 |"})
    assert "old" not in filled and "\n1\n" in filled and "\n| 2 |\n" in filled
    assert filled.startswith("# Title\n\n<!-- generated: a -->") and filled.endswith("<!-- end of: b -->\nEnd.\n")
    assert fill_blocks(filled, {"a": "1", "b": "| 2 |"}) == filled


@settings(deadline=None)
@given(st.text(alphabet="a<!->\\1 \n", max_size=20))
def test_any_content_is_taken_as_it_is(content):
    assert content.strip() in fill_blocks(PAGE, {"a": content, "b": ""})


@pytest.mark.parametrize(
    ("page", "blocks", "message"),
    [
        (PAGE, {"a": ""}, "asks for a block 'b'"),
        (PAGE, {"a": "", "b": "", "bb": ""}, "no place for the block 'bb'"),
        (PAGE.replace("<!-- end of: a -->", ""), {"a": "", "b": ""}, "has no partner"),
        (PAGE.replace("<!-- end of: b -->", ""), {"a": "", "b": ""}, "'b' has no end"),
        (PAGE.replace("<!-- generated: b -->", ""), {"a": "", "b": ""}, "has no partner"),
        (PAGE + PAGE, {"a": "", "b": ""}, "'a' is in the page twice"),
        (PAGE, {"a": "<!-- end of: b -->", "b": ""}, "holds a marker of its own"),
    ],
)
def test_a_page_that_does_not_fit_is_refused(page, blocks, message):
    with pytest.raises(DataError, match=message):
        fill_blocks(page, blocks)


def run(method: str, normal_class: str, seed: int, auroc: float | None, seconds: float = 1.0, **more: str) -> Measured:
    return Measured("d", normal_class, method, seed, auroc, fit_seconds=seconds, **more)


def test_methods_are_compared_where_both_have_a_result():
    runs = [
        *(run("a", "3", seed, value, 10.0) for seed, value in ((0, 0.9), (1, 0.8), (2, 0.1))),
        *(run("b", "3", seed, value, 40.0) for seed, value in ((0, 0.8), (1, 0.8))),
        run("a", "8", 0, 0.5, 10.0),
        run("b", "8", 0, 0.6, 40.0),
        run("a", "9", 0, 0.5),
        run("b", "9", 0, None),
    ]
    found = compare(runs, "d", "a", "b")
    assert (found.n_classes, found.n_better, found.n_pairs) == (2, 1, 3)
    assert found.difference == pytest.approx((5 - 10) / 2)
    assert found.deviation == pytest.approx(15 / 2**0.5)
    assert found.time_ratio == pytest.approx(0.25)
    assert compare(runs, "d", "a", "c") is None and compare(runs, "e", "a", "b") is None


def test_times_from_different_machines_give_no_ratio():
    found = compare([run("a", "3", 0, 0.9, machine="x"), run("b", "3", 0, 0.8, machine="y")], "d", "a", "b")
    assert found.time_ratio is None and found.deviation is None
