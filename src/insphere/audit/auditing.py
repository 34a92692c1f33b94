"""An audit from end to end: rows, fits, checks, report."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.audit import probes
from insphere.audit.findings import AuditFinding, AuditReport
from insphere.audit.rows import AuditRows, Parted, audit_rows
from insphere.audit.subjects import Scorer, Subject, subject_of
from insphere.detectors.base import AbstractDetector
from insphere.validation import check_integer, check_number

FloatArray = NDArray[np.float64]
Pair = tuple[FloatArray, FloatArray]

CHECKS = {
    "scores": "each row has one finite score, and scores tell rows apart",
    "training": "what it is fitted on, and that it learns, changes how new rows rank",
    "scored again": "rows that are scored twice score the same",
    "same seed": "two fits with the same seed give the same scores",
    "batch": "a row's score and decision do not depend on the rows scored with it",
    "order": "the order of rows changes no score",
    "test data": "scoring learns nothing and changes nothing that it is given",
    "labels": "whether fit uses labels that it is handed",
    "copies": "pickled, stored and exported copies score the same",
    "untrained": "it ranks anomalies better than itself before training",
    "5-NN": "it ranks anomalies at least as well as the distance to the five nearest training rows",
    "false alarms": "new normal rows are flagged as often as it states",
}
"""Each check by name, and what it finds out."""


_OF_STEADY_SCORES = frozenset({"same seed", "batch", "order", "test data", "labels", "copies"})


def audit(
    subject: Any,
    source: Any,
    *,
    parameters: Mapping[str, Any] | None = None,
    repeats: int = 5,
    max_rows: int = 1000,
    seed: int = 0,
    stated_fpr: float | None = None,
    higher: str = "auto",
    images: bool | None = None,
    on_step: Callable[[str], Any] | None = None,
    require_signature: str | os.PathLike[str] | None = None,
    **options: Any,
) -> AuditReport:
    """Check anybody's detector for what makes its scores worth something.

    Parameters
    ----------
    subject : str, path, class, estimator or callable
        ``module:Class``; the name of one of insphere's detectors; the path of a model file or an ONNX graph; a function that scores rows;
        or such an object itself. What has `fit` is fitted here, on normal rows alone.
    source : array, source or path
        What `insphere.open_source` takes. With labels, anomalies are ranked too. Where the source doesn't keep training rows apart, each
        repeat learns from a random half of the normal rows.
    parameters : mapping, optional
        For the subject's constructor.
    repeats : int
        Fits with different seeds (and halves), 1 to 50.
    max_rows : int
        Rows of each kind in a repeat, at least 16; drawn where there are more.
    seed : int
        Seed of all that the audit draws; where the subject has a parameter for a seed, each repeat gets one of its own.
    stated_fpr : float, optional
        Share of normal rows that the subject is said to flag, in (0, 1). Default: its `target_fpr`, `contamination` or `nu`.
    higher : {"auto", "anomalous", "normal"}
        What a higher score of the subject means. "auto": by its family, which the report tells.
    images : bool, optional
        Whether it takes images as they are; else each is one row of numbers. Default: insphere's detectors and graphs of images do.
    on_step : callable, optional
        Called with the name of what is done next.
    require_signature : path-like, optional
        Public key that a model file or graph must be signed with; see `insphere.load`.
    **options
        As `insphere.open_source`, such as `label_column`.

    Returns
    -------
    AuditReport

    Raises
    ------
    DataError
        If there are fewer than sixteen normal rows.
    ParameterError
        If a value breaks its rule, or `subject` names nothing that can be audited. What the subject itself raises is a finding.

    Examples
    --------
    >>> report = audit("sklearn.svm:OneClassSVM", "digits:3", parameters={"nu": 0.1}, repeats=1)
    >>> next(finding.level for finding in report.findings if finding.name == "batch")
    'ok'
    """
    check_integer("repeats", repeats, at_least=1, at_most=50)
    check_integer("max_rows", max_rows, at_least=16)
    check_integer("seed", seed, at_least=0)
    if stated_fpr is not None:
        check_number("stated_fpr", stated_fpr, above=0, below=1)
    started = time.perf_counter()
    audited = subject_of(subject, parameters, higher=higher, images=images, require_signature=require_signature)
    rows = audit_rows(source, n_repeats=repeats, max_rows=max_rows, seed=seed, as_images=audited.images, **options)
    findings = _Audit(audited, rows, seed, stated_fpr, on_step or (lambda step: None)).findings()
    return AuditReport(audited.name, rows.name, _facts(audited, rows, seed, parameters or {}, time.perf_counter() - started), findings)


class _Audit:
    """The checks in their order; what one of them fits, the others use."""

    def __init__(self, subject: Subject, rows: AuditRows, seed: int, stated: float | None, say: Callable[[str], Any]) -> None:
        self.subject, self.rows, self.seed, self.stated, self.say = subject, rows, seed, stated, say

    def findings(self) -> tuple[AuditFinding, ...]:
        """Return one finding a check."""
        part = self.rows.repeats[0]
        self.say("fitting")
        try:
            scorer = self._fit(0)
            first = scorer.scores(part.test)
        except Exception as error:
            return (self._broken("scores", error),)
        found = [probes.check_scores(first, len(part.test))]
        if found[0].level == "error":
            return tuple(found)
        checks: list[tuple[str, Callable[[], AuditFinding]]] = [
            ("training", lambda: self._training(part, scorer)),
            ("scored again", lambda: probes.check_again(part, scorer)),
            ("same seed", lambda: probes.check_seed(self.subject, part, scorer, self.seed)),
            ("batch", lambda: probes.check_batch(part, scorer)),
            ("order", lambda: probes.check_order(part, scorer, self.seed)),
            ("test data", lambda: probes.check_test_data(self.subject, part, scorer, self.seed)),
            ("labels", lambda: probes.check_labels(self.subject, part, scorer, self.seed)),
            ("copies", lambda: probes.check_copies(part, scorer)),
        ]
        fitting = {"training", "same seed", "labels"}
        for name, check in checks:
            self.say(name)
            if name in fitting and not self.subject.trains:
                found.append(AuditFinding(name, "skipped", "It comes fitted, so it cannot be fitted again."))
            elif name in _OF_STEADY_SCORES and any(other.name == "scored again" and other.level == "error" for other in found):
                found.append(AuditFinding(name, "skipped", "Scores differ from one time to the next anyway (see: scored again)."))
            else:
                found.append(self._guarded(name, check))
        return (*found, *self._measured(scorer))

    def _guarded(self, name: str, check: Callable[[], AuditFinding]) -> AuditFinding:
        try:
            return check()
        except Exception as error:  # whatever a detector of others raises is a finding about it
            return self._broken(name, error)

    def _broken(self, name: str, error: Exception, what: str = "It fails") -> AuditFinding:
        message = str(error).strip().split("\n")[0]
        return AuditFinding(name, "error", f"{what}: {type(error).__name__}: {message}")

    def _fit(self, repeat: int, **more: Any) -> Scorer:
        if not self.subject.trains:
            return self.subject.fitted
        return self.subject.fit(self.rows.repeats[repeat].train, **self.subject.seeded(self.seed + repeat), **more)

    def _still(self, repeat: int) -> tuple[str, Scorer] | None:
        """Return the subject fitted without learning, and how; None where there is no way."""
        for how, settings in self.subject.standing_still():
            try:
                scorer = self._fit(repeat, **settings)
                if np.isfinite(scorer.scores(self.rows.repeats[repeat].test)).all():
                    return how, scorer
            except Exception:  # the next way
                continue
        return None

    def _training(self, part: Parted, scorer: Scorer) -> AuditFinding:
        return probes.check_training(self.subject, part, scorer, self._still(0), self.seed)

    def _measured(self, scorer: Scorer) -> list[AuditFinding]:
        """Return the findings that need all repeats."""
        self.say("measuring")
        try:
            scorers = [scorer, *(self._fit(repeat) for repeat in range(1, len(self.rows.repeats) if self.subject.trains else 1))]
            if not self.subject.trains:
                scorers = [scorer] * len(self.rows.repeats)
            return [*self._ranked(scorers), self._guarded("false alarms", lambda: self._alarms(scorers))]
        except Exception as error:
            return [self._broken(name, error, "In one of the repeats it fails") for name in ("untrained", "5-NN", "false alarms")]

    def _ranked(self, scorers: list[Scorer]) -> list[AuditFinding]:
        if not self.rows.labelled:
            text = "The rows have no labels, so there are no anomalies to rank."
            return [AuditFinding(name, "skipped", text) for name in ("untrained", "5-NN")]
        trained = [self._pair(scorer, part) for scorer, part in zip(scorers, self.rows.repeats, strict=True)]
        near = [probes.nearest(part, of_images=self.rows.of_images) for part in self.rows.repeats]
        return [self._guarded("untrained", lambda: self._untrained(trained)), probes.check_neighbours(trained, near)]

    def _untrained(self, trained: list[Pair]) -> AuditFinding:
        if not self.subject.trains:
            return AuditFinding("untrained", "skipped", "It comes fitted, so it cannot be had untrained.")
        how, pairs = "fitted on noise", []
        for repeat, part in enumerate(self.rows.repeats):
            still = self._still(repeat)
            if still is None:
                noise = probes.noise_like(part.train, self.seed + repeat)
                try:
                    scorer = self.subject.fit(noise, **self.subject.seeded(self.seed + repeat))
                except Exception as error:  # noise is ours, so a failure to fit on it is not a fault
                    return AuditFinding(
                        "untrained", "skipped", f"It can't be fitted on noise ({type(error).__name__}), nor left untrained."
                    )
            else:
                how, scorer = f"untrained ({still[0]})", still[1]
            pairs.append(self._pair(scorer, part))
        return probes.check_untrained(trained, pairs, how, on_these_rows=how != "fitted on noise")

    def _pair(self, scorer: Scorer, part: Parted) -> Pair:
        scores = scorer.scores(part.test)
        return scores[: len(part.normal)], scores[len(part.normal) :]

    def _alarms(self, scorers: list[Scorer]) -> AuditFinding:
        if not scorers[0].decides:
            return AuditFinding("false alarms", "skipped", "It makes no decisions: there is no `predict` and no output of labels.")
        flags = [scorer.flags(part.normal) for scorer, part in zip(scorers, self.rows.repeats, strict=True)]
        n_rows = len(np.unique(np.concatenate([part.normal_index for part in self.rows.repeats])))
        promised = [scorer.model.decision_.promised_fpr for scorer in scorers if isinstance(scorer.model, AbstractDetector)]
        stated = self.stated
        if stated is None:
            stated = max(rate for rate in promised if rate is not None) if any(promised) else self.subject.stated
        return probes.check_alarms(flags, n_rows, stated, at_most=any(promised) and self.stated is None)


def _facts(subject: Subject, rows: AuditRows, seed: int, parameters: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    first = rows.repeats[0]
    how = "training and test rows as the source has them" if rows.parted else "each repeat learns from a random half of the normal rows"
    facts: dict[str, Any] = {
        "rows": f"{len(first.train)} to fit on, {len(first.normal)} normal and {len(first.anomaly)} anomalous ones to ask about; {how}",
        "row": "×".join(map(str, first.train.shape[1:])),
        "repeats": len(rows.repeats),
        "seed": seed,
        "parameters": dict(parameters) or "its defaults",
        "taken to mean": tuple(subject.remarks) or "nothing was guessed",
        "versions": _versions(subject),
        "seconds": round(seconds, 1),
    }
    return facts | ({"left out": rows.notices} if rows.notices else {})


def _versions(subject: Subject) -> dict[str, str]:
    names = ["insphere", "numpy", "scikit-learn"]
    package = subject.name.partition(":")[0].partition(".")[0]
    names += [package] if ":" in subject.name and package not in ("insphere", "sklearn") else []
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"cores": str(os.cpu_count())}
