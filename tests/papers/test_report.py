"""The reproduction report: its blocks are filled from results, and its text has no figures of its own."""

import importlib.util
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from insphere.benchmark.attacks.reports import SCHEMA
from results_table import row

FOLDER = Path(__file__).parents[2] / "papers" / "vae-svdd-2021"
HAND_WRITTEN = re.sub(r"<!-- generated: .*?<!-- end of: [a-z0-9-]+ -->", "", (FOLDER / "README.md").read_text(), flags=re.DOTALL)


@pytest.fixture
def write_report(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # as for a script, whose folder Python looks in first
    spec = importlib.util.spec_from_file_location("write_report", FOLDER / "write_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(folder: Path) -> str:
        (folder / "README.md").write_text((FOLDER / "README.md").read_text())
        monkeypatch.setattr(sys, "argv", ["write_report.py", "--results", str(folder), "--out", str(folder)])
        module.main()
        return (folder / "README.md").read_text()

    return run


def write_results(folder: Path) -> None:
    methods = {
        "deep-svdd-vae": 0.96,
        "deep-svdd-vae-literal": 0.9,
        "vae": 0.95,
        "cae": 0.9,
        "deep-svdd": 0.93,
        "deep-svdd-cae": 0.91,
        "knn": 0.97,
    }
    rows = [
        row(
            digit,
            method,
            seed,
            auroc + 0.002 * seed,
            dataset="mnist",
            label="",
            error="two\nlines",
            fit_seconds=10 * auroc,
            health="critical" if method == "cae" else "ok",
        )
        for digit in "0123456789"
        for method, auroc in methods.items()
        for seed in (0, 1)
    ]
    readings = {"readings-epochs-25": (0.94, "reading, epochs 25"), "readings-norm-squared": (0.92, "reading, norm squared")}
    rows += [
        row(digit, method, 0, auroc, dataset="mnist-readings", label=label, error="", fit_seconds=1.0, health="ok")
        for digit in "258"
        for method, (auroc, label) in readings.items()
    ]
    rows.append(row("3", "freed-activation-tanh", 0, 0.9, dataset="digits", label="freed", error="", fit_seconds=1.0, health="warning"))
    pa_csv.write_csv(pa.Table.from_pylist(rows), folder / "results.csv")
    linear = [
        {
            "dataset": "mnist",
            "normal_class": digit,
            "scaling": scaling,
            "score": score,
            "auroc": 0.8 + 0.01 * int(digit),
            "commit": "c0ffee",
            "versions": "numpy 2",
            "machine": "two cores",
        }
        for digit in "0123456789"
        for scaling in ("unit", "gcn")
        for score in ("image", "code", "reconstruction")
    ]
    pa_csv.write_csv(pa.Table.from_pylist(linear), folder / "linear.csv")
    attack = {"dataset": "gtsrb32", "normal_class": "14", "method": "cae", "attack": "classifier", "epsilon": 8, "seed": 0}
    attack |= {"auroc": 0.7, "auroc_deviation": 0.05, "fooled": 0.8, "flagged": 0.1, "n_clean": 270, "n_attacked": 20, "n_draws": 1000}
    table = pa.Table.from_pylist([{name: attack.get(name) for name in SCHEMA.names}], schema=SCHEMA)
    pa_csv.write_csv(table, folder / "attacks.csv")


def test_the_report_is_filled_from_results(write_report, tmp_path):
    write_results(tmp_path)
    page = write_report(tmp_path)
    assert "| Deep SVDD-VAE | 96.1 ± 0.1 (95.9, +0.2 ≈) |" in page
    assert "| Deep SVDD-VAE > vae | mnist | 10 of 10 | +1.0 ± 0.0 | 20 |" in page
    assert "- Table 3, declared reading: 96.1 ± 0.1 (2 seeds); published 95.9." in page
    assert "test results took part in the search: 96.1 ± 0.1 (2 seeds); published 96.9." in page
    assert "- Table 4, declared reading: not measured." in page
    assert "- Collapse: 0 of 40 runs of the method, in both readings." in page
    assert "| *published* | 93.7 | |" in page and "| *as printed* | 90.0 |  |" in page
    assert "| epochs 25 | 94.0 |  |" in page and "| norm squared | 92.0 | −2.0 |" in page
    assert "| freed | digits | 1 | 0 | 0 | 1 | 90.0 |" in page
    assert (
        "| distance to the mean image, contrast normalised | 84.5 | -0.14 | 10.3 | -0.27 | 11.4 |" in page
        and "Commit: c0ffee. Versions: numpy 2. Machine: two cores." in page
    )
    assert "time to fit against One-Class Deep SVDD, mnist: × 1" in page
    assert "| CAE | 70.0 [60.2, 79.8] (71.26, −1.3 ≈) |" in page
    assert "(figures/figure-8.png) [data](figures/figure-8.csv)" in page and (tmp_path / "figures" / "figure-8.csv").exists()
    assert (tmp_path / "tables" / "table-5.html").exists()
    assert (tmp_path / "figures" / "profile-mnist.png").exists() and "(figures/profile-mnist.csv)" in page
    assert (tmp_path / "figures" / "profile-mnist.csv").read_text().splitlines()[1] == "0,80.0,98.0,98.8,96.1"
    assert write_report(tmp_path) == page


def test_without_results_the_report_says_so(write_report, tmp_path):
    page = write_report(tmp_path)
    assert "Not measured yet." in page and "No runs yet." in page and "not drawn yet" in page
    assert page.count("| not measured | | |") == 12


def test_the_text_has_no_figures_of_its_own():
    without_places = re.sub(r"(?i)(sec\.|Fig\.|Table|eq\.) [\d.]+", "", HAND_WRITTEN)
    assert re.findall(r"\d+\.\d+|\d+ ?%|\b[5-9]\d points", without_places) == []


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", HAND_WRITTEN)
    assert links and all((FOLDER / link).exists() for link in links)
