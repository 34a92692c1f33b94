"""The report in a real browser: what a reader sees, touches and hears."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import insphere
from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.estimate import proportion
from insphere.report import write_report
from insphere.visible import one_line
from report.conftest import HOSTILE, fit, learned_from

# Contrast of every visible text with what lies behind it, by WCAG 2: elements whose ratio is too low for their size.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (part) => (part <= 10.31 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let n = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "NOSCRIPT"].includes(element.tagName) || element.closest(".unseen")) continue;
    const style = getComputedStyle(element);
    const color = rgba(element.tagName === "text" ? style.fill : style.color);
    const [low, high] = [light(color), light(behind(element))].sort((a, b) => a - b);
    n += 1;
    if ((high + 0.05) / (low + 0.05) < 4.5) poor.push([element.outerHTML.slice(0, 80), (high + 0.05) / (low + 0.05)]);
  }
  return [n, poor];
}"""


def open_report(page: Any, path: Path) -> Any:
    page.goto(path.as_uri())
    return page


def text(page: Any, selector: str) -> str:
    return page.locator(selector).text_content()


def shown_counts(page: Any) -> dict[str, int]:
    return {name: int(text(page, f"#n-{name}")) for name in ("anomaly", "normal", "precision", "flagged")}


def chosen_threshold(page: Any) -> float:
    """The exact threshold at which the page stands, from the data that it looks up."""
    data = json.loads(text(page, "#report-data"))
    at = page.evaluate("document.querySelector('#slider').value")
    return data["thresholds"][int(np.argmin(np.abs(np.array(data["places"]) - float(at))))]


