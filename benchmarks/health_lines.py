"""How often each finding of the health report is true and false: networks fitted well and badly on purpose, on real rows.

    INSPHERE_DATA=FOLDER python benchmarks/health_lines.py

fits `vae-svdd` under each setting below on ten digits (8 × 8 pixels, from scikit-learn) and, where the folder has adbench/, on six tables,
seed 0. A fit counts as bad if its AUROC on the test rows is ten points or more below that of the 5 nearest neighbours on the same rows, or
scoring is refused. Labels are used for that alone. It writes benchmarks/reports/health-lines.csv and health-lines.md: for each finding, in
how many bad and good fits it warns; and, for each value that a finding measures, which line would tell bad from good fits best.
"""

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from records import circumstances, write

import insphere
from insphere.data import one_class_split
from insphere.errors import InsphereError
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
TABLES = ("20_letter", "30_satellite", "40_vowels", "44_Wilt", "6_cardio", "18_Ionosphere")
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "euclidean": {"geometry": "euclidean"},
    "fixed variance": {"reading": {"likelihood": "gaussian"}, "geometry": "euclidean"},
    "alpha 1": {"alpha": 1.0, "geometry": "euclidean"},
    "alpha 30": {"alpha": 30.0, "geometry": "euclidean"},
    "alpha 30, local": {"alpha": 30.0},
    "alpha 0.0001": {"alpha": 1e-4, "geometry": "euclidean"},
    "one epoch": {"epochs": 1},
    "step 0.1": {"training": {"lr": 0.1}},
    "one dimension": {"latent_dim": 1},
    "not scaled": {"scaling": "none", "geometry": "euclidean"},
}
FAR_BELOW = 10.0  # points of AUROC


def main() -> None:
    """Fit all and write the reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row for name in options.sets or sets() for row in measured(name)]
    write(REPORTS / "health-lines.csv", rows)
    (REPORTS / "health-lines.md").write_text(report(rows), encoding="utf-8")


def sets() -> list[str]:
    """Return the names of the data sets that are there."""
    folder = Path(os.environ.get("INSPHERE_DATA", ".")) / "adbench"
    return [*(f"digits:{digit}" for digit in range(10)), *(f"adbench/{name}.npz" for name in TABLES if (folder / f"{name}.npz").exists())]


def measured(name: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each setting on a data set: AUROC, that of the neighbours, and each finding's level and value."""
    split = one_class_split(name if ":" in name else Path(os.environ["INSPHERE_DATA"]) / name, random_state=0)
    control = insphere.KNN(random_state=0).fit(split.train)
    bar = 100 * auroc(split.labels, control.anomaly_score(split.test)).value
    for setting, parameters in SETTINGS.items():
        detector = insphere.DeepSVDDVAE(random_state=0, **parameters)
        row: dict[str, Any] = {"set": name, "setting": setting, "neighbours": round(bar, 1), "auroc": float("nan")}
        try:
            detector.fit(split.train)
            row["auroc"] = round(100 * auroc(split.labels, detector.anomaly_score(split.test)).value, 1)
        except InsphereError as error:
            row["refused"] = type(error).__name__
        if hasattr(detector, "health_"):
            for finding in detector.health_.findings:
                row |= {f"{finding.name}: level": finding.level, f"{finding.name}: value": finding.value}
        row["bad"] = int(not row["auroc"] > bar - FAR_BELOW)
        print(name, setting, row["auroc"], round(bar, 1), flush=True)
        yield row


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    made_with = circumstances()
    bad = np.array([bool(row["bad"]) for row in rows])
    names = list(dict.fromkeys(key.removesuffix(": level") for row in rows for key in row if key.endswith(": level")))
    lines = [
        "# Lines of the health report",
        *[part.strip() for part in (__doc__ or "").split("\n\n")[1:]],
        f"{len(rows)} fits, {bad.sum()} of them bad.",
        "\n".join(
            [
                "| finding | warns in bad fits | in good fits | quartiles in bad fits | in good fits | best line: hits, false alarms |",
                "|---|---|---|---|---|---|",
                *(about(name, rows, bad) for name in names),
                _row("any of them", np.array([any(_warns(row, name) for name in names) for row in rows]), bad, [""] * 3),
            ]
        ),
        by_setting(rows),
        f"Seed 0; {made_with['versions']} at commit {made_with['commit']}; {made_with['machine']}.",
        "Written by `benchmarks/health_lines.py`; do not edit.",
    ]
    return "\n\n".join(lines) + "\n"


def about(name: str, rows: list[dict[str, Any]], bad: np.ndarray) -> str:
    """Return a finding's line."""
    values = np.array([float(row.get(f"{name}: value", "nan")) for row in rows])
    known = np.isfinite(values)
    sides = [values[known & side] for side in (bad, ~bad)]
    quartiles = ["/".join(f"{value:.2g}" for value in np.percentile(own, (25, 50, 75))) if len(own) else "" for own in sides]
    return _row(name, np.array([_warns(row, name) for row in rows]), bad, [*quartiles, best_line(values[known], bad[known])])


def best_line(values: np.ndarray, bad: np.ndarray) -> str:
    """Return the line, on either side, that tells bad from good fits best (hits less false alarms); empty where none does by a tenth."""
    best = (0.1, "")
    for line in np.unique(values):
        for side, beyond in (("<", values < line), (">", values > line)):
            hits, alarms = beyond[bad].mean() if bad.any() else 0.0, beyond[~bad].mean() if (~bad).any() else 0.0
            if hits - alarms > best[0]:
                best = (float(hits - alarms), f"{side} {line:.3g}: {100 * hits:.0f} %, {100 * alarms:.0f} %")
    return best[1]


def by_setting(rows: list[dict[str, Any]]) -> str:
    """Return how many fits of each setting are bad, and its mean AUROC."""
    lines = ["| setting | bad fits | mean AUROC | neighbours |", "|---|---|---|---|"]
    for setting in SETTINGS:
        own = [row for row in rows if row["setting"] == setting]
        reached = np.nanmean([float(row["auroc"]) for row in own])
        lines.append(
            f"| {setting} | {sum(int(row['bad']) for row in own)} of {len(own)} | {reached:.1f} |"
            f" {np.mean([float(row['neighbours']) for row in own]):.1f} |"
        )
    return "\n".join(lines)


def _warns(row: dict[str, Any], name: str) -> bool:
    return row.get(f"{name}: level", "ok") not in ("ok", "")


def _row(name: str, warned: np.ndarray, bad: np.ndarray, more: list[str]) -> str:
    shares = [f"{warned[side].sum()} of {side.sum()}" for side in (bad, ~bad)]
    return f"| {name} | {' | '.join([*shares, *more])} |"


if __name__ == "__main__":
    main()
