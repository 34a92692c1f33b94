"""Results as tables for people; the JSON for programs is the library's own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from insphere.cli import console

if TYPE_CHECKING:
    from insphere.localisation_metrics import Localisation
    from insphere.metrics import CategoryRates, Estimate, Evaluation
    from insphere.report import WrittenReport
    from insphere.selection.automatic import Choice, Trial

_MEASURES = (
    ("AUROC", "auroc", "how often an anomaly scores above a normal row"),
    ("average precision", "average_precision", "precision averaged over all thresholds"),
    ("FPR at 95 % TPR", "fpr_at_95_tpr", "normal rows flagged by a threshold that catches 95 % of anomalies"),
    ("precision", "precision", "share of the flagged rows that are anomalies"),
    ("recall", "recall", "share of the anomalies that are flagged"),
    ("false-alarm rate", "false_alarm_rate", "share of the normal rows that are flagged"),
)

_PLACES = (
    ("pixel AUROC", "pixel_auroc", "how often a defective pixel is hotter than a sound one"),
    ("AUPRO", "aupro", "share found of each defective region, averaged over false alarms of up to 30 % of the sound pixels"),
)


def next_steps() -> str:
    """Return what comes after a demonstration."""
    lines = ("fit photos/good -o model.insphere", "score model.insphere photos/new -o scores.csv")
    return "\nNext, your own images (all of them normal):\n" + "\n".join(f"  {console.program()} {line}" for line in lines)


def model_facts(title: str, description: Mapping[str, Any], *, seconds: float | None = None) -> Table:
    """Return what a person wants to know of a fitted detector first."""
    from insphere.decision.decision import use_of_rows

    data, decision = description["data"], description["decision"]
    shape = "×".join(str(size) for size in description["input"]["shape"])
    unreadable = f", {data['n_unreadable']} unreadable" if data["n_unreadable"] else ""
    rows: list[tuple[str, object]] = [
        ("detector", f"{description['detector']} (seed {description['seed']})"),
        (
            "data",
            f"{data['source']}: {data['n_rows']} rows of {shape}{unreadable}; {use_of_rows(data)}",
        ),
        ("threshold", f"{decision['threshold']:.4g}, {_how_decided(decision)}"),
        ("false alarms", _expected_false_alarms(description)),
        ("radius R*", f"{decision['radius']:.4g} (95th percentile of the training scores, Zhou 2021; {_use_of_radius(decision)})"),
        ("health", _health(description["health"])),
    ]
    if seconds is not None:
        rows.append(("took", console.duration(seconds)))
    return console.facts(title, rows)


def model_tables(title: str, description: Mapping[str, Any]) -> Iterator[Table]:
    """Yield all there is to know of a fitted detector."""
    yield model_facts(title, description)
    rows: list[tuple[str, object]] = [("created", description["created"])]
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in description["versions"].items()))]
    rows += [("data fingerprint", description["data"]["fingerprint"])]
    history = description.get("model", {}).get("history", [])
    if history:
        seconds = console.duration(sum(epoch["seconds"] for epoch in history))
        rows.append(
            (
                "training",
                f"{len(history)} epochs in {seconds}; loss {history[0]['terms']['loss']:.4g} to {history[-1]['terms']['loss']:.4g}",
            )
        )
    yield console.facts("", rows)
    yield from category_tables(description["decision"])
    if description["decision"]["history"]:
        yield decision_history(description["decision"])
    parameters = ((name, "default" if value is None else value) for name, value in description["parameters"].items())
    yield console.table("Parameters", ("name", "value"), parameters)
    findings = description["health"]["findings"]
    yield console.table("Health", ("check", "level", "outcome"), ((entry["name"], entry["level"], entry["text"]) for entry in findings))


def trial_line(trial: "Trial") -> str:
    """Return one line about a detector that was tried."""
    outcome = trial.problem or f"{trial.expected:+.1f} points expected"
    return f"{trial.candidate.name}: {outcome} · {console.duration(trial.seconds)}"


def trials(choice: "Choice") -> Table:
    """Return what was tried without labels, the most promising first, with the AUROC of each family of synthetic outliers."""
    tried = sorted(choice.trials, key=lambda trial: -trial.expected)
    families = next((list(trial.judgement.families) for trial in tried if trial.judgement is not None), [])
    rows = [
        (
            trial.candidate.name + (" (chosen)" if trial is choice.chosen else ""),
            "" if trial.judgement is None else f"{trial.expected:+.1f}",
            *("" if trial.judgement is None else f"{100 * trial.judgement.families.get(family, float('nan')):.0f}" for family in families),
        )
        for trial in tried
    ]
    title = "Tried without labels: points of AUROC expected against the mean, and AUROC of synthetic outliers in %"
    return console.table(title, ("detector", "points", *families), rows, numbers=range(1, 2 + len(families)))


def category_tables(decision: Mapping[str, Any]) -> Iterator[Table]:
    """Yield how each camera, product or shift is decided, where they are told apart."""
    if not decision.get("categories"):
        return
    rows = (
        (
            entry["name"],
            entry["n_calibration"],
            f"{entry['threshold']:.4g}",
            "none" if entry["promised_fpr"] is None else f"{100 * entry['promised_fpr']:.3g}",
            "of all (too few rows of its own)" if entry["borrows"] else "its own",
            "" if entry["expected"] is None else _interval(entry["expected"]),
        )
        for entry in decision["categories"]
    )
    columns = ("category", "rows", "threshold", "promised %", "threshold is", "expected % (95 % interval)")
    yield console.table("Categories", columns, rows, numbers=[1, 2, 3])


def _interval(expected: Mapping[str, float]) -> str:
    value, low, high = (f"{100 * expected[name]:.1f}" for name in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def decision_history(decision: Mapping[str, Any]) -> Table:
    """Return what was changed of a decision since the fit."""
    columns = ("when", "what", "from", "to", "threshold")
    entries = (
        (entry["at"], entry["what"], entry["from"], entry["to"], f"{entry['threshold_from']:.4g} → {entry['threshold_to']:.4g}")
        for entry in decision["history"]
    )
    return console.table("Changes of the decision", columns, entries)


def score_facts(result: Mapping[str, Any]) -> Table:
    """Return how a scoring went."""
    share = f" ({100 * result['n_anomalies'] / result['n_scored']:.1f} %)" if result["n_scored"] else ""
    rows: list[tuple[str, object]] = [
        ("scored", f"{result['n_scored']} of {result['n_rows']} rows of {result['source']}"),
        ("flagged", f"{result['n_anomalies']}{share}, {_how_decided(result['decision'])}"),
    ]
    if result.get("fdr"):
        found = result["fdr"]
        text = f"{found['n_discoveries']} rows; at most {100 * found['rate']:g} % of them are false alarms, on average over batches"
        rows.append(("discoveries", text))
    if result.get("n_pooled"):
        rows.append(("no category", f"{result['n_pooled']} rows were judged by all categories together"))
    if result["maps"] is not None:
        maps = result["maps"]
        cut_off = f"; {maps['n_cut_off']} of them have values beyond the scale of the files" if maps["n_cut_off"] else ""
        rows.append(("heat-maps", f"{maps['n_maps']} in {maps['folder']}, {maps['n_overlays']} of them over their pictures{cut_off}"))
    return console.facts(str(result["output"]), rows)


def report_facts(written: "WrittenReport") -> Table:
    """Return the verdict of a report and how large the file is."""
    rows: list[tuple[str, object]] = [
        ("verdict", f"{written.headline}. {written.summary}"),
        ("rows", f"{written.n_scored} of {written.n_rows} scored, {written.n_anomalies} flagged"),
        ("size", f"{written.n_bytes / 1e6:.1f} MB; open it in any browser"),
    ]
    return console.facts(str(written.path), rows)


def evaluation_tables(source: str, evaluation: "Evaluation", decision: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the figures, and those of each type of anomaly where there are several."""
    title = f"{source}: {evaluation.n_normal} normal rows, {evaluation.n_anomaly} anomalies"
    rows = [(name, console.percent(getattr(evaluation, field)), meaning) for name, field, meaning in _MEASURES]
    yield console.table(title, ("", "% (95 % interval)", "what it is"), rows, numbers=[1])
    yield console.facts("", [("threshold", f"{decision['threshold']:.4g}, {_how_decided(decision)}")])
    if len(evaluation.per_type) > 1:
        types = (
            (name, entry.n, console.percent(entry.auroc), console.percent(entry.recall)) for name, entry in evaluation.per_type.items()
        )
        yield console.table("Each type against the normal rows", ("type", "rows", "AUROC %", "recall %"), types, numbers=[1, 2, 3])


