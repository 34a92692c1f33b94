"""Promises after the fit next to what happens: for each camera, among the alarms of a batch or a stream, on drift, and after verdicts.

Every proof draws its normal rows `--splits` times with fixed seeds, fits `knn`, and compares the mean of what was promised with what fresh
rows give. A line holds where the mean is at most the promise but for three standard errors, and where stated 95 % intervals hold the real
rate in at least 93 % of the splits but for two. Lines marked "outside" break the condition of the promise on purpose, or take the way that
is refused; they show what the condition is for.

Rows are Gaussian in three dimensions from two cameras, the second with twice the spread, and a third with few rows; independent, or in
groups of five (frames of one film) that are given as groups, with fresh rows of fresh groups.

    OMP_NUM_THREADS=1 python benchmarks/promises.py

writes benchmarks/reports/promises.csv and the .md next to it. With --river the drift of the package river is measured too (it is not a
dependency: pip install river). Nothing was tuned on these rows.
"""

import argparse
import csv
import dataclasses
import io
import math
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.decision.calibration import ConformalCalibration
from insphere.decision.decision import Decision
from insphere.decision.discoveries import discover
from insphere.decision.online import OnlineDiscoveries
from insphere.decision.verdicts import Verdict, VerdictJournal, are_drawn, row_id
from insphere.detectors.classical import KNN
from insphere.drift import DriftMonitor
from insphere.errors import DataNotice, HealthWarning
from insphere.output_file import replacing
from insphere.seeding import generator

REPORT = Path(__file__).parent / "reports" / "promises.md"

CAMERAS = ("left", "new", "right")
SHARES = (0.6, 0.04, 0.36)
SPREADS = {"left": 1.0, "new": 2.0, "right": 2.0}
N_ROWS, N_FRESH, GROUP = 600, 3000, 5
TARGET, FDR = 0.05, 0.1
LEAST_COVERED = 0.93

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the report.

    Attributes
    ----------
    proof, situation, what : str
    splits : int
    promised, measured, standard_error : float
        Means over the splits.
    covered : float
        Share of the splits whose stated 95 % interval holds the real rate; NaN where none is stated.
    inside : bool
        Whether the condition of the promise holds here.
    """

    proof: str
    situation: str
    what: str
    splits: int
    promised: float
    measured: float
    standard_error: float
    covered: float
    inside: bool = True

    @property
    def holds(self) -> bool:
        """Whether the promise is kept within sampling error."""
        slack = 2 * (LEAST_COVERED * (1 - LEAST_COVERED) / self.splits) ** 0.5
        kept = self.measured <= self.promised + 3 * self.standard_error + 1e-12
        return kept and (math.isnan(self.covered) or self.covered >= LEAST_COVERED - slack)


def line_of(proof: str, situation: str, what: str, found: Sequence[tuple[float, float, float]], *, inside: bool = True) -> Line:
    """Return the line of (promised, measured, covered) of each split."""
    promised, measured, covered = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    error = float(measured.std(ddof=1) / len(measured) ** 0.5) if len(measured) > 1 else math.nan
    return Line(proof, situation, what, len(found), float(promised.mean()), float(measured.mean()), error, float(covered.mean()), inside)


def draw(n: int, rng: np.random.Generator, *, grouped: bool) -> tuple[Array, NDArray[Any], list[int] | None]:
    """Return n rows, the camera of each, and their groups where they come in groups."""
    groups = np.arange(n) // GROUP if grouped else np.arange(n)
    camera = rng.choice(CAMERAS, size=int(groups.max()) + 1, p=SHARES)[groups]
    spread = np.array([SPREADS[name] for name in camera])[:, None]
    X = rng.normal(size=(int(groups.max()) + 1, 3))[groups] + 0.1 * rng.normal(size=(n, 3))
    return X * spread, camera, groups.tolist() if grouped else None


def fit(X: Array, seed: int, **given: Any) -> KNN:
    """Return a fitted detector, held-out rows for its calibration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        warnings.simplefilter("ignore", DataNotice)
        return KNN(target_fpr=TARGET, random_state=seed, calibration={"method": "split"}).fit(X, **given)


