"""The page: what it may load, and what a person sees."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from insphere.detectors.base import AbstractDetector
from insphere.errors import ParameterError
from insphere.serving import page
from serving.conftest import Process, digits, encoded, serving


def explainer(explain: Any) -> Any:
    module = types.ModuleType("insphere.explain")
    module.explain = explain  # type: ignore[attr-defined]
    module.overlay = lambda image, heatmap: np.repeat(image, 3, axis=2)  # type: ignore[attr-defined]
    return module


def refuse(*_: Any) -> None:
    raise ParameterError("It has no gradient.")


def test_the_page_is_one_file_under_a_closed_policy(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.findall(r'(?:src|href|action)="(?!data:)', answer.text.partition("<script>")[0])
    assert not re.findall(r"\son\w+=|style=|javascript:|innerHTML|eval\(|https?:", answer.text)
    assert page.html().count("<script>") == page.html().count("<style>") == 1


def test_heat_maps_come_with_the_scores(client: TestClient, images: AbstractDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def explain(detector: Any, X: Any) -> Any:
        seen.append(X)
        return types.SimpleNamespace(heatmaps=np.zeros(X.shape[:3], np.float32))

    monkeypatch.setitem(sys.modules, "insphere.explain", explainer(explain))
    files = [("images", ("a.png", data)) for data in [*digits(2), b"broken", *digits(18)]]
    body = client.post("/models/digits/score?heatmap=1", files=files).json()
    maps = [result["heatmap"] for result in body["results"]]
    assert seen[0].shape == (16, 8, 8, 1)
    assert maps[2] is None and maps[17:] == [None] * 4
    assert all(text.startswith("data:image/png;base64,") for text in maps[:2] + maps[3:17])
    assert body["heatmap_problem"] is None


def test_a_detector_without_heat_maps_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "insphere.explain", explainer(refuse))
    body = client.post("/models/digits/score?heatmap=1", files={"images": ("a.png", digits(1)[0])}).json()
    assert body["heatmap_problem"] == "No heat-map for this detector: It has no gradient."
    vectors = client.post("/models/sensors/score?heatmap=1", json={"rows": [[0, 0, 0]]}).json()
    assert vectors["heatmap_problem"] == "No heat-map: this model takes no images."


def test_a_person_drops_images_and_pastes_rows(process: Process, chromium_page: Any, tmp_path: Path) -> None:
    normal, broken = tmp_path / "<b>normal.png", tmp_path / "broken.png"
    normal.write_bytes(encoded(np.full((8, 8), 90, np.uint8)))
    broken.write_bytes(b"no image")
    chromium_page.goto(process.url)
    chromium_page.get_by_label("Model").select_option(label="digits, version 1")
    assert "8 × 8 pixels" in chromium_page.locator("#about").inner_text()
    chromium_page.get_by_label("Drop images here, or choose them").set_input_files([normal, broken])
    chromium_page.get_by_text("1 scored").wait_for()
    items = chromium_page.get_by_role("listitem")
    assert items.count() == 2
    assert "Not scored" in items.nth(0).inner_text() and "not an image" in items.nth(0).inner_text()
    shown = items.nth(1)
    assert "<b>normal.png" in shown.inner_text()
    assert re.search(r"(Anomaly|Normal)\s+Score\s+[\d.]+ \(threshold [\d.]+\)\s+p-value", shown.inner_text())
    assert shown.get_by_alt_text("Image").evaluate("image => image.naturalWidth") == 8
    assert shown.get_by_text("No heat-map").count() + shown.get_by_alt_text("Heat-map").count() == 1

    chromium_page.get_by_label("Model").select_option(label="sensors, version 2")
    chromium_page.get_by_label("Rows").fill("0, 0, 0\n50\t50\t50\n")
    chromium_page.get_by_role("button", name="Score rows").click()
    chromium_page.get_by_text("2 scored: 1 flagged").wait_for()
    chromium_page.get_by_label("Rows").fill("0, x, 0")
    chromium_page.get_by_role("button", name="Score rows").click()
    chromium_page.get_by_text("is not a number").wait_for()
    chromium_page.get_by_label("Rows").fill("0, 0")
    chromium_page.get_by_role("button", name="Score rows").click()
    chromium_page.get_by_text("Row 0 must be a list of 3 numbers").wait_for()
    # The browser itself complains of the refusal, as it should, and of nothing else.
    assert [text for text in chromium_page.complaints if "422" not in text] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(process: Process, chromium_page: Any, tmp_path: Path, scheme: str) -> None:
    chromium_page.emulate_media(color_scheme=scheme)
    chromium_page.set_viewport_size({"width": 360, "height": 740})
    chromium_page.goto(process.url)
    file = tmp_path / f"{'long-name-' * 20}.png"
    file.write_bytes(digits(1)[0])
    chromium_page.get_by_label("Drop images here, or choose them").set_input_files([file])
    chromium_page.get_by_text("1 scored").wait_for()
    assert chromium_page.evaluate("document.documentElement.scrollWidth") <= 360
    for selector in ("header p", "li .verdict", "li dd", "button"):
        assert contrast(chromium_page, selector) >= 4.5, (scheme, selector)
    assert chromium_page.complaints == []


def contrast(shown: Any, selector: str) -> float:
    """Return the contrast of text to what lies under it, as WCAG 2 defines it."""
    colors = shown.evaluate(
        """selector => {
            let element = document.querySelector(selector);
            const ink = getComputedStyle(element).color;
            while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
            return [ink, getComputedStyle(element).backgroundColor];
        }""",
        selector,
    )
    light, dark = sorted((luminance(text) for text in colors), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(text: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_locked_service_asks_for_its_key(images: AbstractDetector) -> None:
    with serving({"digits": images}, api_key="0123456789abcdef") as locked:
        assert 'id="key" type="password"' in locked.get("/").text
        assert locked.get("/models").status_code == 401
