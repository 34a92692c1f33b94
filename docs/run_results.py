"""Put the headline figures into the README, read from the reports' own CSV files; nothing is measured here.

python docs/run_results.py
"""

import csv
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin (written by docs/run_results.py; do not edit) -->", "<!-- results:end -->"
Row = Mapping[str, str]
Own = Callable[[Row], bool]


def cell(report: str, column: str, own: Own, *, of: str) -> str:
    """Return mean AUROC in percent over sets and seeds of the lines that count, and the spread over seeds where there are several.

    `of` is the column that names the set; the spread is the standard deviation of the seeds' means.
    """
    with (ROOT / "benchmarks" / "reports" / report).open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if own(row) and row[column]]
    by_seed = [statistics.mean(float(row[column]) for row in rows if row["seed"] == seed) for seed in sorted({row["seed"] for row in rows})]
    sets = {row[of]: [float(other[column]) for other in rows if other[of] == row[of]] for row in rows}
    mean = statistics.mean(statistics.mean(values) for values in sets.values())
    same_seeds = all(len(values) == len(by_seed) for values in sets.values())
    return f"{mean:.1f}" + (f" ± {statistics.stdev(by_seed):.1f}" if same_seeds and len(by_seed) > 1 else "")


def photo(name: str, detector: str) -> str:
    """Return the figure of `photo` on a set, or the mean over the classes of one."""
    return cell("photos.csv", "auroc", lambda row: row["set"].partition(":")[0] == name and row["detector"] == detector, of="set")


def adbench(method: str) -> str:
    """Return the mean of a method over the tables."""
    return cell("adbench.csv", "auroc", lambda row: row["method"] == method, of="table")


def digits(column: str) -> str:
    """Return the mean over the digits."""
    return cell("digits.csv", column, lambda row: True, of="digit")


def cifar(network: str) -> str:
    """Return the mean over the classes of CIFAR-10 of transform-svdd, from scratch."""
    wanted = ("angular", network)
    return cell("transformations.csv", "both", lambda row: (row["geometry"], row["network"]) == wanted and "cifar" in row["set"], of="set")


def solar() -> str:
    """Return the figure of transform-svdd on solar modules."""
    return cell("transformations.csv", "both", lambda row: row["set"] == "solar-modules.zip", of="set")


def table() -> str:
    """Return the table."""
    scratch, trained, control, tiles = "photo, scratch", "photo", "patch-knn", "magnetic-tiles"
    digit = f"{digits('transform')} transform-svdd; {digits('vae_svdd')} vae-svdd; {digits('fusion')} fusion of both"
    class_ = f"{cifar('paper')} transform-svdd; {cifar('large')} with ResNet-18, on a GPU"
    rows = [
        ("MNIST, ten digits", "95.9 (paper)", digit, photo("mnist", trained)),
        ("CIFAR-10, ten classes", "65.5 (paper)", class_, photo("cifar10", trained)),
        ("18 tables (ADBench)", f"{adbench('5-NN')} (5-NN)", f"{adbench('fusion')} fusion; {adbench('vae-svdd')} vae-svdd", ""),
        ("magnetic tiles", f"{photo(tiles, control)} ({control})", f"{photo(tiles, scratch)} photo", photo(tiles, trained)),
        ("pills", f"{photo('pills', control)} ({control})", f"{photo('pills', scratch)} photo", photo("pills", trained)),
        ("castings", f"{photo('castings', control)} ({control})", f"{photo('castings', scratch)} photo", photo("castings", trained)),
        ("solar modules", "", f"{solar()} transform-svdd; {photo('solar-modules', scratch)} photo", photo("solar-modules", trained)),
    ]
    lines = ["| AUROC, % | to compare | from scratch | `photo`, features of ImageNet |", "|---|---|---|---|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def with_table(readme: str) -> str:
    """Return the README with the table of today."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md lacks the marks {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
