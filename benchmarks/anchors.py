"""Deep detectors for tables by others, beside `Fusion` and 5 nearest neighbours, on ADBench's tables.

    pip install --no-deps deepod==0.4.1 tqdm
    OMP_NUM_THREADS=1 INSPHERE_DATA=FOLDER python benchmarks/anchors.py --seeds 0

One protocol for all: half of the normal rows, drawn by the seed, are trained on; the rest is scored; rows are standardised by the training
rows; the numbers of epochs and all settings are the authors', for every table alike. Labels give the AUROC and decide nothing, except
that what `Fusion` fuses was chosen on these tables.

"ICL" and "NeuTraL" are DeepOD's, without its ensembles, of which it keeps the last network only (its GOAD took two minutes for 106 rows
and is left out: `transform-svdd` has that idea). "DTE" is the categorical
diffusion time estimator, written here from its paper (Livernoche 2024), as no package has it; "5-NN" is, by their theorem, its
non-parametric form up to a monotone function. Seconds are of one core, training and scoring; other work ran beside. Runs that are in the
CSV already are not repeated; what fails is told, and its cell stays empty. Writes benchmarks/reports/anchors.csv and anchors.md.
"""

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from choice import TABLES
from numpy.typing import NDArray
from records import circumstances, heading, origin, read, write
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors
from torch import nn
from transformations import mean_of_sets, rows_of, spread

import insphere
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
Rows = NDArray[Any]


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=[f"adbench/{name}" for name in TABLES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = REPORTS / "anchors.csv"
    for seed in options.seeds:
        for name in options.sets:
            train, test, labels = rows_of(name, seed)
            for method in options.methods:
                if not any((row["set"], row["method"], int(row["seed"])) == (name, method, seed) for row in read(path)):
                    row = {"set": name, "method": method, "seed": seed} | run(method, train, test, labels, seed) | circumstances()
                    write(path, [*read(path), row])
                    print(name, method, seed, row["auroc"], row["seconds"], row["failure"], flush=True)
    (REPORTS / "anchors.md").write_text(report(read(path)), encoding="utf-8")


def run(method: str, train: Rows, test: Rows, labels: Rows, seed: int) -> dict[str, Any]:
    """Return AUROC and seconds of one method on one table, or why there are none."""
    started = time.process_time()
    try:
        scores = METHODS[method](train, test, seed)
    except (ValueError, RuntimeError, IndexError) as error:
        return {"auroc": "", "seconds": "", "failure": f"{type(error).__name__}: {error}".splitlines()[0]}
    seconds = time.process_time() - started
    if not np.isfinite(scores).all():
        return {"auroc": "", "seconds": round(seconds, 1), "failure": "scores that are no numbers"}
    return {"auroc": round(100 * auroc(labels, scores).value, 2), "seconds": round(seconds, 1), "failure": ""}


def fusion(train: Rows, test: Rows, seed: int) -> Rows:
    """Scores of `Fusion` with its defaults."""
    return insphere.Fusion(random_state=seed).fit(train).anomaly_score(test)


def nearest_neighbours(train: Rows, test: Rows, seed: int) -> Rows:
    """Mean distance to the five nearest training rows."""
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0].mean(axis=1)


def of_deepod(name: str, **settings: Any) -> Callable[[Rows, Rows, int], Rows]:
    """Return the scores of one of DeepOD's detectors with its defaults."""

    def scores(train: Rows, test: Rows, seed: int) -> Rows:
        from deepod.models import tabular

        detector = getattr(tabular, name)(device="cpu", verbose=0, random_state=seed, **settings)
        detector.fit(train.astype(np.float32))
        return np.asarray(detector.decision_function(test.astype(np.float32)), dtype=np.float64)

    return scores


def diffusion_time(train: Rows, test: Rows, seed: int) -> Rows:
    """Scores of the categorical diffusion time estimator: the mean of the bins of diffusion times that a network gives to a row.

    A row that is noised for t of 400 steps is classified into one of seven bins of t; normal rows look like no noise, others like more.
    Sizes, rates, steps and noise that adds without shrinking are those of the authors' code, but for a softmax that it takes twice; at most
    30,000 steps of training, which binds on the larger tables.
    """
    n_steps, n_bins, n_epochs, batch = 400, 7, 400, 64
    torch.manual_seed(seed)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 1e-2, n_steps), dim=0)
    widths = [train.shape[1], 256, 512, 256]
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.5))]
    del layers[2]  # their first layer drops nothing
    network = nn.Sequential(*layers, nn.Linear(widths[-1], n_bins))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4)
    rows = torch.from_numpy(train.astype(np.float32))
    n_batches = -(-len(rows) // batch)
    for _ in range(min(n_epochs, max(1, 30000 // n_batches))):
        for own in torch.randperm(len(rows)).split(batch):
            t = torch.randint(n_steps, (len(own),))
            noised = rows[own] + (1 - kept[t, None]).sqrt() * torch.randn(len(own), rows.shape[1])
            loss = nn.functional.cross_entropy(network(noised), t * n_bins // n_steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        shares = network(torch.from_numpy(test.astype(np.float32))).softmax(dim=1)
    return (shares.double() @ torch.arange(n_bins).double()).numpy()


METHODS: dict[str, Callable[[Rows, Rows, int], Rows]] = {
    "fusion": fusion,
    "5-NN": nearest_neighbours,
    "ICL": of_deepod("ICL", n_ensemble=1),
    "NeuTraL": of_deepod("NeuTraL"),
    "DTE": diffusion_time,
}


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page: one line for each table, and means over those on which every method ran."""
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    sets = sorted({str(row["set"]) for row in rows})
    lines = [
        *heading("Deep detectors for tables, by others", __doc__),
        "AUROC in %, mean over seeds, ± their standard deviation where there are several.",
        "",
        f"| set | {' | '.join(methods)} |",
        "|" + "---|" * (len(methods) + 1),
    ]
    found = {(name, method): [row for row in rows if (row["set"], row["method"]) == (name, method) and row["auroc"]]
             for name in sets for method in methods}  # fmt: skip
    for name in sets:
        cells = [spread([row["auroc"] for row in found[name, method]]) if found[name, method] else "–" for method in methods]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    common = [name for name in sets if all(found[name, method] for method in methods)]
    own = {method: [row for name in common for row in found[name, method]] for method in methods}
    overall = [f"**{mean_of_sets(own[method], 'auroc'):.1f}**" for method in methods]
    lines.append(f"| **mean of {len(common)}** | {' | '.join(overall)} |")
    means = np.array([[np.mean([float(row["auroc"]) for row in found[name, method]]) for method in methods] for name in common])
    ranks = rankdata(-means, axis=1).mean(axis=0)
    lines.append(f"| mean rank | {' | '.join(f'{rank:.2f}' for rank in ranks)} |")
    seconds = [np.mean([float(row["seconds"]) for row in own[method]]) for method in methods]
    lines.append(f"| seconds of one core, mean | {' | '.join(f'{value:.0f}' for value in seconds)} |")
    failures = [f"{row['method']} on {row['set']}: {row['failure']}" for row in rows if row["failure"]]
    lines += ["", f"Failed: {'; '.join(failures)}." if failures else "Nothing failed."]
    lines += ["", origin(rows, "anchors.py"), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