def test_the_slider_moves_all_counts_as_numpy_counts_them(chromium_page: Any, digits: AbstractDetector, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    test = insphere.open_source("digits:3", split="test")
    scores, labels, types = digits.anomaly_score(test), np.asarray(test.labels), np.array(test.types)
    page.locator("#slider").focus()
    seen = set()
    for keys in (["Home"], ["End"], ["Home", *["ArrowRight"] * 3], *[["PageUp"]] * 9, ["ArrowLeft"], ["ArrowUp", "ArrowUp", "ArrowDown"]):
        for key in keys:
            page.keyboard.press(key)
        threshold = chosen_threshold(page)
        flagged = scores > threshold
        hits, alarms = int(flagged[labels == 1].sum()), int(flagged[labels == 0].sum())
        assert shown_counts(page) == {"anomaly": hits, "normal": alarms, "precision": hits, "flagged": hits + alarms}
        per_type = [int((flagged & (types == name)).sum()) for name in sorted(set(types[labels == 1]))]
        assert [int(shown) for shown in page.locator(".n-type").all_text_contents()] == per_type
        estimate = proportion(alarms, int((labels == 0).sum()))
        low, high = (float(part) for part in text(page, "#interval-normal").split("–"))
        assert text(page, "#rate-normal") == f"{100 * estimate.value:.1f} %"
        assert (low, high) == (pytest.approx(100 * estimate.low, abs=0.0501), pytest.approx(100 * estimate.high, abs=0.0501))
        seen.add(threshold)
    assert len(seen) >= 10
    page.locator("#reset").click()
    assert chosen_threshold(page) == digits.threshold_
    assert chromium_page.complaints == []


def test_a_hand_moves_it_too(chromium_page: Any, digits: AbstractDetector, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    page.locator("#slider").scroll_into_view_if_needed()
    box = page.locator("#slider").bounding_box()
    before = shown_counts(page)
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    by_slider = shown_counts(page)
    assert by_slider["flagged"] > before["flagged"]
    area = page.locator("#histogram").bounding_box()
    page.mouse.click(area["x"] + 0.8 * area["width"], area["y"] + 10)
    assert shown_counts(page)["flagged"] < before["flagged"]
    # The line stands where the hand pressed, and the thumb below it.
    place = float(page.locator("#line").get_attribute("d").split()[0][1:]) / 1000
    assert place == pytest.approx(0.8, abs=0.05)
    assert page.evaluate("Number(document.querySelector('#slider').value)") == pytest.approx(place, abs=1e-3)


def test_a_rate_of_false_alarms_sets_the_threshold_of_the_library(
    chromium_page: Any, digits: AbstractDetector, digits_report: Path
) -> None:
    page = open_report(chromium_page, digits_report)
    for rate in (0.1, 0.2, 0.05):
        page.locator("#rate").fill(str(100 * rate))
        assert chosen_threshold(page) == digits.conformal_.threshold(rate)
        expected = digits.conformal_.false_alarm(rate)
        assert text(page, "#rate-expected") == f"{100 * expected.value:.1f} %"
    page.locator("#rate").fill("-1")
    assert shown_counts(page)["flagged"] == 0
    page.locator("#rate").fill("100")
    assert shown_counts(page)["normal"] > 0
    assert chromium_page.complaints == []


def test_counts_are_said_aloud(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    page.locator("#status", has_text="535 of 535 anomalies found, 61 of 61").wait_for(timeout=2000)
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert "535 of 535" in page.locator("#slider").get_attribute("aria-valuetext")


def test_the_sphere_and_the_curves_follow(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    radius = lambda: float(page.locator("#ring").get_attribute("r"))  # noqa: E731
    before, point = radius(), page.locator("#roc-point").get_attribute("d")
    page.locator("#slider").focus()
    page.keyboard.press("PageUp")
    assert radius() > before
    assert page.locator("#roc-point").get_attribute("d") != point
    page.keyboard.press("End")
    assert page.locator("#roc-point").get_attribute("d") == "M0 1000h0"
    assert page.locator("#pr-point").get_attribute("d") == ""  # nothing flagged, no precision


def test_tiles_are_marked_anew(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    n_tiles = page.locator(".tile").count()
    assert page.locator(".tile.flagged").count() == n_tiles > 40
    page.keyboard.press("End")
    assert page.locator(".tile.flagged").count() == 0


def test_a_heat_map_appears_on_focus_and_images_open(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    tile = page.locator(".tiles button").nth(2)
    tile.scroll_into_view_if_needed()
    opacity = lambda: float(tile.locator(".heat").evaluate("image => getComputedStyle(image).opacity"))  # noqa: E731
    assert opacity() == 0
    page.locator(".tiles button").nth(1).focus()
    page.keyboard.press("Tab")
    page.wait_for_timeout(300)  # it fades in
    assert opacity() == 1
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    sizes = page.evaluate("[...document.querySelectorAll('#viewer img')].map(image => [image.complete, image.naturalWidth])")
    assert sizes == [[True, 8], [True, 8]]
    assert page.locator("#viewer-heat").is_visible()
    first = text(page, "#viewer-name")
    page.keyboard.press("ArrowRight")
    assert text(page, "#viewer-name") != first
    page.keyboard.press("ArrowLeft")
    assert text(page, "#viewer-name") == first
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    assert page.evaluate("document.activeElement.closest('.tiles') !== null")
    assert chromium_page.complaints == []


def test_a_tap_opens_image_and_heat_map(chromium: Any, digits_report: Path) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = open_report(context.new_page(), digits_report)
    page.locator(".tiles button").first.tap()
    assert page.locator("#viewer-image").is_visible() and page.locator("#viewer-heat").is_visible()
    box = page.locator("#viewer").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.locator("#close").tap()
    assert not page.locator("#viewer").is_visible()
    context.close()


def test_every_image_of_the_page_is_one(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    page.evaluate(
        "Promise.all([...document.querySelectorAll('.tiles img')].map(image => { image.loading = 'eager'; return image.decode(); }))"
    )
    assert page.locator(".tiles img").count() > 80


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_wider_than_the_screen(
    chromium_page: Any, digits: AbstractDetector, hostile: ArraySource, tmp_path: Path, width: int
) -> None:
    write_report(fit(insphere.KNN(), learned_from(hostile)), hostile, tmp_path / "r.html", title="W" * 300)
    chromium_page.set_viewport_size({"width": width, "height": 844})
    page = open_report(chromium_page, tmp_path / "r.html")
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(chromium_page: Any, digits_report: Path, scheme: str) -> None:
    chromium_page.emulate_media(color_scheme=scheme)
    page = open_report(chromium_page, digits_report)
    n, poor = page.evaluate(CONTRAST)
    assert n > 200
    assert poor == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in paper[4:-1].split(",")) < 200) == (scheme == "dark")


def test_the_reader_can_choose_the_colours(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    as_system = paper()
    page.locator("#theme").click()
    assert "light" in page.locator("#theme").get_attribute("aria-label")
    page.locator("#theme").click()
    assert paper() != as_system
    assert page.evaluate(CONTRAST)[1] == []
    page.reload()
    assert paper() != as_system
    page.locator("#theme").click()
    assert paper() == as_system


def test_motion_is_left_out_where_it_is_not_wanted(chromium_page: Any, digits_report: Path) -> None:
    chromium_page.emulate_media(reduced_motion="reduce")
    page = open_report(chromium_page, digits_report)
    moving = "[...document.querySelectorAll('*')].filter(element => getComputedStyle(element).transitionDuration !== '0s').length"
    assert page.evaluate(moving) == 0
    chromium_page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0


def test_a_type_of_anomaly_shows_its_curve(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    button = page.locator(".type").nth(3)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".curve.chosen").count() == 2
    button.click()
    assert page.locator(".curve.chosen").count() == 0


def test_names_are_text_whatever_they_say(chromium_page: Any, hostile: ArraySource, explained: None, tmp_path: Path) -> None:
    detector = fit(insphere.DeepSVDDVAE(epochs=1, random_state=0), learned_from(hostile))
    write_report(detector, hostile, tmp_path / "r.html", title=HOSTILE)
    chromium_page.on("dialog", lambda dialog: chromium_page.complaints.append(dialog.message))
    page = open_report(chromium_page, tmp_path / "r.html")
    assert text(page, "#title") == HOSTILE
    assert one_line(HOSTILE) in text(page, ".errors tbody")  # what turns the direction of writing is written out
    page.locator(".tiles button").first.click()
    assert one_line(HOSTILE) in text(page, "#viewer-name")
    assert page.locator("script").count() == 2
    assert chromium_page.complaints == []


def test_the_policy_stops_what_would_be_smuggled_in(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    for markup in ("<img src='https://example.org/a.png'>", "<img src='data:,' onerror='window.ran = true'>"):
        page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", markup)
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in complaint for complaint in chromium_page.complaints)
    assert not any(complaint.startswith("request to") for complaint in chromium_page.complaints)


def test_rows_without_labels(chromium_page: Any, digits: AbstractDetector, explained: None, tmp_path: Path) -> None:
    X = insphere.open_source("digits:3", split="test").load().X
    write_report(digits, X, tmp_path / "r.html", max_images=5)
    page = open_report(chromium_page, tmp_path / "r.html")
    scores = digits.anomaly_score(X)
    for key in ("PageUp", "PageDown", "PageDown", "Home"):
        page.locator("#slider").press(key)
        assert int(text(page, "#n-all")) == (scores > chosen_threshold(page)).sum()
    assert page.locator("#curves").count() == 0
    assert page.locator("#ring").count() == 1
    assert chromium_page.complaints == []


def test_thousands_of_images_stay_fluid(chromium_page: Any, explained: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (3000, 8, 8, 1)).astype(np.uint8)
    detector = insphere.KNN(random_state=0).fit(X[:100])
    written = write_report(detector, ArraySource(X, labels=rng.integers(0, 2, 3000)), tmp_path / "r.html", max_images=500)
    page = open_report(chromium_page, tmp_path / "r.html")
    assert page.locator(".tile").count() == written.n_images > 2000
    milliseconds = page.evaluate("""() => Array.from({ length: 30 }, (_, number) => {
        const start = performance.now();
        document.querySelector('#slider').dispatchEvent(new KeyboardEvent('keydown', { key: number % 2 ? 'PageUp' : 'Home' }));
        document.body.getBoundingClientRect();
        return performance.now() - start;
    })""")
    # Fifteen pictures a second on a slow and busy machine; an idle one takes a few milliseconds.
    assert np.median(milliseconds) < 66


def test_vectors_show_their_features(chromium_page: Any, vectors: AbstractDetector, unexplained: None, tmp_path: Path) -> None:
    X = np.random.default_rng(1).normal(size=(60, 4))
    X[5, 2] = 9.0
    names = ["speed", "temperature", "current", "pressure"]
    write_report(vectors, ArraySource(X, feature_names=names), tmp_path / "r.html")
    page = open_report(chromium_page, tmp_path / "r.html")
    first = page.locator(".vectors .tile").first
    assert first.locator(".name").text_content() == "row 5"
    assert first.locator("ul bdi").first.text_content() == "current"
    assert page.locator("#viewer").count() == 0 and page.locator("#map").count() == 0
    page.locator("#slider").press("End")
    assert page.locator(".tile.flagged").count() == 0
    assert chromium_page.complaints == []


def test_the_page_speaks_without_its_script(chromium: Any, digits: AbstractDetector, digits_report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = open_report(context.new_page(), digits_report)
    test = insphere.open_source("digits:3", split="test")
    flagged = digits.anomaly_score(test) > digits.threshold_
    assert int(text(page, "#n-anomaly")) == flagged[np.asarray(test.labels) == 1].sum()
    assert not page.locator("#slider").is_visible()
    assert page.locator(".bars.normal").get_attribute("d").startswith("M")
    tile = page.locator(".tiles button").first
    tile.scroll_into_view_if_needed()
    tile.hover()
    assert tile.locator(".heat").is_visible()
    context.close()


def test_landmarks_and_names(chromium_page: Any, digits_report: Path) -> None:
    page = open_report(chromium_page, digits_report)
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    unnamed = """[...document.querySelectorAll('button, input, a, [role=img], [role=region]')].filter((element) =>
        !(element.getAttribute('aria-label') || element.textContent.trim() || (element.labels && element.labels.length))).length"""
    assert page.evaluate(unnamed) == 0
    levels = page.evaluate(
        "[...document.querySelectorAll('main h1, main h2, main h3, main h4')].map(heading => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert page.evaluate("document.querySelectorAll('img:not([alt])').length") == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(link => link.hash.slice(1))")
    assert set(targets) <= set(ids)
