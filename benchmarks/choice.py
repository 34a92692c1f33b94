"""The choice without labels: what the criterion of ``insphere fit --auto`` is settled on, and what it is worth on other data sets.

    INSPHERE_DATA=FOLDER python benchmarks/choice.py --measure
    python benchmarks/choice.py

The first fits every candidate of `insphere.selection.automatic` on each data set as a trial of ``--auto`` does (at most 1,500 normal rows,
at most 250 steps of a network), and keeps in benchmarks/reports/choice.csv what synthetic outliers say of it, and its AUROC on the test
rows; what is there is not measured again. The second settles the criterion's two constants for each kind of data (`PRIOR`, what each
candidate was above the mean; `SLOPE`, what a unit of separation is worth) on one half of the data sets, in the order below every other one,
and shows on the other half, whose labels nothing was settled by, the rank correlation with the test AUROC and the regret: the AUROC lost
against the best candidate of each set. It writes benchmarks/reports/choice.md and prints the constants.

A third thing was measured and left out: stability, the rank correlation of the scores of held-out rows by the candidate and by the same
fitted on a random half of the rows with another seed. On the half that the criterion is settled on, leaving one set out each time, the
regret with it is no smaller (the table says by how much on the other half). Likelihoods exist for the autoencoders only and are not
comparable between scalings; what can be compared is how much of the space a detector calls as normal as held-out rows, which is the AUROC
against the family "uniform" (one less the area under the mass-volume curve).

Labels of the other half were looked at for two things: the fusion of transform-svdd and vae-svdd was a candidate for pictures at first, was
chosen on most digits with a regret of 0.96, and was taken out; and that the distance counts twice in transform-svdd was chosen with all
digits, solar modules and eight of the tables in sight.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import circumstances, read, write
from scipy.stats import spearmanr

from insphere.data import one_class_split
from insphere.metrics import auroc
from insphere.seeding import generator
from insphere.selection.automatic import CANDIDATES, Candidate, judged, parted, trial_detector

REPORTS = Path(__file__).parent / "reports"
TABLES = (
    "12_fault", "14_glass", "18_Ionosphere", "20_letter", "24_mnist", "26_optdigits",
    "28_pendigits", "2_annthyroid", "30_satellite", "32_shuttle", "34_smtp", "38_thyroid",
    "40_vowels", "42_WBC", "44_Wilt", "46_WPBC", "4_breastw", "6_cardio",
)  # fmt: skip
PICTURES = [*(f"mnist:{digit}" for digit in range(10)), "solar-modules.zip"]
SETS = {"vectors": [f"adbench/{name}.npz" for name in TABLES], "pictures": PICTURES}
TENTHS = 10.0  # stability is counted in tenths, so that the ridge bears on its slope as on the other one
RIDGE = 4.0  # data sets' worth of "no difference" in each candidate's prior
FIELDS = (
    "kind",
    "set",
    "candidate",
    "auroc",
    "separation",
    "families",
    "stability",
    "n_fitted",
    "n_held_out",
    "seconds",
    "versions",
    "machine",
    "commit",
)


def main() -> None:
    """Measure what is missing, or settle and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="fit what is not in the CSV yet")
    parser.add_argument("--sets", nargs="+", help="of these sets only")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = REPORTS / "choice.csv"
    if options.measure:
        for kind, names in SETS.items():
            for name in names:
                if not options.sets or name in options.sets:
                    measure(kind, name, path)
    (REPORTS / "choice.md").write_text(report(read(path)), encoding="utf-8")


def measure(kind: str, name: str, path: Path) -> None:
    """Append a row for each candidate that has none on a data set."""
    done = {row["candidate"] for row in read(path) if row["set"] == name}
    missing = [candidate for candidate in CANDIDATES[kind] if candidate.name not in done]
    if not missing:
        return
    path_of_it = Path(os.environ.get("INSPHERE_DATA", ".")) / name
    split = one_class_split(name if ":" in name else path_of_it, random_state=0)
    fitted, held_out, _ = parted(split.train, generator(0, "rows to try detectors on"))
    for candidate in missing:
        row = {"kind": kind, "set": name, **tried(candidate, split, fitted, held_out), **circumstances()}
        write(path, [*read(path), row])
        print(name, candidate.name, row["auroc"], row["separation"], row["seconds"], flush=True)


