"""The benchmark of attacks on the bundled digits: what is drawn, what is reported, what is resumed, and the tables from it."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from insphere.benchmark.attacks.attacking import run_attack_benchmark, run_attack_stage
from insphere.benchmark.attacks.draws import draw_areas, draws, summarise_areas
from insphere.benchmark.attacks.reports import read_attack_reports, to_attack_table
from insphere.benchmark.attacks.settings import AttackSettings
from insphere.benchmark.attacks.table import make_attack_frames, write_attack_tables
from insphere.benchmark.tables.expected import Expected, ExpectedFigure, ExpectedTable
from insphere.benchmark.tables.figures import write_figures
from insphere.errors import DataError, ParameterError
from results_table import example_results

SETTINGS = AttackSettings("digits", "3", epsilons=(64, 16), n_attacked=10, n_draws=200, classifier_epochs=8)
LABELS = {"knn": "5-NN", "cae": "CAE"}
PUBLISHED = Expected(
    "A paper", (ExpectedTable("table-5", "Table 5", "digits", ("knn", "cae"), LABELS, {"3": {"knn": 99.0, "cae": 20.0}}, attacked=True),)
)


@dataclasses.dataclass(frozen=True)
class Run:
    method: str
    detector: str
    dataset: str = "digits"
    normal_class: str = "3"
    seed: int = 0
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    label: str = ""
    control: bool = False

    @property
    def id(self) -> str:
        return f"digits-3-{self.method}-s{self.seed}"


RUNS = [
    Run("knn", "knn", control=True, label="KNN"),
    Run("knn", "knn", seed=1, control=True, label="KNN"),
    Run("vae-svdd", "vae-svdd", parameters={"epochs": 2}),
    Run("broken", "knn", parameters={"n_neighbors": 0}),
]


@pytest.fixture(scope="session")
def attacks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("attacks")
    environment = {"commit": "abc1234", "machine": "two cores"}
    paths = run_attack_benchmark(RUNS, SETTINGS, folder, environment=environment)
    assert [path.exists() for path in paths] == [True] * 4
    return folder


def report_of(folder: Path, method: str) -> dict[str, Any]:
    return next(report for report in read_attack_reports(folder) if report["run"]["method"] == method)


def test_reports_hold_every_attack_and_strength(attacks):
    knn, neural, broken = (report_of(attacks, name) for name in ("knn", "vae-svdd", "broken"))
    assert [(one["attack"], one["epsilon"]) for one in knn["attacks"]] == [("classifier", 64), ("classifier", 16)]
    assert [one["attack"] for one in neural["attacks"][::2]] == ["classifier", "evasion", "false-alarm"]
    assert knn["classifier_accuracy"] > 0.9 and knn["n_clean"] == 61 >= knn["n_candidates"] >= 50
    assert (broken["status"], broken["attacks"]) == ("failed", []) and "n_neighbors" in broken["error"]
    strong, weak = knn["attacks"]
    assert strong["auroc"] > weak["auroc"] > 0.5 and strong["fooled"] >= weak["fooled"] > 0
    for one in neural["attacks"]:
        assert 0 <= one["auroc_low"] <= one["auroc"] <= one["auroc_high"] <= 1


def test_white_box_attacks_move_the_score_the_way_they_mean_to(attacks):
    by_name = {(one["attack"], one["epsilon"]): one["auroc"] for one in report_of(attacks, "vae-svdd")["attacks"]}
    assert by_name["evasion", 16] < by_name["classifier", 16] < by_name["false-alarm", 16]


def test_reports_follow_from_the_scores(attacks):
    report = report_of(attacks, "knn")
    path = next(path for path in sorted(attacks.glob("*.scores.parquet")) if "-knn-s0-" in path.name)
    scores = pq.read_table(path)
    assert scores["type"].to_pylist()[:: 61 + report["n_candidates"]][0] == "clean"
    clean = np.array([row["anomaly_score"] for row in scores.to_pylist() if row["type"] == "clean"])
    attacked = np.array([row["anomaly_score"] for row in scores.to_pylist() if row["type"] == "epsilon 16"])
    areas = []
    for chosen in draws(SETTINGS, len(attacked), 16):
        assert len(set(chosen.tolist())) == SETTINGS.n_attacked
        areas.append(roc_auc_score([0] * len(clean) + [1] * 10, np.concatenate([clean, attacked[chosen]])))
    assert report["attacks"][1]["auroc"] == pytest.approx(np.mean(areas))
    assert report["attacks"][1]["auroc_deviation"] == pytest.approx(np.std(areas, ddof=1))
    assert report["attacks"][1]["auroc_low"] == pytest.approx(np.quantile(areas, 0.025))


def test_attacked_images_differ_by_at_most_epsilon(attacks):
    with np.load(attacks / report_of(attacks, "knn")["images"], allow_pickle=False) as stored:
        clean, attacked, levels = (stored[name] for name in ("clean", "attacked", "epsilons"))
    assert levels.tolist() == [64, 16] and clean.dtype == attacked.dtype == np.uint8
    for images, level in zip(attacked, levels, strict=True):
        nearest = np.abs(images[:, None].astype(int) - clean[None]).max(axis=(2, 3, 4)).min(axis=1)
        assert set(nearest.tolist()) == {int(level)}


def test_what_exists_is_not_done_again_and_another_place_gives_the_same(attacks, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in attacks.iterdir()}
    told: list[Any] = []
    run_attack_benchmark(RUNS, SETTINGS, attacks, on_report=told.append)
    assert told == [] and {path: path.stat().st_mtime_ns for path in attacks.iterdir()} == before
    (path,) = run_attack_benchmark(RUNS[2:3], SETTINGS, tmp_path, on_report=told.append)
    assert told[0]["attacks"] == report_of(attacks, "vae-svdd")["attacks"] == json.loads(path.read_text())["attacks"]


def test_a_stage_chooses_runs_reports_and_tabulates(attacks, tmp_path):
    settings = dataclasses.replace(SETTINGS, methods=("knn",))
    (tmp_path / "attacks").mkdir()
    for path in attacks.glob("classifier-*"):  # trained already, and of the same images
        shutil.copy(path, tmp_path / "attacks")
    runs = [*RUNS, Run("knn", "knn", dataset="mnist")]
    files = run_attack_stage(runs, settings, tmp_path, expected=PUBLISHED)
    assert [path.name for path in files] == ["attacks.csv", "table-5.md", "table-5.csv", "table-5.html"]
    assert "| 5-NN (control) |" in files[1].read_text()
    assert (
        make_attack_frames(pa_csv.read_csv(files[0]))[0].cells.keys()
        == make_attack_frames(to_attack_table([report for report in read_attack_reports(attacks) if report["run"]["method"] == "knn"]))[
            0
        ].cells.keys()
    )
    other = dataclasses.replace(settings, epsilons=(32,), n_draws=5)  # beside the first, in the same place
    run_attack_stage(runs, other, tmp_path)
    assert len(list((tmp_path / "attacks").glob("*.npz"))) == 2 and len(list((tmp_path / "attacks").glob("classifier-*"))) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=3, max_size=20))
def test_areas_are_those_of_the_drawn_sets(clean, attacked):
    settings = AttackSettings("digits", "3", n_attacked=3, n_draws=5)
    clean, attacked = np.array(clean, float), np.array(attacked, float)
    areas = draw_areas(clean, attacked, settings, 8)
    for area, chosen in zip(areas, draws(settings, len(attacked), 8), strict=True):
        expected = roc_auc_score([0] * len(clean) + [1] * 3, np.concatenate([clean, attacked[chosen]]))
        assert area == pytest.approx(expected)
    summary = summarise_areas(areas)
    assert summary["auroc_low"] <= summary["auroc"] + 1e-12 and summary["auroc"] <= summary["auroc_high"] + 1e-12


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"dataset": "digits"}, r"\[attack\] must have `normal_class`"),
        ({"dataset": "digit", "normal_class": "3"}, "no data set 'digit'"),
        ({"dataset": "digits", "normal_class": "11"}, "digits has no class '11'"),
        ({"dataset": "digits", "normal_class": 3}, "must be texts"),
        ({"dataset": "digits", "normal_class": "3", "epsilons": []}, "at least one"),
        ({"dataset": "digits", "normal_class": "3", "epsilons": [0.03]}, "must be a whole number"),
        ({"dataset": "digits", "normal_class": "3", "epsilons": [8, 8]}, "no strength twice"),
        ({"dataset": "digits", "normal_class": "3", "epsilons": [256]}, "at most 255"),
        ({"dataset": "digits", "normal_class": "3", "n_draws": 0}, "`n_draws`"),
        ({"dataset": "digits", "normal_class": "3", "methods": "knn"}, "`methods` must be a list"),
        ({"dataset": "digits", "normal_class": "3", "n_draw": 5}, "Did you mean 'n_draws'?"),
    ],
)
def test_wrong_settings_are_refused(section, message):
    with pytest.raises(ParameterError, match=message):
        AttackSettings.from_mapping(section)


@dataclasses.dataclass(frozen=True)
class Planned:
    dataset: str
    normal_class: str
    method: str
    seed: int = 0


def test_the_runs_that_take_part_are_chosen_from_the_plan():
    plan = [Planned("digits", "3", "knn"), Planned("digits", "8", "knn"), Planned("digits", "3", "cae"), Planned("mnist", "3", "vae")]
    assert [run.method for run in SETTINGS.choose(plan)] == ["knn", "cae"]
    assert [run.method for run in dataclasses.replace(SETTINGS, methods=["cae"]).choose(plan)] == ["cae"]
    with pytest.raises(ParameterError, match="names the method 'vae', which does not run on digits 3; there is cae, knn"):
        dataclasses.replace(SETTINGS, methods=("vae",)).choose(plan)
    with pytest.raises(ParameterError, match="on which no method of the plan runs"):
        SETTINGS.choose(plan[3:])


def test_quick_settings_are_smaller():
    quick = AttackSettings("digits", "3").quick()
    assert (quick.epsilons, quick.n_draws, quick.classifier_epochs) == ((8, 32), 200, 3)


def test_more_attacked_images_than_there_are_is_refused(tmp_path):
    settings = dataclasses.replace(SETTINGS, n_attacked=62, classifier_epochs=1)
    with pytest.raises(DataError, match="62 are to be attacked; train it longer"):
        run_attack_benchmark(RUNS[:1], settings, tmp_path)


def test_damaged_reports_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="Delete it to have its run done again"):
        read_attack_reports(tmp_path)
    (tmp_path / "a.json").write_text('{"format_version": 9}')
    with pytest.raises(DataError, match="not a report of an attack"):
        read_attack_reports(tmp_path)


def test_the_table_has_means_intervals_and_verdicts(attacks):
    (frame,) = make_attack_frames(to_attack_table(read_attack_reports(attacks)), PUBLISHED)
    assert [column.heading for column in frame.columns] == ["CAE", "broken", "vae-svdd", "5-NN (control)"]
    knn = frame.cells["classifier", 16, "knn"]
    ours = [one["attacks"][1] for one in read_attack_reports(attacks) if one["run"]["method"] == "knn"]
    assert knn.n_seeds == 2 and knn.auroc == pytest.approx(50 * sum(one["auroc"] for one in ours))
    variance = np.mean([one["auroc_deviation"] ** 2 for one in ours]) + np.var([one["auroc"] for one in ours], ddof=1)
    assert (knn.low, knn.high) == pytest.approx((knn.auroc - 196 * variance**0.5, knn.auroc + 196 * variance**0.5), abs=0.01)
    assert frame.cells["classifier", 16, "cae"].auroc is None and ("evasion", 16, "cae") not in frame.cells
    assert frame.epsilons == (16, 64)


@pytest.mark.parametrize(("published", "verdict"), [(50.0, "above"), (90.0, "within"), (100.0, "below")])
def test_a_published_value_is_judged_by_the_interval(published, verdict):
    row = {
        "dataset": "digits", "normal_class": "3", "method": "knn", "label": "", "seed": 0, "attack": "classifier", "epsilon": 8,
        "auroc": 0.9, "auroc_deviation": 0.04, "error": None,
    }  # fmt: skip
    expected = Expected("A paper", (dataclasses.replace(PUBLISHED.tables[0], rows={"3": {"knn": published, "cae": 0.0}}),))
    (frame,) = make_attack_frames(pa.Table.from_pylist([row]), expected)
    assert frame.cells["classifier", 8, "knn"].verdict == verdict


def test_tables_show_what_failed_and_what_is_missing(attacks, tmp_path):
    paths = write_attack_tables(to_attack_table(read_attack_reports(attacks)), tmp_path, expected=PUBLISHED)
    assert [path.name for path in paths] == ["table-5.md", "table-5.csv", "table-5.html"]
    text = paths[0].read_text()
    assert "| CAE | missing [not run] (20.00, ?) | missing [not run] (20.00, ?) |" in text
    assert "| broken | missing [failed] | missing [failed] |" in text and "No result of broken: ParameterError" in text
    for part in ("white box", "neither the attacked network nor epsilon", "61 clean images and 10 attacked", "two cores", "abc1234"):
        assert part in text
    assert text.count("| CAE |") == 1
    assert text.count("### Table 5") == 3 == paths[2].read_text().count("<h2>")


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(DataError, match="lacks attack, auroc_deviation"):
        make_attack_frames(example_results().append_column("epsilon", pa.array([8] * 8)).append_column("error", pa.array([""] * 8)))


def test_a_gallery_shows_the_first_drawn_set(attacks, tmp_path):
    figure = ExpectedFigure("figure-7", "Figure 7", "attack-gallery", "digits", ("3",), ("knn",))
    (drawn,) = write_figures(example_results(), tmp_path, expected=Expected("", (), (figure,)), attacks_folder=attacks)
    assert [path.name for path in drawn.paths] == ["figure-7-3.png", "figure-7-3.csv"]
    lines = [line.split(",") for line in drawn.paths[1].read_text().splitlines()[1:]]
    assert {line[3] for line in lines} == {"clean", "epsilon 16"}
    anomalous = [float(line[5]) for line in lines if line[0] == "most anomalous"]
    assert anomalous == sorted(anomalous, reverse=True) and len(anomalous) == 10
