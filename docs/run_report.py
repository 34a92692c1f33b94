"""Write a report on the bundled digits and take the pictures of it that the documentation shows. Needs Chromium and Playwright.

Usage: make figures
"""

import io
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import insphere
from insphere.report import write_report

DOCS = Path(__file__).parent
_COLORS = 200  # a page has few: pictures stay small and look the same

_TOP = "scrollTo(0, 0)"
_PART = "document.querySelector('{}').scrollIntoView({{ behavior: 'instant' }});"
_IMAGE = "document.querySelectorAll('.tiles button')[4].click()"

# Name of the picture, colours, width and height of the window, what to do on the page before it is taken.
PICTURES = (
    ("report-threshold", "light", 1100, 1180, _TOP),
    ("report-images", "dark", 1100, 760, _PART.format("#rows") + _IMAGE),
    ("report-map", "light", 1100, 760, _PART.format("#map")),
    ("report-phone", "dark", 390, 844, _PART.format("#threshold")),
)


def main() -> None:
    """Take all pictures again."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("The pictures of the report need Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            write_report(insphere.DeepSVDDVAE(random_state=0).fit("digits:3"), "digits:3", page, title="Digits: 3 is normal")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, scheme, width, height, script in PICTURES:
            (DOCS / f"{name}.png").write_bytes(_picture(browser, page, scheme, (width, height), script))
        browser.close()


def _picture(browser: Any, page: Path, scheme: str, size: tuple[int, int], script: str) -> bytes:
    """Return a PNG of the page in a window of `size` (width, height) after `script` ran on it."""
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    tab.goto(page.as_uri())
    tab.evaluate(script)
    tab.wait_for_timeout(500)
    with Image.open(io.BytesIO(tab.screenshot())) as shot:
        buffer = io.BytesIO()
        shot.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    tab.close()
    return buffer.getvalue()


if __name__ == "__main__":
    main()
