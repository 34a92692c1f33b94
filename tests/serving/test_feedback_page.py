"""The page on which people say what rows are: what they see, press and hear."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.conftest import Process, digits, running
from serving.test_page import contrast


@pytest.fixture
def asking(image_file: Path, vector_file: Path, tmp_path: Path) -> Any:
    words = (image_file, vector_file, "--feedback", tmp_path / "line.sqlite", "--draw", "0.3")
    with running(*words) as started:
        yield started


def send_rows(page: Any, started: Process) -> list[dict[str, Any]]:
    X = np.random.default_rng(0).normal(size=(60, 3)) * 1.5
    answer = page.request.post(f"{started.url}/models/sensors/score", data={"rows": X.tolist()})
    return list(answer.json()["results"])


def waits(page: Any, drawn: int) -> None:
    page.get_by_text(f"{drawn} drawn rows and").wait_for()


def test_a_person_says_what_rows_are_with_keys_and_buttons(asking: Process, chromium_page: Any) -> None:
    page = chromium_page
    drawn = [row for row in send_rows(page, asking) if row["drawn"]]
    page.goto(asking.url)
    page.get_by_role("link", name="Look at rows").click()
    page.get_by_label("Model").select_option(label="sensors, version 2")
    waits(page, len(drawn))
    card = page.locator("#row")
    # Nothing that the model thinks of a random row is to be seen before the verdict.
    assert "Drawn at random" in card.inner_text() and "Score" not in card.inner_text()
    assert "heat" in page.locator("#values").inner_text()
    page.locator("body").press("n")
    waits(page, len(drawn) - 1)
    first = page.locator("#status").inner_text()
    assert drawn[0]["row_id"] in first and "It scored" in first
    page.locator("body").press("z")
    waits(page, len(drawn))
    assert drawn[0]["row_id"] in page.locator("#name").inner_text()
    for left, name in zip(range(len(drawn) - 1, -1, -1), ["Normal", "Unsure"] * len(drawn), strict=False):
        page.get_by_role("button", name=name).click()
        waits(page, left)
    assert page.get_by_text(f"With {len(drawn)} drawn normal rows that wait").count() == 1
    assert page.locator(".track").count() == 2
    card.get_by_text("Flagged by the model").or_(card.get_by_text("near the threshold")).wait_for()
    assert "p-value" in card.inner_text()
    page.locator("body").press("a")
    page.get_by_text(f"verdicts so far: {len(drawn) + 1}").wait_for()
    assert "real" in page.locator("#status").inner_text() or "missed" in page.locator("#status").inner_text()
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(asking: Process, chromium_page: Any, scheme: str) -> None:
    page = chromium_page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    for number, data in enumerate(digits(30)):
        file = {"name": f"<b>{'long-name-' * 20}{number}.png", "mimeType": "image/png", "buffer": data}
        assert page.request.post(f"{asking.url}/models/digits/score", multipart={"images": file}).ok
    page.goto(f"{asking.url}/feedback")
    page.get_by_alt_text("Image").wait_for()
    assert page.get_by_alt_text("Image").evaluate("image => image.naturalWidth") == 8
    assert "<b>long-name" in page.locator("#name").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("body").press("n")
    page.get_by_text("verdicts so far: 1").wait_for()
    for selector in ("header p", "nav a", "#progress", "#why", "#normal", "#anomaly", "#unsure", ".rate div"):
        assert contrast(page, selector) >= 4.5, (scheme, selector)
    assert page.complaints == []


def test_a_locked_service_asks_for_its_key(image_file: Path, tmp_path: Path, chromium_page: Any) -> None:
    with running(image_file, "--feedback", tmp_path / "line.sqlite", INSPHERE_API_KEY="0123456789abcdef") as started:
        chromium_page.goto(f"{started.url}/feedback")
        chromium_page.get_by_label("API key").fill("0123456789abcdef")
        chromium_page.get_by_role("button", name="Use key").click()
        waits(chromium_page, 0)
        assert chromium_page.get_by_role("button", name="Normal").is_disabled()
        assert [text for text in chromium_page.complaints if "401" not in text] == []
