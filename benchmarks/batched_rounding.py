"""How far batched training differs from single training, beside what a nudge of rounding size changes in single training.

Ten Deep SVDD-VAEs on the table of benchmarks/batched_training.py are fitted one by one, as one, and one by one again with every first
weight a unit in the last place larger or smaller. What the last changes is what no two
ways to compute the same training can be expected to keep.

    python benchmarks/batched_rounding.py --repeats 2

writes benchmarks/reports/batched-rounding.md.
"""

import argparse
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from batched_training import REPORTS, detectors, rows

import insphere
import insphere.detectors.neural as neural
from insphere.errors import HealthWarning
from insphere.metrics import auroc

N_MODELS = 10


@contextmanager
def nudged_weights() -> Iterator[None]:
    """Move every first weight by a unit in the last place, at random up or down."""
    initialise: Callable[[torch.nn.Module, int], None] = neural.initialise

    def nudged(module: torch.nn.Module, seed: int) -> None:
        initialise(module, seed)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in module.parameters():
                up = torch.rand(weight.shape, generator=random) < 0.5
                weight.copy_(torch.nextafter(weight, torch.where(up, torch.inf, -torch.inf)))

    neural.initialise = nudged
    try:
        yield
    finally:
        neural.initialise = initialise


def main() -> None:
    """Run all, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="times ten seeds")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HealthWarning)
    torch.set_num_threads(1)
    X, (test, labels) = rows("table")
    lines = ["| seed | AUROC alone, % | as one | nudged | correlation of scores: as one | nudged |", "|---|---|---|---|---|---|"]
    for repeat in range(1, arguments.repeats + 1):
        alone, as_one, nudged = (detectors("table", N_MODELS, "cpu", repeat, None) for _ in range(3))
        insphere.fit_many(as_one, X, together="always")
        for detector in alone:
            detector.fit(X)
        with nudged_weights():
            for detector in nudged:
                detector.fit(X)
        for same_seed in zip(alone, as_one, nudged, strict=True):
            scores = [detector.anomaly_score(test) for detector in same_seed]
            areas = " | ".join(f"{100 * auroc(labels, own).value:.2f}" for own in scores)
            correlations = " | ".join(f"{np.corrcoef(scores[0], own)[0, 1]:.5f}" for own in scores[1:])
            lines.append(f"| {same_seed[0].seed_} | {areas} | {correlations} |")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    text = "\n".join(lines)
    print(text)
    (REPORTS / "batched-rounding.md").write_text(
        f"# Batched training and rounding\n\n{text}\n\n300 rows of 10 features, 40 epochs, one thread ({platform.machine()}); insphere"
        f" {insphere.__version__} at commit {commit or 'unknown'}, PyTorch {torch.__version__}."
        " Written by `benchmarks/batched_rounding.py`; do not edit.\n"
    )


if __name__ == "__main__":
    main()
