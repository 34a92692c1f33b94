"""`insphere audit` on detectors of PyOD, of scikit-learn and on our own, all with their defaults.

    INSPHERE_DATA=FOLDER python benchmarks/audit.py

reads FOLDER/adbench/*.npz, and writes benchmarks/reports/audit.csv (a line a check) and audit.md. Audits that are in the CSV already
are not repeated. Needs pip install 'insphere[pyod]'. The global generators of Python, NumPy and PyTorch are seeded before each audit,
since some detectors draw from them.
"""

import argparse
import csv
import os
import platform
import random
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import insphere
from insphere.audit import LEVELS, audit
from insphere.audit.auditing import CHECKS
from insphere.benchmark.run.execution import source_commit
from insphere.output_file import replacing

REPORTS = Path(__file__).parent / "reports"
SETS = ("6_cardio", "40_vowels")
SUBJECTS = {
    "PyOD KNN": "pyod.models.knn:KNN",
    "PyOD LOF": "pyod.models.lof:LOF",
    "PyOD OCSVM": "pyod.models.ocsvm:OCSVM",
    "PyOD IForest": "pyod.models.iforest:IForest",
    "PyOD HBOS": "pyod.models.hbos:HBOS",
    "PyOD ECOD": "pyod.models.ecod:ECOD",
    "PyOD COPOD": "pyod.models.copod:COPOD",
    "PyOD PCA": "pyod.models.pca:PCA",
    "PyOD MCD": "pyod.models.mcd:MCD",
    "PyOD CBLOF": "pyod.models.cblof:CBLOF",
    "PyOD ABOD": "pyod.models.abod:ABOD",
    "PyOD LODA": "pyod.models.loda:LODA",
    "PyOD GMM": "pyod.models.gmm:GMM",
    "PyOD AutoEncoder": "pyod.models.auto_encoder:AutoEncoder",
    "PyOD VAE": "pyod.models.vae:VAE",
    "PyOD DeepSVDD": "pyod.models.deep_svdd:DeepSVDD",
    "PyOD LUNAR": "pyod.models.lunar:LUNAR",
    "PyOD SO_GAAL": "pyod.models.so_gaal:SO_GAAL",
    "scikit-learn IsolationForest": "sklearn.ensemble:IsolationForest",
    "scikit-learn OneClassSVM": "sklearn.svm:OneClassSVM",
    "insphere knn": "knn",
    "insphere iforest": "iforest",
    "insphere vae-svdd": "vae-svdd",
}
WHY = {
    "PyOD ECOD": "It ranks new rows among the training rows and each other.",
    "PyOD COPOD": "It ranks new rows among the training rows and each other.",
    "PyOD VAE": "It draws the code when it scores, too.",
    "PyOD LUNAR": "It keeps the weights that validate best on negatives that it makes; here those before the first step did.",
}  # as read in the source of PyOD 3.6.7
FIELDS = ("subject", "estimator", "set", "check", "level", "text", "seconds", "version", "commit")
MARKS = {"ok": "ok", "skipped": "–", "note": "note", "warning": "**warning**", "error": "**error**"}


