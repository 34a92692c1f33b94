"""Explanations as files in a folder: pictures of each row, and the numbers as JSON and CSV."""

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from insphere.errors import DataError
from insphere.explain.explanation import Explanation
from insphere.explain.pictures import draw_heat, write_panel
from insphere.output_file import make_folder, replacing

_LONGEST_STEM = 80
_MAIN_FIELDS = ("source", "id", "anomaly_score", "p_value", "is_anomaly", "baseline_score", "highest_heat")


def write_explanations(folder: str | os.PathLike[str], explanations: Sequence[Explanation]) -> list[Path]:
    """Write all there is of some explanations into a folder, which is made where it is missing.

    ``explanations.json`` has all numbers and ``explanations.csv`` the main ones, a line for each row; ``NUMBER-NAME-panel.png`` shows one
    row with all that belongs to it and, for images, ``NUMBER-NAME-overlay.png`` its heat-map over it, in the model's image size.
    Heat-maps share one scale, so a calm image looks calm; those of the method "map" have a fixed one. Every file is written complete or not
    at all, the two with numbers last.

    Parameters
    ----------
    folder : path-like
    explanations : sequence of Explanation
        By one detector and method.

    Returns
    -------
    list of Path
        The files, in the order in which they were written.

    Raises
    ------
    DataError
        If there is no row to explain.
    OutputError
        If a file cannot be written.
    """
    rows = [(explanation, row) for explanation in explanations for row in range(len(explanation))]
    if not rows:
        raise DataError("There is no row to explain.")
    folder = make_folder(folder)
    maximum = max(explanation.heat_limit for explanation in explanations)
    written: list[Path] = []
    facts: list[dict[str, str]] = []
    for number, (explanation, row) in enumerate(rows):
        stem = f"{number:04}-{file_stem(explanation.ids[row])}"
        files = {"panel": folder / f"{stem}-panel.png"}
        write_panel(files["panel"], explanation, row, maximum=maximum)
        if explanation.heatmaps is not None:
            files["overlay"] = folder / f"{stem}-overlay.png"
            _write_picture(files["overlay"], draw_heat(explanation, row, maximum=maximum))
        written += files.values()
        facts.append({kind: path.name for kind, path in files.items()})
    lines = [line for explanation in explanations for line in explanation.to_json()["rows"]]
    errors = {name: text for explanation in explanations for name, text in explanation.errors.items()}
    lines = [line | pictures for line, pictures in zip(lines, facts, strict=True)]
    result = {"method": rows[0][0].method, "rows": lines, "errors": errors}
    for name, text in (("explanations.csv", _as_csv(lines)), ("explanations.json", json.dumps(result, indent=2) + "\n")):
        with replacing(folder / name) as handle:
            handle.write(text.encode())
        written.append(folder / name)
    return written


def file_stem(name: str) -> str:
    """Return the name of a row as part of a file name: nothing in it leads to another folder.

    Examples
    --------
    >>> file_stem("../test/crack/exp1 ü.jpg")
    'test_crack_exp1'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.splitext(name)[0]).strip("._-")
    return plain[-_LONGEST_STEM:] or "row"


def _write_picture(path: Path, pixels: Any) -> None:
    with replacing(path) as handle:
        Image.fromarray(pixels).save(handle, format="PNG")


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """Return a line for each row: its score, hottest pixel, nearest normal example, and the contributions of features."""
    text = io.StringIO()
    lines = []
    for row in rows:
        line = {name: row[name] for name in _MAIN_FIELDS if name in row}
        if "hottest_pixel" in row:
            line |= {f"hottest_{axis}": place for axis, place in row["hottest_pixel"].items()}
        if row.get("neighbours"):
            line |= {"nearest_normal": row["neighbours"][0]["id"], "nearest_distance": row["neighbours"][0]["distance"]}
        lines.append(line | {f"contribution_{name}": value for name, value in row.get("feature_contributions", {}).items()})
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