def by_camera(splits: int) -> Iterator[Line]:
    """Measure each camera's rate at its own threshold, and at one threshold for all."""
    for grouped in (False, True):
        situation = "groups of five" if grouped else "independent rows"
        found: dict[str, list[tuple[float, float, float]]] = {}
        for number in range(splits):
            rng = generator(number, f"promises cameras {situation}")
            X, camera, groups = draw(N_ROWS * (GROUP if grouped else 1), rng, grouped=grouped)
            fresh, of, _ = draw(N_FRESH, rng, grouped=False)
            fitted = fit(X, number, groups=groups, categories=camera)
            scores = fitted.anomaly_score(fresh)
            names = fitted.decision_.categories.names  # type: ignore[union-attr]
            codes = np.array([names.index(name) if name in names else -1 for name in of])
            own, pooled = fitted.decision_.is_anomaly(scores, codes), fitted.decision_.is_anomaly(scores)
            told = {entry["name"]: entry for entry in fitted.decision_.to_json()["categories"]}
            for name in CAMERAS:
                if name not in told:
                    continue
                rate, expected = float(own[of == name].mean()), told[name]["expected"]
                margin = 0.5 / max(1, int((of == name).sum()))
                covered = math.nan if expected is None else float(expected["low"] - margin <= rate <= expected["high"] + margin)
                found.setdefault(f"camera {name}, its own threshold", []).append((told[name]["promised_fpr"], rate, covered))
                at_one = float(pooled[of == name].mean())
                found.setdefault(f"camera {name}, one threshold for all", []).append((TARGET, at_one, math.nan))
        for what in sorted(found):
            yield line_of("cameras", situation, what, found[what], inside="one threshold" not in what)


def batches(splits: int) -> Iterator[Line]:
    """Count false discoveries in a batch of 200 rows, 20 of them anomalies."""
    cases = {"independent rows": (False, True), "frames of one film in the batch": (True, False)}
    for situation, (film, inside) in cases.items():
        found, of_threshold, power = [], [], []
        for number in range(splits):
            rng = generator(number, f"promises batches {situation}")
            fitted = fit(rng.normal(size=(5000, 3)), number)
            normal = np.repeat(rng.normal(size=(9, 3)), 20, axis=0) if film else rng.normal(size=(180, 3))
            batch = np.concatenate([normal + (1e-6 * rng.normal(size=normal.shape)), rng.normal(size=(20, 3)) + 4])
            p = fitted.p_value(batch)
            called = discover(fitted.decision_, p, FDR).is_discovery
            found.append((FDR, float(called[:180].sum() / max(1, called.sum())), math.nan))
            flagged = p <= TARGET
            of_threshold.append((FDR, float(flagged[:180].sum() / max(1, flagged.sum())), math.nan))
            power.append(float(called[180:].mean()))
        yield line_of("batches", situation, f"false among discoveries at {FDR:g} (found {np.mean(power):.0%})", found, inside=inside)
        yield line_of("batches", situation, "false among those flagged by the threshold", of_threshold, inside=False)


def streams(splits: int) -> Iterator[Line]:
    """Count false alarms in a window of 100 rows, decided one by one, where 10 of them are anomalies, and where none is."""
    for n_bad in (10, 0):
        found, power = [], []
        for number in range(splits):
            rng = generator(number, f"promises streams {n_bad}")
            calibration = ConformalCalibration(rng.normal(size=1999))
            decision = Decision(calibration, radius=1.0, target_fpr=TARGET)
            bad = np.zeros(100, dtype=np.bool_)
            bad[rng.permutation(100)[:n_bad]] = True
            p = decision.p_value(rng.normal(size=100) + 5 * bad)
            alarms = np.array(OnlineDiscoveries(decision, fdr=FDR, window=100).update(p))
            found.append((FDR, float((alarms & ~bad).sum() / max(1, alarms.sum())), math.nan))
            power.append(float(alarms[bad].mean()) if n_bad else math.nan)
        text = f"false among alarms at {FDR:g}" + (f" (found {np.mean(power):.0%})" if n_bad else ", no anomaly there")
        yield line_of("streams", "independent rows", text, found)


