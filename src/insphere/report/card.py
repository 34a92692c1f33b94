"""The model card: what a model is for, what it was made of, what it promises and what it doesn't, in the headings of a technical file."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from insphere.data import AbstractSource
from insphere.decision.decision import use_of_rows
from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import as_rows, fingerprint
from insphere.detectors.scoring import Rows
from insphere.estimate import Estimate
from insphere.report.document import Document, Section, Statement
from insphere.report.judging import JudgedRows, judge
from insphere.report.verdict import LEVELS, interval, percent
from insphere.signatures import signature_path

NOT_STATED = "Not stated"

_FIGURES = (
    ("AUROC: how often an anomaly scores above a normal row", "auroc"),
    ("average precision", "average_precision"),
    ("anomalies that are flagged (recall)", "recall"),
    ("normal rows that are flagged (false alarms)", "false_alarm_rate"),
    ("flagged rows that are anomalies (precision)", "precision"),
)


@dataclasses.dataclass(frozen=True)
class CardTexts:
    """What only people know of a model; what is None is said to be not stated.

    Attributes
    ----------
    purpose, not_for, owner, oversight, standards : str, optional
        What it is meant for, and not meant for; who answers for it; what people do with a flagged row; norms that were applied.

    Examples
    --------
    >>> CardTexts(purpose="Scratches on tiles of line 3").owner is None
    True
    """

    purpose: str | None = None
    not_for: str | None = None
    owner: str | None = None
    oversight: str | None = None
    standards: str | None = None


def model_card(
    detector: AbstractDetector,
    *,
    path: str | os.PathLike[str] | None = None,
    source: Rows | None = None,
    texts: CardTexts | None = None,
    split: str = "test",
    **options: Any,
) -> Document:
    """Return the card of a fitted detector.

    Parameters
    ----------
    detector : AbstractDetector
        Fitted.
    path : path-like, optional
        Its file, of which the card gives the size, the SHA-256 and, where it lies beside, the name of a signature.
    source : array, source or path, optional
        Rows that were not given to `fit`: with labels, the card gives figures on them with 95 % intervals.
    texts : CardTexts, optional
    split : {"test", "all", "train"}
        Which rows of a source with parts.
    **options
        As `insphere.open_source`.

    Returns
    -------
    Document
        To be written as Markdown or HTML.

    Raises
    ------
    CollapseError, DataError, ParameterError
        If rows are given and can't be scored.

    Examples
    --------
    >>> import insphere
    >>> detector = insphere.KNN(random_state=0).fit("digits:3")
    >>> card = model_card(detector, source="digits:3", texts=CardTexts(purpose="To show a card."))
    >>> [section.title for section in card.sections][:3]
    ['General description', 'How it was made', 'Data']
    """
    described, said = detector.describe(), texts or CardTexts()
    rows = None
    if source is not None:
        opened = detector.open(source, split="all" if isinstance(source, AbstractSource) else split, **options)
        rows = judge(detector, opened, None)
    level = {"ok": "ok", "warning": "warning", "critical": "critical"}[detector.health_.level]
    sections = (
        _general(described, said, path),
        _making(described),
        _data(described, rows),
        _promise(detector, described),
        _figures(rows),
        _health(detector),
        _risks(detector, rows),
        _oversight(said),
        _changes(described),
        _file(described, path),
    )
    summary = f"{described['detector']} on {described['data']['source']}, fitted {described['created']}."
    return Document("model card", f"Model card: {said.purpose or described['data']['source']}", level, LEVELS[level], summary, sections)


def _general(described: Mapping[str, Any], said: CardTexts, path: str | os.PathLike[str] | None) -> Section:
    entry = catalog.DETECTORS.get(described["detector"])
    shape = "×".join(map(str, described["input"]["shape"]))
    is_image = described["input"]["image"] is not None
    rows = (
        ("intended purpose", said.purpose or f"{NOT_STATED} (--purpose)"),
        ("not intended for", said.not_for or f"{NOT_STATED} (--not-for)"),
        ("who answers for it", said.owner or f"{NOT_STATED} (--owner)"),
        ("kind", "One-class anomaly detector: learned from normal rows alone; scores, p-values and decisions on new ones"),
        ("method", f"{described['detector']}: {entry.summary}" if entry else described["detector"]),
        ("input", f"{'images' if is_image else 'rows of features'}, {shape}"),
        ("output", "anomaly score (higher = more anomalous), conformal p-value in (0, 1], decision at the threshold"),
        ("file", NOT_STATED if path is None else Path(path).name),
        ("fitted", described["created"]),
    )
    return Section("General description", rows=rows)


def _making(described: Mapping[str, Any]) -> Section:
    history = described.get("model", {}).get("history", [])
    trained = () if not history else (("training", f"{len(history)} epochs; loss {_loss(history[0])} to {_loss(history[-1])}"),)
    parameters = tuple((name, "default" if value is None else _text(value)) for name, value in described["parameters"].items())
    return Section("How it was made", rows=(("seed", str(described["seed"])), *trained, *parameters))


def _loss(epoch: Mapping[str, Any]) -> str:
    return f"{epoch['terms']['loss']:.4g}"


def _data(described: Mapping[str, Any], rows: JudgedRows | None) -> Section:
    data, contract = described["data"], described["input"]
    left_out = [
        f"{data.get(key, 0)} {words}"
        for key, words in (("n_unreadable", "unreadable"), ("n_labelled", "labelled as anomalies"), ("n_trimmed", "trimmed as suspicious"))
        if data.get(key)
    ]
    names = contract["feature_names"]
    facts = [
        ("learned from", str(data["source"])),
        ("rows", f"{data['n_rows']}, of which {data['n_different']} differ; {use_of_rows(data)}"),
        ("left out", ", ".join(left_out) or "nothing"),
        ("features", "without names" if names is None else ", ".join(names)),
        ("SHA-256 of these rows", str(data["fingerprint"])),
    ]
    if rows is not None:
        seen = f"; {rows.n_seen} of them equal a row that was given to fit" if rows.n_seen else "; none of them was given to fit"
        facts += [
            ("measured on", f"{rows.source.name}: {len(rows)} rows{seen}"),
            ("SHA-256 of these rows", _fingerprint(rows)),
        ]
    return Section("Data", rows=tuple(facts))


def _fingerprint(rows: JudgedRows) -> str:
    chosen = rows.source.take(rows.index)
    parts = (as_rows(batch.X) for batch in chosen.batches(256))
    return fingerprint(parts, np.dtype(chosen.dtype), (len(chosen), *chosen.row_shape))


def _promise(detector: AbstractDetector, described: Mapping[str, Any]) -> Section:
    decision, n = detector.decision_, len(detector.decision_)
    facts = [("threshold", f"{decision.threshold:.6g}"), ("asked for", f"{100 * decision.target_fpr:g} % of normal rows flagged at most")]
    if decision.promised_fpr is None:
        told = "The threshold is the paper's radius, a quantile of training scores, as was asked: no rate of false alarms is promised."
        return Section("Guarantee and its limits", (told,), rows=tuple(facts))
    expected = decision.expected
    facts += [
        ("promised", f"{100 * decision.promised_fpr:.3g} % at most, in the mean over calibrations"),
        ("to be expected of this model", "" if expected is None else f"{percent(expected.value)} (95 % range {interval(expected)})"),
        ("calibrated on", f"scores of {n} independent normal rows ({decision.method}), which stand for {decision.n_rows}"),
    ]
    sentences = (
        "A new normal row is flagged with at most the promised probability (conformal prediction). That holds where new normal rows are"
        " like those held out: drawn from the same source, in no particular order. It doesn't hold after a change of camera, light,"
        " material or process, nor for rows that depend on each other; watch the p-values for drift and recalibrate then.",
        "Nothing is promised of the share of anomalies found: it depends on the anomalies, of which the model has seen none.",
    )
    return Section("Guarantee and its limits", sentences, rows=tuple(facts))


def _figures(rows: JudgedRows | None) -> Section:
    title = "Figures"
    if rows is None:
        return Section(title, ("Not measured for this card (--data names rows to measure on).",))
    evaluation = rows.evaluation
    if evaluation is None:
        return Section(
            title, (f"{int(rows.is_anomaly.sum())} of {len(rows)} rows are flagged; without labels there is nothing to compare.",)
        )
    lines = [(name, *_cells(getattr(evaluation, field))) for name, field in _FIGURES]
    types = evaluation.per_type if len(evaluation.per_type) > 1 else {}
    lines += [(f"{name} ({entry.n} rows): recall", *_cells(entry.recall)) for name, entry in types.items()]
    if rows.places is not None:
        lines += [("places: pixel AUROC", *_cells(rows.places.figures.pixel_auroc)), ("places: AUPRO", *_cells(rows.places.figures.aupro))]
    sentence = f"On {evaluation.n_normal} normal rows and {evaluation.n_anomaly} anomalies, each figure with its 95 % interval."
    return Section(title, (sentence,), columns=("figure", "value", "95 % interval"), rows=tuple(lines))


def _cells(estimate: Estimate) -> tuple[str, str]:
    return percent(estimate.value), interval(estimate)


def _health(detector: AbstractDetector) -> Section:
    found = tuple(Statement(finding.level, finding.name, finding.text) for finding in detector.health_.findings)
    n_suspects = len(detector.health_.suspects)
    told = (f"{n_suspects} training rows look like anomalies; health_.suspects lists them.",) if n_suspects else ()
    return Section("Health at fit time", told, statements=found)


def _risks(detector: AbstractDetector, rows: JudgedRows | None) -> Section:
    sentences = [
        "A row counts as normal if it is like the rows learned from; rare normal kinds that were not among them are flagged.",
        "An anomaly that looks normal at the size and in the features that the model sees is missed.",
    ]
    if detector.image_spec_ is not None:
        spec = detector.image_spec_
        sentences.append(f"Images are brought to {spec.height}×{spec.width} pixels: a mark that vanishes there can't be found.")
    if rows is not None and rows.n_seen:
        sentences.append(f"{rows.n_seen} of the rows measured on were given to fit: the figures are too good.")
    sentences.append("Figures of subgroups (lines, cameras, suppliers) can be worse than the whole: measure each.")
    return Section("Known limits and risks", tuple(sentences))


def _oversight(said: CardTexts) -> Section:
    rows = (
        ("what people do with a flagged row", said.oversight or f"{NOT_STATED} (--oversight)"),
        ("standards applied", said.standards or f"{NOT_STATED} (--standards)"),
        ("after release", "insphere watch and serve compare new p-values with the held-out ones and tell of drift"),
    )
    return Section("Oversight and monitoring", rows=rows)


def _changes(described: Mapping[str, Any]) -> Section:
    history = described["decision"]["history"]
    if not history:
        return Section("Changes since the fit", ("None: the decision is that of the fit.",))
    lines = tuple((entry["at"], entry["what"], _text(entry["from"]), _text(entry["to"])) for entry in history)
    return Section("Changes since the fit", columns=("when (UTC)", "what", "from", "to"), rows=lines)


def _file(described: Mapping[str, Any], path: str | os.PathLike[str] | None) -> Section:
    facts = [("versions", ", ".join(f"{name} {version}" for name, version in described["versions"].items()))]
    if path is not None:
        content = Path(path).read_bytes()
        facts += [("file", f"{Path(path).name}, {len(content):,} bytes"), ("SHA-256 of the file", hashlib.sha256(content).hexdigest())]
        facts.append(("signature", _signature(Path(path))))
    return Section("Versions and integrity", ("The file is data only; loading it executes nothing.",), rows=tuple(facts))


def _signature(path: Path) -> str:
    beside = signature_path(path)
    return f"{beside.name} lies beside it; --require-signature KEY checks it" if beside.is_file() else "none"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