def category_rates(rates: "Sequence[CategoryRates]") -> Iterator[Table]:
    """Yield how the decisions went in each camera, product or shift, where they are told apart."""
    if not rates:
        return
    rows = (
        (
            entry.name or "(none: by all together)",
            entry.n_normal,
            console.percent(entry.false_alarm_rate),
            entry.n_anomaly,
            console.percent(entry.recall),
        )
        for entry in rates
    )
    columns = ("category", "normal", "false alarms %", "anomalies", "recall %")
    yield console.table("Each category at its threshold", columns, rows, numbers=[1, 2, 3, 4])


def localisation_tables(figures: "Localisation") -> Iterator[Table]:
    """Yield how well heat-maps find the places of defects, and each type where there are several."""
    title = f"Places: {figures.n_regions} regions in {figures.n_defective} pictures with a mask, {figures.n_sound} sound pictures"
    rows = [(name, console.percent(getattr(figures, field)), meaning) for name, field, meaning in _PLACES]
    yield console.table(title, ("", "% (95 % interval)", "what it is"), rows, numbers=[1])
    if len(figures.per_type) > 1:
        types = (
            (name, entry.n, entry.n_regions, console.percent(entry.pixel_auroc), console.percent(entry.aupro))
            for name, entry in figures.per_type.items()
        )
        columns = ("type", "pictures", "regions", "pixel AUROC %", "AUPRO %")
        yield console.table("Places of each type, against the sound pictures too", columns, types, numbers=[1, 2, 3, 4])


