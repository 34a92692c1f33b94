"""The report in a few sentences: what the figures say, and what to do next."""

import dataclasses
import math
from collections.abc import Iterator

from insphere.decision.categories import pooled_text
from insphere.decision.scored import seen_text
from insphere.detectors.base import AbstractDetector
from insphere.estimate import Estimate, proportion
from insphere.localisation_metrics import MAX_FPR
from insphere.metrics import rates_by_category
from insphere.report.judging import JudgedRows

LEVELS = {"ok": "Sound", "warning": "Look before you rely on it", "critical": "Do not rely on it"}
"""Levels of a remark, from good to bad, and the heading for a report whose worst remark has it."""

_FEW_ROWS = 30
_FEW_OF_A_TYPE = 5
_MOST_NAMED = 5
_HALF = 0.5


@dataclasses.dataclass(frozen=True)
class Remark:
    """One thing that the reader should know, with what to do about it where something can be done."""

    level: str
    text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a report says at a glance.

    Attributes
    ----------
    level : {"ok", "warning", "critical"}
    headline : str
    summary : str
        The result in a sentence.
    remarks : tuple of Remark
        What the level rests on, the worst first.
    """

    level: str
    headline: str
    summary: str
    remarks: tuple[Remark, ...]


def percent(value: float, digits: int = 1) -> str:
    """Return a rate as text, a dash for one that is undefined.

    Examples
    --------
    >>> percent(0.0333), percent(float("nan"))
    ('3.3 %', '–')
    """
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def interval(estimate: Estimate) -> str:
    """Return the 95 % interval of a rate as text, empty where it is undefined.

    Examples
    --------
    >>> interval(Estimate(0.05, 0.02, 0.112))
    '2.0–11.2'
    """
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}" if estimate.is_defined else ""


def sentence(text: str) -> str:
    """Return `text` with its first letter, and no other, made a capital.

    Examples
    --------
    >>> sentence("batch-norm shift"), sentence("KL divergence")
    ('Batch-norm shift', 'KL divergence')
    """
    return text[:1].upper() + text[1:]


def reach_verdict(detector: AbstractDetector, rows: JudgedRows) -> Verdict:
    """Return the verdict on a detector from its health and from how it judged these rows."""
    order = list(LEVELS)
    remarks = sorted(
        [*_of_rates(detector, rows), *_of_categories(detector, rows), *_of_places(rows), *_of_rows(rows), *_of_health(detector)],
        key=lambda remark: -order.index(remark.level),
    )
    level = max((remark.level for remark in remarks), key=order.index, default="ok")
    return Verdict(level, LEVELS[level], _summary(rows), tuple(remarks))


def _summary(rows: JudgedRows) -> str:
    n_flagged = int(rows.is_anomaly.sum())
    evaluation = rows.evaluation
    if evaluation is None:
        return f"{n_flagged} of {len(rows)} rows are flagged ({percent(n_flagged / len(rows))})."
    found, alarms = evaluation.recall, evaluation.false_alarm_rate
    if not found.is_defined:
        return f"{percent(alarms.value)} of {evaluation.n_normal} normal rows are flagged ({interval(alarms)})."
    sentence = f"Finds {percent(found.value)} of the anomalies ({interval(found)})"
    return f"{sentence} at {percent(alarms.value)} false alarms ({interval(alarms)})." if alarms.is_defined else f"{sentence}."


def _of_rates(detector: AbstractDetector, rows: JudgedRows) -> Iterator[Remark]:
    decision = detector.decision_
    target = decision.target_fpr if decision.promised_fpr is None else decision.promised_fpr
    evaluation = rows.evaluation
    if evaluation is None:
        yield from _of_flagged_share(rows, target)
        return
    alarms = evaluation.false_alarm_rate
    if alarms.is_defined:
        text = (
            f"{percent(alarms.value)} of the normal rows are flagged (95 % interval {interval(alarms)}); {100 * target:g} % were allowed."
        )
        if alarms.low > target:
            remedy = " New normal rows are not like those it was fitted on: fit again with rows like these, or raise the threshold below."
            yield Remark("warning", text + remedy)
        else:
            yield Remark("ok", text)
    if evaluation.auroc.is_defined:
        area = evaluation.auroc
        text = f"An anomaly scores above a normal row {percent(area.value)} of the time (AUROC, {interval(area)})."
        if area.low <= _HALF:
            remedy = " That cannot be told from guessing: fit longer, try another detector, or check the labels."
            yield Remark("critical", text + remedy)
        else:
            yield Remark("ok", text)
    if evaluation.recall.high < _HALF:
        text = f"Most anomalies are missed: {percent(evaluation.recall.value)} are found ({interval(evaluation.recall)})."
        yield Remark("warning", f"{text} Look at them below; a lower threshold finds more of them, for more false alarms.")
    types = evaluation.per_type if len(evaluation.per_type) > 1 else {}
    hidden = [name for name, entry in types.items() if entry.n >= _FEW_OF_A_TYPE and entry.auroc.low <= _HALF]
    if hidden:
        listed = ", ".join(hidden[:_MOST_NAMED]) + (" …" if len(hidden) > _MOST_NAMED else "")
        text = f"Not to be told from guessing for {len(hidden)} of {len(types)} types of anomalies: {listed}."
        yield Remark("warning", f"{text} If their marks are small, fit with a larger image size.")


def _of_categories(detector: AbstractDetector, rows: JudgedRows) -> Iterator[Remark]:
    """Say how each camera, product or shift did, and which of them has more false alarms than it was promised."""
    if rows.categories is None:
        return
    promised = {entry["name"]: entry["promised_fpr"] for entry in detector.decision_.to_json()["categories"] or ()}
    yield Remark(
        "ok",
        f"{len(promised)} categories have thresholds of their own; the slider below moves one for all of them together.",
    )
    n_pooled = sum(name is None for name in rows.categories)
    if n_pooled:
        yield Remark("warning", pooled_text(n_pooled, len(rows)))
    if rows.labels is None:
        return
    for entry in rates_by_category(rows.labels, rows.is_anomaly, rows.categories):
        most = promised.get(entry.name or "")
        if most is None or not entry.n_normal:
            continue
        alarms = entry.false_alarm_rate
        text = (
            f"{entry.name}: {percent(alarms.value)} of its {entry.n_normal} normal rows are flagged (95 % interval {interval(alarms)});"
            f" {100 * most:.3g} % were promised."
        )
        bad = alarms.low > most
        yield Remark("warning" if bad else "ok", text + (" Recalibrate it with normal rows like these." if bad else ""))


def _of_places(rows: JudgedRows) -> Iterator[Remark]:
    places = rows.places
    if places is None:
        return
    hot, found = places.figures.pixel_auroc, places.figures.aupro
    if hot.is_defined:
        text = (
            f"Heat-maps rank a defective pixel above a sound one {percent(hot.value)} of the time (pixel AUROC, {interval(hot)}); of the"
            f" defective regions they find {percent(found.value)} (AUPRO, {interval(found)}), averaged up to {MAX_FPR:.0%} false alarms."
        )
        if found.low <= MAX_FPR / 2:
            yield Remark("warning", f"{text} That cannot be told from guessing: do not rely on the places shown.")
        else:
            yield Remark("ok", text)
    for text in places.left_out():
        yield Remark("warning" if places.errors else "ok", text)


def _of_flagged_share(rows: JudgedRows, target: float) -> Iterator[Remark]:
    share = proportion(int(rows.is_anomaly.sum()), len(rows))
    text = (
        f"{percent(share.value)} of the rows are flagged (95 % interval {interval(share)}); of normal rows {100 * target:g} % were allowed."
    )
    if share.low > target:
        yield Remark(
            "warning", f"{text} Either there are anomalies among them, or normal has changed since the fit: look at the galleries."
        )
    else:
        yield Remark("ok", text)


def _of_rows(rows: JudgedRows) -> Iterator[Remark]:
    n = len(rows)
    if rows.n_seen:
        yield Remark("warning", seen_text(rows.n_seen, n))
    if rows.errors:
        yield Remark("warning", f"{len(rows.errors)} of {n + len(rows.errors)} rows could not be read; they are listed under Data.")
    smallest = min((int(mask.sum()) for mask in rows.groups.values()), default=n)
    if 0 < smallest < _FEW_ROWS:
        yield Remark("ok", f"The intervals are wide, as there are only {smallest} rows to measure one of the rates on; more narrow them.")


def _of_health(detector: AbstractDetector) -> Iterator[Remark]:
    findings = [finding for finding in detector.health_.findings if finding.level != "ok"]
    yield from (Remark(finding.level, f"{sentence(finding.name)}: {finding.text}") for finding in findings)
    if not findings:
        yield Remark("ok", f"All {len(detector.health_.findings)} health checks of the fit passed.")
