"""Draw docs/choice.png, which detector does how well on what, from the reports' own CSV files; nothing is measured here.

python docs/run_choice.py
"""

import csv
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "choice.png"
COLOURS = {"photo": "#1d7386", "fusion": "#1d7386", "vae-svdd": "#1d7386", "transform-svdd": "#1d7386"}
Row = Mapping[str, str]


def means(path: str, key: Callable[[Row], tuple[str, str] | None], value: Callable[[Row], str]) -> dict[str, dict[str, float]]:
    """Return the mean AUROC in percent of each method and set, over seeds; `key` gives (method, set), None for lines to leave out."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (ROOT / path).open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            chosen = key(line)
            if chosen is not None and value(line):
                found[chosen[0]][chosen[1]].append(float(value(line)))
    return {method: {name: statistics.mean(each) for name, each in sets.items()} for method, sets in found.items()}


def panels() -> list[tuple[str, dict[str, dict[str, float]]]]:
    """Return the panels: title, and mean AUROC by method and set."""
    of_photos = means(
        "benchmarks/reports/photos.csv",
        lambda row: (row["detector"], row["seed"]) if row["set"] == "magnetic-tiles" else None,
        lambda row: row["auroc"],
    )
    small = means(
        "papers/vae-svdd-2021/results/results.csv",
        lambda row: (_name(row), f"{row['dataset']} {row['normal_class']}") if row["dataset"] == "mnist" and _name(row) else None,
        lambda row: str(100 * float(row["auroc"])) if row["auroc"] else "",
    )
    for method, column in {"transform-svdd": "transform", "vae-svdd": "vae_svdd"}.items():  # with the defaults, not the paper's settings
        own = means("benchmarks/reports/digits.csv", lambda row, m=method: (m, row["digit"]), lambda row, c=column: row[c])  # type: ignore[misc]
        small |= own
    small |= means(
        "benchmarks/reports/photos.csv",
        lambda row: ("photo", row["set"]) if row["set"].startswith("mnist:") and row["detector"] == "photo" else None,
        lambda row: row["auroc"],
    )
    tables = means("benchmarks/reports/adbench.csv", lambda row: (row["method"], row["table"]), lambda row: row["auroc"])
    return [("Photos (magnetic tiles, seeds)", of_photos), ("Digits (MNIST, 10 classes)", small), ("Tables (ADBench, 18)", tables)]


def _name(row: Row) -> str:
    known = {
        "Deep SVDD-VAE": "vae-svdd",
        "IF": "iforest",
        "OC-SVM": "ocsvm",
        "KDE": "kde",
        "CAE": "cae",
        "One-Class Deep SVDD": "deep-svdd",
    }
    return known.get(row["label"], "5-NN" if "5-NN" in row["label"] else "")


def main() -> None:
    """Draw a dot for each set and a line at the mean of each method, best first."""
    picture = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, (title, methods) in zip(picture.subplots(1, 3), panels(), strict=True):
        ranked = sorted(methods, key=lambda method: statistics.mean(methods[method].values()))
        for place, method in enumerate(ranked):
            values = list(methods[method].values())
            axes.plot(values, [place] * len(values), "o", markersize=4, alpha=0.45, color=COLOURS.get(method, "#7a858a"))
            axes.plot([statistics.mean(values)], [place], "|", markersize=16, markeredgewidth=2.5, color=COLOURS.get(method, "#566268"))
        axes.set_yticks(range(len(ranked)), [f"{method} ({len(methods[method])})" for method in ranked])
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("AUROC in %")
        axes.set_xlim(right=100.5)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
