"""What an audit found, in words that say what to do."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from insphere.estimate import Estimate
from insphere.report.document import Document, Section, Statement

LEVELS = ("ok", "skipped", "note", "warning", "error")
"""Levels of a finding: as it should be; not to be checked here, and why; worth knowing; likely to hurt; a defect."""


@dataclasses.dataclass(frozen=True)
class AuditFinding:
    """One check and its outcome.

    Attributes
    ----------
    name : str
        What was checked: one of `insphere.audit.auditing.CHECKS`.
    level : {"ok", "skipped", "note", "warning", "error"}
    text : str
        The outcome in a sentence or two, with what to do where there is something to do.
    figures : mapping
        What was measured, by name: numbers, or estimates with their 95 % intervals.

    Examples
    --------
    >>> AuditFinding("order", "ok", "The order of rows changes nothing.", {"difference": 0.0}).to_json()["figures"]
    {'difference': 0.0}
    """

    name: str
    level: str
    text: str
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict; what is not defined is None."""
        return {"name": self.name, "level": self.level, "text": self.text, "figures": {k: _plain(v) for k, v in self.figures.items()}}


@dataclasses.dataclass(frozen=True)
class AuditReport:
    """All findings about one detector on one source.

    Attributes
    ----------
    subject, source : str
        Names of both.
    facts : mapping
        What was done: rows, repeats, settings, versions, and what was taken to mean what.
    findings : tuple of AuditFinding

    Examples
    --------
    >>> AuditReport("mine", "digits:3", {}, (AuditFinding("order", "ok", "Nothing changes."),)).level
    'ok'
    """

    subject: str
    source: str
    facts: Mapping[str, Any]
    findings: tuple[AuditFinding, ...]

    @property
    def level(self) -> str:
        """The worst level of all findings; checks that could not be made do not count."""
        levels = [finding.level for finding in self.findings if finding.level != "skipped"]
        return max(levels, key=LEVELS.index, default="ok")

    @property
    def summary(self) -> str:
        """The outcome in a sentence."""
        counts = [(level, len([f for f in self.findings if f.level == level])) for level in reversed(LEVELS)]
        return ", ".join(f"{count} {level}" for level, count in counts if count)

    def at_least(self, level: str) -> list[AuditFinding]:
        """Return the findings of this level or a worse one."""
        return [finding for finding in self.findings if LEVELS.index(finding.level) >= LEVELS.index(level)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {
            "subject": self.subject,
            "source": self.source,
            "level": self.level,
            "facts": {name: _plain(value) for name, value in self.facts.items()},
            "findings": [finding.to_json() for finding in self.findings],
        }

    def document(self) -> Document:
        """Return the report as a document, to be written as HTML or Markdown."""
        headline = {
            "ok": "Nothing found",
            "note": "Nothing found, with notes",
            "warning": "Think twice",
            "error": "Defects found",
        }[self.level]
        statements = tuple(Statement(finding.level, finding.name, finding.text) for finding in self.findings)
        facts = tuple((name, told(value)) for name, value in self.facts.items())
        sections = (Section("Checks", statements=statements), Section("What was done", rows=facts))
        return Document("audit", f"Audit of {self.subject} on {self.source}", self.level, headline, f"{self.summary}.", sections)


def told(value: Any) -> str:
    """Return a fact in words.

    Examples
    --------
    >>> told({"contamination": 0.1, "seed": 0}), told(["a", "b"]), told(3)
    ('contamination 0.1, seed 0', 'a; b', '3')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return list(value) if isinstance(value, tuple) else value