def demo_facts(
    dataset: str, description: Mapping[str, Any], evaluation: "Evaluation", files: Mapping[str, Path], *, seconds: float
) -> Table:
    """Return the first result a newcomer sees."""
    target = description["decision"]["target_fpr"]
    n_rows = evaluation.n_normal + evaluation.n_anomaly
    rows: list[tuple[str, object]] = [
        ("learned", f"{description['data']['n_rows']} normal images in {console.duration(seconds)}"),
        ("looked at", f"{n_rows} new images: {evaluation.n_normal} normal, {evaluation.n_anomaly} of other classes"),
        ("AUROC", f"{_percent(evaluation.auroc)}: how often an anomaly scores above a normal image"),
        ("false alarms", f"{_percent(evaluation.false_alarm_rate)} of the normal images were flagged; {100 * target:g} % were allowed"),
        ("found", f"{_percent(evaluation.recall)} of the anomalies were flagged"),
        *((name, path) for name, path in files.items()),
    ]
    return console.facts(f"{description['detector']} on {dataset}", rows)


def photo_demo_facts(
    description: Mapping[str, Any],
    evaluation: "Evaluation",
    places: "Localisation | None",
    files: Mapping[str, Path],
    *,
    seconds: float,
) -> Table:
    """Return what was found in photos, and where it was looked for."""
    target = description["decision"]["target_fpr"]
    n_rows = evaluation.n_normal + evaluation.n_anomaly
    kinds = (f"{name} {round(entry.recall.value * entry.n)} of {entry.n}" for name, entry in evaluation.per_type.items())
    rows: list[tuple[str, object]] = [
        ("learned", f"{description['data']['n_rows']} photos of good plates in {console.duration(seconds)}"),
        ("looked at", f"{n_rows} new photos: {evaluation.n_normal} good, {evaluation.n_anomaly} with a defect"),
        ("found", f"{_percent(evaluation.recall)} of the defects: {', '.join(kinds)}"),
        ("false alarms", f"{_percent(evaluation.false_alarm_rate)} of the good plates were flagged; {100 * target:g} % were allowed"),
        ("AUROC", f"{_percent(evaluation.auroc)}: how often a defect scores above a good plate"),
    ]
    if places is not None:
        rows.append(("places", f"pixel AUROC {_percent(places.pixel_auroc)}, AUPRO {_percent(places.aupro)}"))
    return console.facts(f"{description['detector']} on photos of metal plates", [*rows, *files.items()])


def _percent(estimate: "Estimate") -> str:
    return console.percent(estimate).replace(" (", " % (", 1)


def _use_of_radius(decision: Mapping[str, Any]) -> str:
    return "decides, as asked" if decision["by"] == "radius" else "for comparison, it decides nothing"


def _how_decided(decision: Mapping[str, Any]) -> str:
    if decision["by"] == "radius":
        return "the paper's radius, as asked: the quantile of training scores, which flags more new normal rows than it says"
    rows = {"split": "held-out normal rows", "cross": "normal rows, each left out once", "given": "normal rows given to recalibrate"}
    kind = rows.get(decision.get("method", ""), "normal rows")  # an exported graph does not say which
    most = f"{100 * decision['promised_fpr']:.3g} %"
    own = sum(not entry["borrows"] for entry in decision.get("categories") or ())
    by_category = f"; each of {own} categories has its own" if own else ""
    how = f"set on {decision['n_calibration']} {kind} to flag at most {most} of normal rows"
    if decision["promised_fpr"] > decision["target_fpr"]:
        how += f" ({100 * decision['target_fpr']:g} % was asked for, which takes more rows)"
    return how + by_category


def _expected_false_alarms(description: Mapping[str, Any]) -> str:
    expected = description["decision"]["expected"]
    if expected is None:
        return "not promised: the paper's radius was asked for"
    value, low, high = (f"{100 * expected[name]:.1f}" for name in ("value", "low", "high"))
    return f"{value} % of normal rows expected (95 % interval {low}–{high}; more rows to calibrate on make it narrower)"


def _health(health: Mapping[str, Any]) -> str:
    troubles = [finding["name"] for finding in health["findings"] if finding["level"] != "ok"]
    return f"{health['level']}: {', '.join(troubles)} (insphere info says what to do)" if troubles else "ok"
