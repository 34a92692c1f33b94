"""False alarms of `photo` on real pictures: promised and real, over random splits of all normal pictures of a set.

    INSPHERE_DATA=FOLDER python benchmarks/photo_false_alarms.py --splits 20 --scratch SCRATCH

The sets come with a split of their own, in which normal test pictures may have been taken on another day than those to train on; what is
promised holds for pictures like those that were given. So here all normal pictures of a set, those to train on and those of the test, are
shuffled: seven of ten are given to the fit, the others are scored. No anomaly is looked at. Splits that are in the CSV already are not
repeated. A split's real rate may lie outside its interval because the pictures scored are few: "possible" says in how many splits the
number flagged is one that some rate of the interval gives with a chance of at least 2.5 % on either side.
"""

import argparse
import csv
import itertools
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from insphere.detectors import catalog
from insphere.seeding import generator

sys.path.insert(0, str(Path(__file__).parent))
from photos import unpacked
from records import circumstances, read

REPORT = Path(__file__).parent / "reports" / "photo-false-alarms.csv"
SETS = ("magnetic-tiles", "pills", "castings")
GIVEN = 0.7
FIELDS = ("set", "split", "n_given", "n_scored", "target", "promised", "low", "high", "flagged", "versions", "machine", "commit")


def main() -> None:
    """Measure the splits that are missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--scratch", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = read(REPORT)
    done = {(row["set"], int(row["split"])) for row in rows}
    for split, name in itertools.product(range(options.splits), options.sets):
        if (name, split) not in done:
            rows.append(measured(name, split, options.scratch))
            write(rows)
            print(*(f"{field} {rows[-1][field]}" for field in FIELDS[:9]), sep=", ", flush=True)


def measured(name: str, split: int, scratch: Path) -> dict[str, Any]:
    """Return the row of one split."""
    folder = unpacked(name, scratch)
    pictures = sorted(path for part in ("train", "test") for path in (folder / part / "good").iterdir())
    order = generator(split, f"normal pictures of {name}").permutation(len(pictures))
    n_given = round(GIVEN * len(pictures))
    given, scored = ([pictures[position] for position in part] for part in np.split(order, [n_given]))
    detector = catalog.make("photo", {"random_state": split})
    detector.fit(detector.open_to_fit(given))
    decision = detector.decision_
    flagged = decision.is_anomaly(detector.anomaly_score(detector.open(scored)))
    if decision.expected is None:
        raise SystemExit("A conformal decision states a rate.")
    return {
        "set": name,
        "split": split,
        "n_given": n_given,
        "n_scored": len(scored),
        "target": decision.target_fpr,
        "promised": decision.promised_fpr,
        "low": decision.expected.low,
        "high": decision.expected.high,
        "flagged": int(flagged.sum()),
        **circumstances(),
    }


def write(rows: list[dict[str, Any]]) -> None:
    """Write the rows, and the page made of them."""
    with REPORT.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    REPORT.with_suffix(".md").write_text(page(rows), encoding="utf-8")


def page(rows: list[dict[str, Any]]) -> str:
    """Return the report as Markdown."""
    lines = ["# False alarms on photos", "", *(line.strip() for line in (__doc__ or "").splitlines()[4:] if line.strip()), ""]
    lines += ["| set | splits | given | scored | asked, % | promised, % | flagged, % | possible |", "|---|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        rates = [100 * int(row["flagged"]) / int(row["n_scored"]) for row in own]
        error = statistics.stdev(rates) / len(rates) ** 0.5 if len(rates) > 1 else float("nan")
        promised = statistics.mean(100 * float(row["promised"]) for row in own)
        lines.append(
            f"| {name} | {len(own)} | {own[0]['n_given']} | {own[0]['n_scored']} | {100 * float(own[0]['target']):.0f} | {promised:.1f} |"
            f" {statistics.mean(rates):.1f} ± {error:.1f} | {sum(map(is_possible, own))} of {len(own)} |"
        )
    stated = sorted({(row["versions"], row["machine"], row["commit"]) for row in rows})
    lines += [
        "",
        "± is the standard error over splits.",
        *(f"{versions}; {machine}; commit {commit}." for versions, machine, commit in stated),
    ]
    return "\n".join([*lines, ""])


def is_possible(row: dict[str, Any]) -> bool:
    """Return whether some rate of the stated interval explains the number flagged."""
    flagged, n_scored = int(row["flagged"]), int(row["n_scored"])
    too_many = binom.sf(flagged - 1, n_scored, float(row["high"])) < 0.025
    too_few = binom.cdf(flagged, n_scored, float(row["low"])) < 0.025
    return not (too_many or too_few)


if __name__ == "__main__":
    main()