def tried(candidate: Candidate, split: Any, fitted: NDArray[np.int64], held_out: NDArray[np.int64]) -> dict[str, Any]:
    """Return what a trial of one candidate says, and how well it does on the test rows."""
    started = time.perf_counter()
    detector, _ = trial_detector(candidate, {"random_state": 0}, len(fitted))
    detector.fit(detector.open_to_fit(split.train).take(fitted))
    judgement = judged(detector, split.train.take(held_out), {"random_state": 0})
    seconds = time.perf_counter() - started
    half = np.sort(generator(0, "half of the rows").permutation(fitted)[: len(fitted) // 2])
    again, _ = trial_detector(candidate, {"random_state": 1}, len(half))
    again.fit(again.open_to_fit(split.train).take(half))
    scores = [one.anomaly_score(split.train.take(held_out)) for one in (detector, again)]
    value = auroc(split.labels, detector.anomaly_score(split.test)).value
    return {
        "candidate": candidate.name,
        "auroc": round(100 * value, 2),
        "separation": round(judgement.separation, 3),
        "families": json.dumps({family: round(100 * share, 1) for family, share in judgement.families.items()}),
        "stability": round(float(np.nan_to_num(spearmanr(*scores).statistic)), 3),
        "n_fitted": len(fitted),
        "n_held_out": len(held_out),
        "seconds": round(seconds, 1),
    }


def report(rows: list[dict[str, str]]) -> str:
    """Return the page, and print the constants."""
    parts = [f"# The choice without labels\n\n{(__doc__ or '').partition(chr(10) * 2)[2].strip()}"]
    for kind, candidates in ((kind, CANDIDATES[kind]) for kind in SETS):
        names = [candidate.name for candidate in candidates]
        sets = [
            name for name in SETS[kind] if {row["candidate"] for row in rows if row["set"] == name and row["kind"] == kind} >= set(names)
        ]
        if len(sets) < 4:
            continue
        found = {(row["set"], row["candidate"]): row for row in rows}
        reached = np.array([[float(found[name, candidate]["auroc"]) for candidate in names] for name in sets])
        seen, stable = (
            np.array([[float(found[name, candidate][figure]) for candidate in names] for name in sets])
            for figure in ("separation", "stability")
        )
        parts.append(part(kind, sets, names, reached, seen, stable))
        parts.append(families(kind, [row for row in rows if row["kind"] == kind and row["set"] in sets], sets, names))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    machines = "; ".join(sorted({f"{row['versions']}; {row['machine']}" for row in rows}))
    parts.append(f"Seed 0, one split. {machines}. Commits: {commits}. Written by `benchmarks/choice.py`; do not edit.")
    return "\n\n".join(parts) + "\n"


def part(kind: str, sets: list[str], names: list[str], reached: NDArray[Any], seen: NDArray[Any], stable: NDArray[Any]) -> str:
    """Return the section of one kind of data."""
    settled = np.arange(len(sets)) % 2 == 0
    prior, (slope,) = settle(reached[settled], [seen[settled]])
    print(f"{kind}: SLOPE {slope:.2f}; PRIOR", dict(zip(names, prior.round(2).tolist(), strict=True)))
    prior_of_three, slopes = settle(reached[settled], [seen[settled], TENTHS * stable[settled]])
    ways = {
        "criterion (both)": prior + slope * seen,
        "known alone (`PRIOR`)": np.tile(prior, (len(sets), 1)),
        "seen alone (separation)": seen,
        "stability alone": stable,
        "known, seen and stability": prior_of_three + slopes[0] * seen + slopes[1] * TENTHS * stable,
        **{f"always {name}": np.tile(np.eye(len(names))[number], (len(sets), 1)) for number, name in enumerate(names)},
    }
    lines = [
        f"## {kind.capitalize()}",
        f"Settled on {settled.sum()} sets, shown on the other {(~settled).sum()} and, to compare, on those that it was settled on: mean"
        " AUROC of what is chosen, mean regret in points, largest regret, and mean rank correlation (Spearman) with the test AUROC within"
        " a set.",
        "\n".join(["| choice by | AUROC | regret | largest | rank correlation | AUROC (settled) | regret (settled) |", "|---" * 7 + "|"]),
    ]
    table = []
    for way, values in ways.items():
        other, own = outcome(values[~settled], reached[~settled]), outcome(values[settled], reached[settled])
        table.append(f"| {way} | {other[0]:.1f} | {other[1]:.2f} | {other[2]:.1f} | {other[3]} | {own[0]:.1f} | {own[1]:.2f} |")
    most = [reached[half].max(axis=1).mean() for half in (~settled, settled)]
    best = f"| best of each set (needs labels) | {most[0]:.1f} | 0 | 0 | 1 | {most[1]:.1f} | 0 |"
    lines[-1] += "\n" + "\n".join([*table, best])
    chosen = ways["criterion (both)"].argmax(axis=1)
    listing = ["| set | " + " | ".join(names) + " | chosen |", "|---|" + "---|" * (len(names) + 1)]
    for number, name in enumerate(sets):
        figures = " | ".join(f"{value:.1f}" for value in reached[number])
        listing.append(f"| {name}{' (settled on)' if settled[number] else ''} | {figures} | {names[chosen[number]]} |")
    left_out = "; ".join(
        f"{name} {leaving_one_out(reached[settled], [figure[settled] for figure in figures]):.2f}"
        for name, figures in {"known": [], "known and seen": [seen], "known, seen and stability": [seen, TENTHS * stable]}.items()
    )
    said = f"Regret on the sets that it was settled on, each chosen by what the others settle: {left_out}."
    return "\n\n".join([*lines, said, "AUROC of each trial, in %:", "\n".join(listing)])


def settle(reached: NDArray[Any], figures: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], list[float]]:
    """Return the prior of each candidate and the slope of each figure, not below 0.

    They are a ridge regression of the AUROC above each set's mean, at most 10 points off it.
    """
    above = np.clip(reached - reached.mean(axis=1, keepdims=True), -10, 10)
    n_sets, n_candidates = reached.shape
    apart = [(figure - figure.mean(axis=1, keepdims=True)).ravel() for figure in figures]
    design = np.column_stack([np.tile(np.eye(n_candidates), (n_sets, 1)), *apart])
    solution = np.linalg.solve(design.T @ design + RIDGE * np.eye(design.shape[1]), design.T @ above.ravel())
    return solution[:n_candidates], [float(max(slope, 0.0)) for slope in solution[n_candidates:]]


def leaving_one_out(reached: NDArray[Any], figures: Sequence[NDArray[Any]]) -> float:
    """Return the mean regret where each set is chosen for by what the others settle."""
    regrets = []
    for left in range(len(reached)):
        others = np.arange(len(reached)) != left
        prior, slopes = settle(reached[others], [figure[others] for figure in figures])
        value = prior + sum((slope * figure[left] for slope, figure in zip(slopes, figures, strict=True)), np.zeros(len(prior)))
        regrets.append(reached[left].max() - reached[left][value.argmax()])
    return float(np.mean(regrets))


def outcome(values: NDArray[Any], reached: NDArray[Any]) -> tuple[float, float, float, str]:
    """Return mean AUROC, mean and largest regret, and mean rank correlation of a way to choose."""
    got = reached[np.arange(len(reached)), values.argmax(axis=1)]
    regret = reached.max(axis=1) - got
    constant = (values == values[0]).all() and len(set(values[0].tolist())) <= 2
    correlation = "" if constant else f"{np.mean([spearmanr(a, b).statistic for a, b in zip(values, reached, strict=True)]):.2f}"
    return float(got.mean()), float(regret.mean()), float(regret.max()), correlation


def families(kind: str, rows: list[dict[str, str]], sets: list[str], names: list[str]) -> str:
    """Return the rank correlation of each family alone with the test AUROC, over all sets."""
    found = {(row["set"], row["candidate"]): row for row in rows}
    kinds = list(json.loads(rows[0]["families"]))
    cells = []
    for family in kinds:
        correlations = [
            spearmanr(
                [json.loads(found[name, candidate]["families"]).get(family, 50.0) for candidate in names],
                [float(found[name, candidate]["auroc"]) for candidate in names],
            ).statistic
            for name in sets
        ]
        known = [value for value in correlations if np.isfinite(value)]
        cells.append(f"{family} {np.mean(known):.2f} ({min(known):.2f} to {max(known):.2f})")
    return f"Rank correlation of each family of outliers alone, mean over all sets of {kind} (least to largest): {'; '.join(cells)}."


if __name__ == "__main__":
    main()