def main() -> None:
    """Audit what is not in the CSV yet; write the table of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("INSPHERE_DATA", ".")))
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--only", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--max-rows", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    path = REPORTS / "audit.csv"
    lines = list(csv.DictReader(path.open(encoding="utf-8"))) if path.is_file() else []
    done = {(line["subject"], line["set"]) for line in lines}
    for name in options.only:
        for data in options.sets:
            if (name, data) in done:
                continue
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002 - the generator that others draw from
            torch.manual_seed(0)
            started = time.perf_counter()
            report = audit(SUBJECTS[name], options.data_dir / "adbench" / f"{data}.npz", repeats=options.repeats, max_rows=options.max_rows)
            seconds = round(time.perf_counter() - started, 1)
            package = SUBJECTS[name].partition(".")[0] if ":" in SUBJECTS[name] else "insphere"
            released = f"{package} {version('scikit-learn' if package == 'sklearn' else package)}"
            print(f"{name} on {data}: {report.summary}, {seconds} s", flush=True)
            lines += [
                {"subject": name, "estimator": SUBJECTS[name], "set": data, "check": finding.name, "level": finding.level,
                 "text": finding.text, "seconds": seconds, "version": released, "commit": source_commit() or ""}
                for finding in report.findings
            ]  # fmt: skip
            write(path, lines)
    with replacing(REPORTS / "audit.md") as handle:
        handle.write(page(lines, options.repeats, options.max_rows).encode("utf-8"))


def write(path: Path, lines: list[dict[str, object]]) -> None:
    """Write the CSV anew, complete or not at all."""
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    with replacing(path) as handle:
        handle.write(text.getvalue().encode("utf-8"))


def page(lines: list[dict[str, str]], repeats: int, max_rows: int) -> str:
    """Return the report: the worst level of each check over the sets, then what was found in words."""
    sets = list(dict.fromkeys(line["set"] for line in lines))
    text = [
        "# Audits of others' detectors, and of ours",
        "",
        "INSPHERE_DATA=FOLDER python benchmarks/audit.py  ",
        "writes benchmarks/reports/audit.csv and audit.md; a single one is",
        "`insphere audit pyod.models.ecod:ECOD FOLDER/adbench/6_cardio.npz --max-rows 300`.",
        "",
        f"Every detector has its defaults and learns from normal rows alone: a random half, {max_rows} at most, of those of ADBench's"
        f" {' and '.join(sets)}, drawn anew in each of {repeats} repeats. It is asked about the other normal rows and the anomalies.",
        "",
        "To be read fairly: defaults are made for mixtures that hold anomalies, and `contamination=0.1` then means the share of them; on"
        " normal rows alone it is the share of *training* rows beyond the threshold, and what is checked is how near new rows come to it."
        " \"Worse than 5-NN\" is said of these two tables, not of the method. That a score depends on the rows scored with it can be meant"
        " (ECOD and COPOD rank new rows together with the training rows), but then a row's score in production depends on its company."
        " \"untrained\" of detectors without epochs compares with a fit on uniform noise in the same ranges, which is no reproach.",
        "",
        f"Each cell is the worse of {len(sets)} sets.",
        "",
        f"| detector | {' | '.join(CHECKS)} | seconds |",
        f"|---|{'---|' * len(CHECKS)}---|",
    ]  # fmt: skip
    for name in dict.fromkeys(line["subject"] for line in lines):
        own = [line for line in lines if line["subject"] == name]
        cells = []
        for check in CHECKS:
            levels = [line["level"] for line in own if line["check"] == check]
            cells.append(MARKS[max(levels, key=LEVELS.index)] if levels else "")
        seconds = sum({line["set"]: float(line["seconds"]) for line in own}.values())
        text.append(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |")
    text += ["", "## What was found", ""]
    for name in dict.fromkeys(line["subject"] for line in lines):
        found = [line for line in lines if line["subject"] == name and line["level"] in ("error", "warning")]
        text += [f"**{name}** (`{next(line['estimator'] for line in lines if line['subject'] == name)}`)", ""]
        text += [f"- {line['set']}, {line['check']} ({line['level']}): {line['text']}" for line in found] or ["- Nothing."]
        text += [f"- Why, as its source tells: {WHY[name]}"] if name in WHY and found else []
        text.append("")
    text.append("## What each check asks")
    text += ["", *(f"- **{name}**: {question}." for name, question in CHECKS.items()), ""]
    versions = ", ".join(sorted({str(line["version"]) for line in lines}))
    commits = ", ".join(sorted({str(line["commit"]) for line in lines}))
    text.append(
        f"Seed 0, 95 % intervals in brackets; {versions}, torch {torch.__version__}, numpy {np.__version__}, Python"
        f" {platform.python_version()}; {platform.machine()}, 1 thread of {os.cpu_count()} cores, other work beside; insphere"
        f" {insphere.__version__} at commits {commits}."
    )  # fmt: skip
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
