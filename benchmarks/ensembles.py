"""What several seeds of one detector bring, trained as one batched model.

    INSPHERE_DATA=FOLDER python benchmarks/ensembles.py

On each of ADBench's 18 tables, `Fusion(["vae-svdd"] * 10)`: ten networks that differ in their first weights, their order of rows and
their noise, trained as one. "one seed" is the mean AUROC of the ten by themselves, ± their standard deviation; "ten" that of the mean of
their scores in units of normal rows; "fusion" is `Fusion()`, the default for tables. Half of the normal rows are trained on, drawn by the
seed; scaled as the detector does by itself. Seconds are of one core; "one by one" trains the same ten with `vae-svdd` alone. Nothing was
chosen by these figures. Runs that are in the CSV already are not repeated. Writes benchmarks/reports/ensembles.csv and ensembles.md.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ablation import fitted
from choice import TABLES
from records import circumstances, read, write
from transformations import rows_of

import insphere
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
N_SEEDS = 10
FIGURES = ("auroc_one", "spread", "auroc_ten", "auroc_fusion", "seconds_one_by_one", "seconds_as_one")


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=[f"adbench/{name}" for name in TABLES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = REPORTS / "ensembles.csv"
    fitted(insphere.Fusion(["vae-svdd"] * 2, random_state=0), np.random.default_rng(0).normal(size=(50, 4)))  # so that all is imported
    for seed in options.seeds:
        for name in options.sets:
            if not any((row["set"], int(row["seed"])) == (name, seed) for row in read(path)):
                write(path, [*read(path), measured(name, seed)])
                print(name, seed, flush=True)
    (REPORTS / "ensembles.md").write_text(report(read(path)), encoding="utf-8")


def measured(name: str, seed: int) -> dict[str, Any]:
    """Return the row of one table."""
    train, test, labels = rows_of(name, seed)
    ensemble, as_one = fitted(insphere.Fusion(["vae-svdd"] * N_SEEDS, random_state=seed), train)
    ones = [100 * auroc(labels, part._score(test)).value for part in ensemble.detectors_]
    alone = [fitted(insphere.DeepSVDDVAE(random_state=part.seed_), train)[1] for part in ensemble.detectors_]
    default, _ = fitted(insphere.Fusion(random_state=seed), train)
    figures = (
        np.mean(ones),
        np.std(ones),
        100 * auroc(labels, ensemble.anomaly_score(test)).value,
        100 * auroc(labels, default.anomaly_score(test)).value,
        sum(alone),
        as_one,
    )
    rounded = {name: round(float(value), 2) for name, value in zip(FIGURES, figures, strict=True)}
    return {"set": name, "seed": seed, "n_train": len(train), **rounded, **circumstances()}


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    seeds = sorted({int(row["seed"]) for row in rows})
    sets = list(dict.fromkeys(row["set"] for row in rows))
    table = ["| set | one seed | ten | fusion | one by one, s | as one, s |", "|---|---|---|---|---|---|"]
    means = []
    for name in sets:
        own = np.mean([[float(row[figure]) for figure in FIGURES] for row in rows if row["set"] == name], axis=0)
        means.append(own)
        table.append(f"| {name} | {own[0]:.1f} ± {own[1]:.1f} | {own[2]:.1f} | {own[3]:.1f} | {own[4]:.0f} | {own[5]:.0f} |")
    mean = np.mean(means, axis=0)
    table.append(f"| **mean of {len(sets)}** | **{mean[0]:.1f}** | **{mean[2]:.1f}** | **{mean[3]:.1f}** | {mean[4]:.0f} | {mean[5]:.0f} |")
    made = "; ".join(sorted({f"{row['versions']}; {row['machine']}" for row in rows}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    about = (__doc__ or "").partition("\n\n")[2].strip()
    run = f"Seeds {', '.join(map(str, seeds))}; commits {commits}; {made}, other work beside."
    end = f"{run} Written by `benchmarks/ensembles.py`; do not edit."
    return "\n\n".join(["# Several seeds as one", about, "AUROC in %.", "\n".join(table), end]) + "\n"


if __name__ == "__main__":
    main()