def drifts(splits: int, *, river: bool) -> Iterator[Line]:
    """Watch streams of 1000 rows that do not change: how many raise an alarm; then such as change at 500: how many, and how late."""
    detectors: dict[str, Callable[[Array], Callable[[float], bool]]] = {"insphere (martingale)": _ours}
    if river:
        detectors |= {f"river {name}": _of_river(name) for name in ("ADWIN", "KSWIN", "PageHinkley")}
    for name, make in detectors.items():
        for shift in (0.0, 0.5, 1.0):
            found, delays = [], []
            # A minute for thirty streams of KSWIN's.
            for number in range(max(2, splits // 20) if name.endswith("KSWIN") else splits):
                rng = generator(number, f"promises drift {shift}")
                calibration = rng.normal(size=500)
                stream = rng.normal(size=1000) + shift * (np.arange(1000) >= 500)
                p = ConformalCalibration(calibration).p_value(stream)
                update = make(calibration)
                at = next((place for place, value in enumerate(p.tolist()) if update(value)), None)
                early = at is not None and (shift == 0 or at < 500)
                found.append((0.01, float(early), math.nan))
                if shift and at is not None and at >= 500:
                    delays.append(at - 499)
            what = f"{name}: false alarms before any change"
            if shift:
                late = f"{statistics.median(delays):.0f} rows" if delays else "never"
                n_quiet = sum(not early for _, early, _ in found)  # of the streams without an alarm before the change
                what = f"{name}: shift {shift:g}, found in {len(delays) / max(1, n_quiet):.1%}, median delay {late}; alarms before it"
            yield line_of("drift", "1000 rows, looked at after each", what, found, inside=name.startswith("insphere"))


def _ours(calibration: Array) -> Callable[[float], bool]:
    monitor = DriftMonitor(calibration, tolerated_share=0.0)
    return lambda p: monitor.update([p]).drifted


def _of_river(name: str) -> Callable[[Array], Callable[[float], bool]]:
    def make(calibration: Array) -> Callable[[float], bool]:
        from river import drift

        # As they come; ADWIN and KSWIN are told the rate that ours is told.
        detector = {
            "ADWIN": lambda: drift.ADWIN(delta=0.01),
            "KSWIN": lambda: drift.KSWIN(alpha=0.0001, seed=0),
            "PageHinkley": drift.PageHinkley,
        }[name]()

        def update(p: float) -> bool:
            detector.update(p)
            return bool(detector.drift_detected)

        return update

    return make


def feedback(splits: int) -> Iterator[Line]:
    """Measure the rate after 2000 rows were judged: drawn rows enter, or (as is refused) the flagged ones, or those not flagged."""
    ways = {
        "drawn rows that are normal enter": lambda drawn, flagged: drawn,
        "refused: all flagged normal rows enter": lambda drawn, flagged: flagged,
        "refused: drawn rows that were not flagged enter": lambda drawn, flagged: drawn & ~flagged,
        "refused: flagged and drawn rows enter alike": lambda drawn, flagged: drawn | flagged,
    }
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    before = []
    for number in range(splits):
        rng = generator(number, "promises feedback")
        decision = Decision(ConformalCalibration(rng.normal(size=99)), radius=1.0, target_fpr=TARGET)
        scores = rng.normal(size=2000)  # all are normal: what people say of anomalies never enters
        hashes = rng.integers(0, 2**63, 2000).astype(np.uint64)
        drawn, flagged = are_drawn(hashes, "benchmark", 0.1), decision.is_anomaly(scores)
        before.append(judge(decision))
        for way, chosen in ways.items():
            said = [
                Verdict(row_id(value), "normal", float(score), bool(flag), drawn=True)
                for value, score, flag, enters in zip(hashes.tolist(), scores, flagged, chosen(drawn, flagged), strict=True)
                if enters
            ]
            after = VerdictJournal().with_verdicts(said).calibrated(decision) if said else decision
            found[way].append(judge(after))
    yield line_of("verdicts", "independent rows", "before any verdict (99 held-out rows)", before)
    for way, measured in found.items():
        yield line_of("verdicts", "independent rows", way, measured, inside=not way.startswith("refused"))


def judge(decision: Decision) -> tuple[float, float, float]:
    """Return promised and real rate of standard normal scores, and whether the stated interval holds it; the real one is exact."""
    rate = 0.5 * math.erfc(decision.threshold / 2**0.5)
    expected = decision.expected
    if expected is None or decision.promised_fpr is None:
        raise SystemExit("A conformal decision promises a rate.")
    return decision.promised_fpr, rate, float(expected.low <= rate <= expected.high)


def through_onnx(splits: int) -> Iterator[Line]:
    """Measure each camera's rate from an exported graph."""
    from insphere.export import export_onnx
    from insphere.export.graph import session

    found: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(splits):
            rng = generator(number, "promises onnx")
            X, camera, _ = draw(N_ROWS, rng, grouped=False)
            fresh, of, _ = draw(N_FRESH, rng, grouped=False)
            fitted = fit(X, number, categories=camera)
            export_onnx(fitted, Path(folder) / "graph.onnx", vectors="float64")
            names = fitted.decision_.categories.names  # type: ignore[union-attr]
            codes = np.array([names.index(name) if name in names else -1 for name in of])
            runtime = session((Path(folder) / "graph.onnx").read_bytes())
            flagged = runtime.run(["is_anomaly"], {"x": fresh, "category": codes})[0]
            for entry in fitted.decision_.to_json()["categories"]:
                rate = float(flagged[of == entry["name"]].mean())
                found.setdefault(f"camera {entry['name']}, its own threshold", []).append((entry["promised_fpr"], rate, math.nan))
    for what in sorted(found):
        yield line_of("through ONNX", "independent rows", what, found[what])


def through_http(splits: int) -> Iterator[Line]:
    """Measure each camera's rate, and the false discoveries of a batch with anomalies, as a service answers."""
    from starlette.testclient import TestClient

    from insphere.serving import make_app

    found: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(splits):
        rng = generator(number, "promises http")
        X, camera, _ = draw(N_ROWS, rng, grouped=False)
        fitted = fit(X, number, categories=camera)
        told = {entry["name"]: entry["promised_fpr"] for entry in fitted.decision_.to_json()["categories"]}
        one = fit(rng.normal(size=(2000, 3)), number)
        with TestClient(make_app({"lines": fitted, "one": one}), base_url="http://127.0.0.1") as client:
            for name, promised in told.items():
                fresh = SPREADS[name] * (rng.normal(size=(500, 3)) + 0.1 * rng.normal(size=(500, 3)))
                answer = client.post("/models/lines/score", params={"category": name}, json={"rows": fresh.tolist()}).json()
                found.setdefault(f"camera {name}, its own threshold", []).append((promised, answer["n_anomalies"] / 500, math.nan))
            fresh = rng.normal(size=(200, 3)) + 8 * (np.arange(200) >= 180)[:, None]
            answer = client.post("/models/one/score", params={"fdr": str(FDR)}, json={"rows": fresh.tolist()}).json()
            called = [row["is_discovery"] for row in answer["results"]]
            found.setdefault(f"false among discoveries at {FDR:g}", []).append((FDR, sum(called[:180]) / max(1, sum(called)), math.nan))
    for what in sorted(found):
        yield line_of("through HTTP", "independent rows", what, found[what])


PROOFS: dict[str, Callable[..., Iterator[Line]]] = {
    "cameras": by_camera,
    "batches": batches,
    "streams": streams,
    "drift": drifts,
    "verdicts": feedback,
    "http": through_http,
    "onnx": through_onnx,
}


def main() -> None:
    """Measure what is asked for and write the report of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=PROOFS, default=list(PROOFS), help="Proofs to measure; none writes the page.")
    parser.add_argument("--river", action="store_true", help="Measure the drift detectors of river too.")
    options = parser.parse_args()
    table = REPORT.with_suffix(".csv")
    known = read(table)
    for name in options.only:
        more = {"river": options.river} if name == "drift" else {}
        began, lines = time.monotonic(), []
        for line in PROOFS[name](options.splits, **more):
            lines.append(line)
            print(line, "holds" if line.holds else "DOES NOT HOLD", flush=True)
        known[name] = lines
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        write(table, known)
    with replacing(REPORT) as file:
        file.write("\n".join([*page([line for of in known.values() for line in of]), ""]).encode())


def read(path: Path) -> dict[str, list[Line]]:
    """Return the lines of an earlier run, by proof."""
    known: dict[str, list[Line]] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                own = row.pop("measured_by")
                numbers = {name: float(row[name]) for name in ("promised", "measured", "standard_error", "covered")}
                texts = {name: row[name] for name in ("proof", "situation", "what")}
                known.setdefault(own, []).append(Line(**texts, **numbers, splits=int(row["splits"]), inside=row["inside"] == "True"))
    return known


def write(path: Path, known: dict[str, list[Line]]) -> None:
    """Write all lines, complete or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["measured_by", *(field.name for field in dataclasses.fields(Line))])
    writer.writerows([name, *dataclasses.astuple(line)] for name in PROOFS for line in known.get(name, ()))
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def page(lines: list[Line]) -> Iterator[str]:
    """Yield the lines of the report."""
    inside = [line for line in lines if line.inside]
    yield from ("# Promises after the fit", "", f"{sum(line.holds for line in inside)} of {len(inside)} promises hold.", "")
    yield from (
        "Means over the splits in %, ± a standard error; *covered*: share of the splits whose stated 95 % interval holds the real rate.",
        "**Bold**: a promise that does not hold. *Outside*: the condition is broken on purpose, or it is the way that insphere refuses or",
        "does without; what stands there is no promise of insphere. What each means: the docstring of `benchmarks/promises.py`.",
    )
    for proof in dict.fromkeys(line.proof for line in lines):
        yield from ("", f"## {proof[0].upper()}{proof[1:]}", "", "| rows | what | splits | promised | measured | covered | |")
        yield "|---|---|---|---|---|---|---|"
        for line in lines:
            if line.proof == proof:
                yield text_of(line)
    yield from ("", origin())


def text_of(line: Line) -> str:
    """Return a line as the report shows it."""
    measured = f"{100 * line.measured:.2f} ± {100 * line.standard_error:.2f}"
    covered = "" if math.isnan(line.covered) else f"{100 * line.covered:.1f}"
    mark = ("holds" if line.holds else "does not hold") if line.inside else "outside"
    if line.inside and not line.holds:
        measured = f"**{measured}**"
    return f"| {line.situation} | {line.what} | {line.splits} | {100 * line.promised:.2f} | {measured} | {covered} | {mark} |"


def origin() -> str:
    """Return where the figures come from."""
    return (
        f"Seeds 0 to splits − 1. insphere {insphere.__version__} at commit {source_commit() or 'unknown'}, numpy {np.__version__},"
        f" scikit-learn {sklearn.__version__}, Python {platform.python_version()}, {platform.system()}, {platform.machine()},"
        f" {os.cpu_count()} cores. Written by `benchmarks/promises.py`; do not edit."
    )


if __name__ == "__main__":
    main()
