"""The file as a whole: complete, bounded, repeatable, safe; and what is refused."""

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import insphere
from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, MissingDependencyError, ParameterError
from insphere.output_file import OutputError
from insphere.report import layout, write_report
from insphere.visible import one_line
from report.conftest import HOSTILE, fit, learned_from


class Reader(HTMLParser):
    """Collects elements, and complains about one that is closed and not open."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_what_is_returned_is_what_was_written(digits: AbstractDetector, explained: None, tmp_path: Path) -> None:
    written = write_report(digits, "digits:3", tmp_path / "r.html", max_images=4)
    assert written.n_bytes == (tmp_path / "r.html").stat().st_size < 400_000
    assert (written.n_rows, written.n_scored, written.n_errors) == (596, 596, 0)
    tiles = [attributes for _, attributes in read(tmp_path / "r.html").elements if (attributes.get("class") or "").startswith("tile ")]
    assert 4 * 4 < written.n_images == len(tiles) <= 4 * 5
    assert written.n_anomalies == (digits.anomaly_score(insphere.open_source("digits:3", split="test")) > digits.threshold_).sum()
    assert written.headline in "".join(read(tmp_path / "r.html").text)


def test_scores_in_the_page_are_those_of_the_library_bit_by_bit(digits: AbstractDetector, digits_report: Path) -> None:
    scores = dict(enumerate(digits.anomaly_score(insphere.open_source("digits:3", split="test")).tolist()))
    shown = []
    for (_, tile), (_, button) in pairwise(read(digits_report).elements):
        if (tile.get("class") or "").startswith("tile "):
            shown.append((int(button["data-name"].removeprefix("row ")), float(tile["data-score"])))
    assert len(shown) > 40
    assert all(scores[row] == score for row, score in shown)


def test_the_same_input_gives_the_same_bytes(digits: AbstractDetector, explained: None, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(digits, "digits:3", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_nothing_in_the_page_points_outside(digits_report: Path) -> None:
    reader = read(digits_report)
    for tag, attributes in reader.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    assert "@import" not in digits_report.read_text() and "url(" not in digits_report.read_text()


def test_the_policy_admits_exactly_the_style_and_the_script(digits_report: Path) -> None:
    page = digits_report.read_text()
    (policy,) = (a["content"] for _, a in read(digits_report).elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for rule, pattern in (("style-src", r"<style>(.*?)</style>"), ("script-src", r"<script>(.*?)</script>")):
        (content,) = re.findall(pattern, page, flags=re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_whatever_is_called_anything_is_escaped(hostile: ArraySource, explained: None, tmp_path: Path) -> None:
    detector = fit(insphere.DeepSVDDVAE(epochs=1, random_state=0), learned_from(hostile))
    written = write_report(detector, hostile, tmp_path / "r.html", title=HOSTILE)
    reader = read(tmp_path / "r.html")
    assert [tag for tag, _ in reader.elements].count("script") == 2
    assert (written.n_errors, written.n_scored) == (1, 79)
    text = "".join(reader.text)
    assert HOSTILE in text and f"7{one_line(HOSTILE)}" in text and "pixel at row 2, column 2, channel 0 is nan" in text


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(name=st.text(st.characters(), min_size=1, max_size=30))
def test_any_text_at_all_can_be_a_name(vectors: AbstractDetector, unexplained: None, tmp_path: Path, name: str) -> None:
    X = np.random.default_rng(0).normal(size=(6, 4))
    source = ArraySource(X, name=name, ids=[f"{name}{row}" for row in range(6)], labels=[0, 0, 0, 1, 1, 1], types=[name] * 4 + ["b", "c"])
    write_report(vectors, source, tmp_path / "r.html", title=name)
    (data,) = re.findall(
        r'<script id="report-data" type="application/json">(.*?)</script>', (tmp_path / "r.html").read_text(encoding="utf-8")
    )
    assert set(json.loads(data)["flagged"]) == {"normal", "anomaly"}
    assert read(tmp_path / "r.html")


def test_names_that_are_no_utf_8(vectors: AbstractDetector, unexplained: None, tmp_path: Path) -> None:
    source = ArraySource(np.random.default_rng(0).normal(size=(3, 4)), ids=[os.fsdecode(b"\xff1"), "b", "c"])
    write_report(vectors, source, tmp_path / "r.html")
    assert "\\udcff1" in "".join(read(tmp_path / "r.html").text)


def test_unreadable_files_are_listed_with_their_reasons(digits: AbstractDetector, unexplained: None, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "cut.png").write_bytes((folder / "1.png").read_bytes()[:40])
    written = write_report(digits, folder, tmp_path / "r.html")
    assert (written.n_rows, written.n_scored, written.n_errors) == (4, 3, 1)
    assert written.level == "warning"
    text = "".join(read(tmp_path / "r.html").text)
    assert "cut.png" in text and "1 row has no score" in text


def test_only_unreadable_rows_are_no_report(digits: AbstractDetector, tmp_path: Path) -> None:
    X = np.full((3, 8, 8, 1), np.nan)
    with pytest.raises(DataError, match="at least one row with a score, but none of the 3 rows"):
        write_report(fit(insphere.KNN(), np.random.default_rng(0).random((20, 8, 8, 1))), X, tmp_path / "r.html")
    assert os.listdir(tmp_path) == []


def test_a_detector_without_explanation_says_so(digits: AbstractDetector, unexplained: None, tmp_path: Path) -> None:
    write_report(digits, "digits:3", tmp_path / "r.html", max_images=3)
    reader = read(tmp_path / "r.html")
    assert not any("heat" in (attributes.get("class") or "") for _, attributes in reader.elements)
    assert "No heat-map for this detector: This detector cannot be explained." in "".join(reader.text)
    without = write_report(digits, "digits:3", tmp_path / "w.html", max_images=3, heatmaps=False)
    assert "Heat-maps were not asked for." in "".join(read(without.path).text)


def test_thousands_of_images_stay_a_small_file(explained: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (3000, 32, 32, 3)).astype(np.uint8)
    detector = insphere.KNN(target_fpr=0.3, calibration={"method": "split"}, random_state=0).fit(X[:60])
    written = write_report(detector, ArraySource(X, labels=rng.integers(0, 2, 3000)), tmp_path / "r.html", max_images=36)
    assert written.n_images == 180
    assert written.n_bytes < 180 * 2 * 8000 + 300_000


@pytest.mark.parametrize("shape", [(9, 7, 2), (5, 5, 4), (1, 3, 1)])
def test_images_of_other_kinds(explained: None, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    X = np.random.default_rng(0).normal(size=(40, *shape))
    written = write_report(insphere.KNN(random_state=0).fit(X), X, tmp_path / "r.html", max_images=3)
    assert written.n_images == 9


def test_every_label_alone(vectors: AbstractDetector, unexplained: None, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    for label in (0, 1):
        written = write_report(vectors, ArraySource(X, labels=[label] * 30), tmp_path / "r.html")
        text = "".join(read(written.path).text)
        assert "AUROC" not in text.split("Written by")[0].replace("DeLong for AUROC", "")


def test_what_breaks_a_rule_is_refused_and_leaves_nothing(digits: AbstractDetector, tmp_path: Path) -> None:
    for wrong, match in (
        ({"max_images": 0}, "max_images"),
        ({"max_images": 501}, "max_images"),
        ({"thumbnail_size": 4}, "thumbnail_size"),
        ({"split": "tset"}, "split"),
    ):
        with pytest.raises(ParameterError, match=match):
            write_report(digits, "digits:3", tmp_path / "r.html", **wrong)
    with pytest.raises(ParameterError, match=r"must end in .html, got .*report.pdf"):
        write_report(digits, "digits:3", tmp_path / "report.pdf")
    with pytest.raises(OutputError):
        write_report(digits, "digits:3", tmp_path / "no" / "r.html")
    with pytest.raises(DataError, match="8, 8, 1"):
        write_report(digits, np.zeros((3, 9, 9), np.uint8), tmp_path / "r.html")
    assert os.listdir(tmp_path) == []


@pytest.mark.data
def test_a_report_on_real_parts(data_dir: Path, explained: None, tmp_path: Path) -> None:
    tiles = data_dir / "magnetic-tiles.zip"
    detector = fit(insphere.KNN(random_state=0), insphere.open_source(tiles, split="train", image_size=32))
    written = write_report(detector, tiles, tmp_path / "r.html")
    text = "".join(read(tmp_path / "r.html").text)
    assert written.n_scored == 124 and all(kind in text for kind in ("blowhole", "break", "crack", "fray"))
    assert written.n_bytes < 1_500_000


def test_without_jinja_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'insphere\[report\]'"):
        layout.render({})


def test_every_detector_has_a_report(unexplained: None, tmp_path: Path) -> None:
    from insphere.detectors.catalog import DETECTORS, detector_class, make

    vectors = np.random.default_rng(0).normal(size=(60, 5))
    photos = np.random.default_rng(0).integers(0, 256, size=(60, 32, 32, 1)).astype(np.uint8)
    for name in DETECTORS:
        X = vectors if detector_class(name).takes_vectors else photos
        parameters: dict[str, Any] = {"random_state": 0}
        if name in ("vae-svdd", "vae", "cae", "cae-svdd", "dasvdd", "deep-svdd", "oc-nn", "transform-svdd"):
            parameters["epochs"] = 2
        if name == "hybrid":
            parameters["encoder"] = {"name": "cae", "epochs": 2}
        detector = fit(make(name, parameters), X)
        if not detector.health_.collapsed:
            assert write_report(detector, X, tmp_path / f"{name}.html", max_images=2).n_scored == 60
            read(tmp_path / f"{name}.html")
