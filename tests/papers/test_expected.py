"""The published values are whole and were transcribed rightly."""

from pathlib import Path

import pytest

from insphere.benchmark.tables.expected import read_expected
from insphere.data.datasets import DATASETS

EXPECTED = read_expected(Path(__file__).parents[2] / "papers" / "vae-svdd-2021" / "expected.toml")
METHODS = ("ocsvm", "kde", "iforest", "cae", "oc-nn", "deep-svdd", "deep-svdd-vae")

# Means over the classes, worked out on their own beforehand.
MEANS = {
    "mnist": (91.3, 86.9, 92.3, 89.7, 92.3, 94.8, 95.9),
    "cifar10": (64.8, 64.9, 55.5, 59.4, 55.2, 64.8, 65.5),
    "gtsrb32": (55.2, 55.7, 67.1, 71.3, 70.6, 82.4, 83.5),
}


@pytest.mark.parametrize("table", EXPECTED.tables, ids=lambda table: table.name)
def test_the_means_over_the_classes_are_the_known_ones(table):
    assert table.methods == METHODS
    # 55.46 may have been rounded from either side of a five: half of the last digit, and a rounding error.
    assert [table.mean(method) for method in METHODS] == pytest.approx(MEANS[table.dataset], abs=0.0501)


@pytest.mark.parametrize("table", EXPECTED.tables, ids=lambda table: table.name)
def test_every_class_of_the_data_set_has_a_row_and_every_row_all_methods(table):
    classes = ("14",) if table.attacked else DATASETS[table.dataset].classes
    assert tuple(table.rows) == classes
    assert all(tuple(row) == METHODS for row in table.rows.values())
    assert table.n_seeds == 10


def test_single_cells_are_as_printed():
    mnist, cifar10, gtsrb = EXPECTED.tables
    assert [mnist.value("5", method) for method in METHODS] == [77.1, 73.8, 85.5, 78.2, 86.3, 88.5, 92.7]
    assert [cifar10.value("frog", method) for method in METHODS] == [74.7, 74.9, 42.9, 51.2, 61.9, 67.7, 66.3]
    assert (gtsrb.value("14", "deep-svdd"), gtsrb.value("14", "deep-svdd-vae")) == (82.35, 83.54)


def test_the_paper_leads_every_mean_but_not_every_class():
    for table in EXPECTED.tables:
        means = [table.mean(method) for method in METHODS]
        assert max(means) == means[-1]
    assert EXPECTED.tables[1].value("truck", "kde") > EXPECTED.tables[1].value("truck", "deep-svdd-vae")


def test_figures_show_classes_and_methods_that_exist():
    assert {figure.kind for figure in EXPECTED.figures} == {"gallery", "attack-gallery", "times", "bars", "sweep"}
    for figure in EXPECTED.figures:
        classes = {"14"} if figure.dataset == "gtsrb32" else set(DATASETS[figure.dataset.removesuffix("-alpha")].classes)
        assert set(figure.normal_classes) <= classes
        assert set(figure.methods) <= {*METHODS, "vae", "deep-svdd-cae", "knn"}
