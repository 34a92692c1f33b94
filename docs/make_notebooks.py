"""Make docs/notebooks/*.ipynb from the guides: text as it is, examples as cells, run again for their outputs.

Usage: make notebooks
"""

import doctest
import json
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
GUIDES = sorted(DOCS.glob("guide-*.md"))
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_BLOCK = re.compile(r"^```python\n(>>> .*?)^```\n", flags=re.DOTALL | re.MULTILINE)
_ABOUT_NOTEBOOK = re.compile(r"\s*The page is\s+also\s+a \[notebook\]\([^)]*\)(, and its examples are run by the tests)?\.")


def main() -> None:
    """Write a notebook for each guide; end with an error where an example does not do what the guide says."""
    warnings.simplefilter("ignore")
    for guide in GUIDES:
        target = notebook_path(guide)
        target.parent.mkdir(exist_ok=True)
        target.write_text(notebook(guide, run(guide)), encoding="utf-8")


def notebook_path(guide: Path) -> Path:
    """Return where the notebook of a guide is kept."""
    return DOCS / "notebooks" / f"{guide.stem}.ipynb"


def examples(guide: Path) -> list[doctest.Example]:
    """Return the examples of a guide, in order."""
    return [example for block in _BLOCK.findall(guide.read_text(encoding="utf-8")) for example in _examples(block)]


def run(guide: Path) -> list[str]:
    """Return what each example of a guide printed or showed."""

    class Recorder(doctest.DocTestRunner):
        def report_success(self, out: Any, test: Any, example: Any, got: str) -> None:
            outputs.append(got)

    outputs: list[str] = []
    test = doctest.DocTest(examples(guide), {"__name__": "__main__"}, guide.name, str(guide), 0, None)
    if Recorder(optionflags=OPTIONS).run(test).failed:
        sys.exit(f"{guide.name} does not do what it says")
    return outputs


def notebook(guide: Path, outputs: Sequence[str]) -> str:
    """Return a guide as a notebook (nbformat 4.5); `outputs` are those of its examples."""
    left = list(outputs)
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(_BLOCK.split(guide.read_text(encoding="utf-8"))):
        cells += _code_cells(part, left) if number % 2 else _text_cells(part)
    named = [{"id": f"cell-{place}", **cell} for place, cell in enumerate(cells)]
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    return json.dumps({"cells": named, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


def _examples(block: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(block)


def _text_cells(text: str) -> list[dict[str, Any]]:
    text = _ABOUT_NOTEBOOK.sub("", text.strip())
    # A notebook lies one folder below the page, so links and pictures start one folder up.
    moved = re.sub(r"\]\((?!https?://)([^)]+)\)", r"](../\1)", text)
    return [{"cell_type": "markdown", "metadata": {}, "source": _lines(moved)}] if moved else []


def _code_cells(block: str, outputs: list[str]) -> list[dict[str, Any]]:
    """Return a cell for each run of examples up to one with an output, as a cell shows the value of its last line only."""
    cells, sources = [], []
    for example in _examples(block):
        sources.append(example.source)
        output = outputs.pop(0)
        if example.want:
            cells.append(_code_cell("".join(sources), output, printed="print(" in example.source))
            sources = []
    return [*cells, _code_cell("".join(sources), "", printed=True)] if sources else cells


def _code_cell(source: str, output: str, *, printed: bool) -> dict[str, Any]:
    shown: list[dict[str, Any]] = []
    if output and printed:
        shown = [{"output_type": "stream", "name": "stdout", "text": _lines(output)}]
    elif output:
        data = {"text/plain": _lines(output.rstrip("\n"))}
        shown = [{"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": data}]
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": shown, "source": _lines(source.rstrip("\n"))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    main()
