"""Tables: every number recomputed by hand, every gap shown, one content in three forms."""

import csv
import dataclasses
import html.parser
import io
import math
import statistics

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.benchmark.tables.cells import MEAN, Frame
from insphere.benchmark.tables.expected import Expected, ExpectedTable
from insphere.benchmark.tables.measured import measured_runs
from insphere.benchmark.tables.rendering import SIGNS, as_csv, as_html, as_markdown, value_text
from insphere.benchmark.tables.tables import TOLERANCE, judge, make_frames, write_tables
from insphere.errors import DataError
from results_table import example_results, row

PUBLISHED = Expected(
    "A paper",
    (
        ExpectedTable(
            "table-1", "Table 1", "digits", ("cae", "knn", "vae"), {"cae": "CAE", "knn": "5-NN", "vae": "VAE"},
            {"3": {"cae": 90.0, "knn": 95.0, "vae": 97.0}, "8": {"cae": 71.0, "knn": 95.0, "vae": 96.0}},
        ),
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Planned:
    dataset: str
    normal_class: str
    method: str
    seed: int


@pytest.fixture
def results() -> pa.Table:
    return example_results()


@pytest.fixture
def frame(results: pa.Table) -> Frame:
    (frame,) = make_frames(results, PUBLISHED)
    return frame


def test_cells_hold_mean_deviation_difference_and_verdict(frame):
    cell = frame.cells["8", "knn"]
    assert (cell.mean, cell.deviation) == pytest.approx((92.0, math.sqrt(8)))
    assert cell.difference == pytest.approx(-3.0) and cell.verdict == "below"
    assert frame.cells["3", "knn"].verdict == "within"
    assert frame.cells["8", "cae"].deviation is None and frame.cells["8", "cae"].difference == pytest.approx(-1.0)


def test_the_mean_row_averages_classes_and_its_spread_is_over_seeds_in_all_classes(frame):
    knn = frame.cells[MEAN, "knn"]
    assert (knn.mean, knn.expected) == pytest.approx((94.5, 95.0))
    assert knn.deviation == pytest.approx(statistics.stdev([(96 + 90) / 2, (98 + 94) / 2]))
    cae = frame.cells[MEAN, "cae"]  # seed 1 lacks class 8, seed 2 failed: one seed has all classes
    assert cae.mean == pytest.approx((85 + 70) / 2) and cae.deviation is None and cae.n_seeds == 1


def test_columns_are_the_published_ones_then_controls_and_all_rows_are_there(frame):
    assert [column.heading for column in frame.columns] == ["CAE", "VAE", "5-NN (control)"]
    assert frame.rows == ("3", "8", MEAN)
    assert set(frame.cells) == {(name, method) for name in frame.rows for method in ("cae", "knn", "vae")}


def test_what_is_missing_or_failed_is_shown_with_counts(frame):
    assert value_text(frame.cells["3", "cae"]) == "85.0 ± 7.1 [2 of 3 seeds, 1 failed]"
    assert value_text(frame.cells["8", "cae"]) == "70.0 [1 of 3 seeds]"
    assert value_text(frame.cells["3", "vae"]) == "missing [not run]"
    assert value_text(frame.cells[MEAN, "vae"]) == "missing [2 classes without a value]"
    assert frame.cells["3", "vae"].verdict == "not comparable"
    text = as_markdown(frame)
    assert "missing \\[" not in text and "| missing [not run] (97.0, ?) |" in text


def test_a_plan_says_which_cells_there_are(results):
    planned = [Planned("digits", name, method, seed) for name in ("3", "4") for method in ("cae", "svdd") for seed in range(5)]
    (frame,) = make_frames(results, PUBLISHED, planned)
    assert frame.rows == ("3", "4", "8", MEAN)
    assert [column.method for column in frame.columns] == ["cae", "svdd", "knn"]
    assert value_text(frame.cells["4", "svdd"]) == "missing [0 of 5 seeds]"
    assert value_text(frame.cells["3", "cae"]) == "85.0 ± 7.1 [2 of 5 seeds, 1 failed]"
    assert any("methods VAE" in note for note in frame.notes)
    # The published mean is over other classes than ours, so the two are not compared.
    assert frame.cells[MEAN, "cae"].expected is None


def test_a_published_table_without_results_is_all_missing_and_still_there():
    columns = {name: pa.array([], pa.string()) for name in ("dataset", "normal_class", "method", "seed", "auroc")}
    (frame,) = make_frames(pa.table(columns), PUBLISHED)
    assert {value_text(cell) for cell in frame.cells.values()} == {"missing [not run]", "missing [2 classes without a value]"}
    assert "No runs yet." in frame.notes


def test_a_data_set_that_nobody_published_gets_a_plain_table(results):
    (frame,) = make_frames(results)
    assert frame.name == frame.title == "digits"
    assert {cell.expected for cell in frame.cells.values()} == {None}
    assert "| 3 | 85.0 ± 7.1 [2 of 3 seeds, 1 failed] | 97.0 ± 1.4 |" in as_markdown(frame)


def test_notes_say_what_the_numbers_rest_on(frame):
    text = " ".join(frame.notes)
    for part in (
        "standard deviation over seeds",
        "A paper",
        "8 runs, 1 failed",
        "CAE 1–2",
        "KNN 2",
        "3 with a warning",
        "abc1234",
        "two cores",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("mean", "expected", "verdict"),
    [
        (95.9 - TOLERANCE, 95.9, "within"),
        (95.9 + TOLERANCE, 95.9, "within"),
        (95.9 + TOLERANCE + 0.01, 95.9, "above"),
        (95.9 - TOLERANCE - 0.01, 95.9, "below"),
        (None, 95.9, "not comparable"),
        (95.9, None, "not comparable"),
    ],
)
def test_verdicts(mean, expected, verdict):
    assert judge(mean, expected) == verdict


def test_a_mean_that_is_uncertain_is_not_compared():
    assert judge(50.0, 95.0, deviation=5.01, n_seeds=4) == "not comparable"
    assert judge(50.0, 95.0, deviation=4.99, n_seeds=4) == "below"


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 100))
def test_verdicts_mirror(ours, theirs):
    mirrored = {"above": "below", "below": "above", "within": "within"}
    assert judge(theirs, ours) == mirrored[judge(ours, theirs)]


class Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "small":
            self.rows[-1][-1] += " "

    def handle_data(self, data):
        if self.rows and self.rows[-1] and data.strip() and self.lasttag in ("td", "th", "small"):
            self.rows[-1][-1] += data


def test_the_three_forms_say_the_same(frame):
    markdown = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in as_markdown(frame).splitlines()
        if line.startswith("|") and "---" not in line
    ]
    page = Cells()
    page.feed(as_html(frame))
    assert [cells for cells in page.rows if cells] == markdown
    assert page.links == []
    lines = list(csv.DictReader(io.StringIO(as_csv(frame))))
    assert len(lines) == len(frame.cells)
    for line in lines:
        cell = frame.cells[line["normal_class"], line["method"]]
        shown = markdown[1 + frame.rows.index(line["normal_class"])][1 + [c.method for c in frame.columns].index(line["method"])]
        assert (f"{float(line['auroc_mean']):.1f}" if line["auroc_mean"] else "missing") == shown.split()[0]
        assert line["verdict"] == cell.verdict and SIGNS[cell.verdict] in shown
        assert int(line["n_seeds"]) == cell.n_seeds and int(line["n_planned"]) == cell.n_planned


def test_names_cannot_become_markup(results):
    table = results.set_column(results.column_names.index("label"), "label", pa.array(["<script>x</script>|y"] * len(results)))
    (frame,) = make_frames(table)
    assert "<script>" not in as_html(frame)
    header = as_markdown(frame).splitlines()[2]
    assert "<script>" not in header.replace("\\<", "") and header.replace("\\|", "").count("|") == 4


def test_files_are_written_and_the_same_each_time(results, tmp_path):
    first = [(path.name, path.read_bytes()) for path in write_tables(results, tmp_path / "a" / "b", expected=PUBLISHED)]
    assert [name for name, _ in first] == ["table-1.md", "table-1.csv", "table-1.html"]
    assert [(path.name, path.read_bytes()) for path in write_tables(results, tmp_path, expected=PUBLISHED)] == first


def test_a_data_set_cannot_name_a_file_elsewhere(tmp_path):
    table = pa.Table.from_pylist([row("3", "knn", 0, 0.9, dataset="../../x")])
    assert {path.parent for path in write_tables(table, tmp_path)} == {tmp_path}


def test_results_read_back_from_csv_are_the_same(results, tmp_path):
    pa_csv.write_csv(results, tmp_path / "r.csv")
    assert measured_runs(pa_csv.read_csv(tmp_path / "r.csv")) == measured_runs(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("seed"), "lacks seed"),
        (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "holds knn on digits 3 with seed 0 twice"),
        (lambda table: table.set_column(table.column_names.index("auroc"), "auroc", pa.array([97.0] * 8)), r"Row 0 .* must be in \[0, 1\]"),
        (lambda table: table.set_column(table.column_names.index("auroc"), "auroc", pa.array(["good"] * 8)), "Row 0 .* cannot be read"),
        (lambda table: table.set_column(table.column_names.index("method"), "method", pa.array([None] * 8)), "`method` is empty"),
        (lambda table: table.set_column(table.column_names.index("parameters"), "parameters", pa.array(["{"] * 8)), "Row 0"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(results, change, message):
    with pytest.raises(DataError, match=message):
        make_frames(change(results))
