"""Short documents about a model or a detector, of sections with sentences, statements and tables: the same in Markdown and in HTML."""

import dataclasses
import os
from pathlib import Path

from insphere.errors import ParameterError
from insphere.output_file import replacing
from insphere.report.layout import render_document

MARKS = {
    "ok": "Good",
    "skipped": "Not checked",
    "note": "Note",
    "warning": "Warning",
    "error": "Error",
    "critical": "Critical",
}
"""Level of a statement, and the word for it."""

FORMATS = (".html", ".htm", ".md")
"""Suffixes of the files that a document can be written to."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """A sentence with a level, under a name.

    Attributes
    ----------
    level : str
        A key of `MARKS`.
    name, text : str

    Examples
    --------
    >>> Statement("ok", "order", "The order of rows changes nothing.").name
    'order'
    """

    level: str
    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a document.

    Attributes
    ----------
    title : str
    sentences : tuple of str
        Paragraphs.
    statements : tuple of Statement
    columns : tuple of str
        Heads of the table; () is a table of names and values without a head.
    rows : tuple of tuple of str
        Cells of the table.

    Examples
    --------
    >>> Section("Data", rows=(("rows", "50"),)).columns
    ()
    """

    title: str
    sentences: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Document:
    r"""A document.

    Attributes
    ----------
    kind : str
        What it is, such as "audit"; part of the window's title.
    title : str
    level : str
        A key of `MARKS`: how it stands with what the document is about.
    headline, summary : str
        The same in a few words, and in a sentence.
    sections : tuple of Section

    Examples
    --------
    >>> document = Document("card", "m", "ok", "Sound", "Nothing to say.", (Section("Data", ("Rows.",), rows=(("rows", "5 | 6"),)),))
    >>> print(document.to_markdown())
    # m
    <BLANKLINE>
    **Sound.** Nothing to say.
    <BLANKLINE>
    ## Data
    <BLANKLINE>
    Rows.
    <BLANKLINE>
    | | |
    |---|---|
    | rows | 5 \| 6 |
    <BLANKLINE>
    """

    kind: str
    title: str
    level: str
    headline: str
    summary: str
    sections: tuple[Section, ...]

    def to_markdown(self) -> str:
        """Return the document as Markdown."""
        lines = [f"# {_escaped(self.title)}", "", f"**{_escaped(self.headline)}.** {_escaped(self.summary)}", ""]
        for section in self.sections:
            lines += [f"## {section.title}", ""]
            lines += [line for sentence in section.sentences for line in (_escaped(sentence), "")]
            if section.statements:
                lines += _table(
                    ("check", "level", "outcome"), [(statement.name, statement.level, statement.text) for statement in section.statements]
                )
            if section.rows:
                lines += _table(section.columns or ("",) * len(section.rows[0]), section.rows)
        return "\n".join(lines)

    def to_html(self) -> bytes:
        """Return the document as one HTML file, UTF-8, that loads nothing.

        Raises
        ------
        MissingDependencyError
            If Jinja2 is not installed.
        """
        return render_document({"document": self, "marks": MARKS})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the document; the suffix of the path chooses the format.

        Raises
        ------
        ParameterError
            If the suffix is not one of `FORMATS`.
        OutputError, MissingDependencyError
        """
        suffix = check_format(path)
        content = self.to_markdown().encode("utf-8", "backslashreplace") if suffix == ".md" else self.to_html()
        with replacing(path) as handle:
            handle.write(content)


def check_format(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a path that a document can be written to.

    Raises
    ------
    ParameterError
        If it is not one of `FORMATS`.

    Examples
    --------
    >>> check_format("card.md")
    '.md'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ParameterError(f"The document's name must end in .html or .md, got {os.fspath(path)!r}.")
    return suffix


def _table(columns: tuple[str, ...], rows: "tuple[tuple[str, ...], ...] | list[tuple[str, ...]]") -> list[str]:
    head = "| " + " | ".join(columns) + " |" if any(columns) else "|" + " |" * len(columns)
    lines = [head, "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, ""]


def _escaped(text: str) -> str:
    """Return text as one line in which nothing is markup of HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
