"""A page in the system's Chromium, which reaches nothing but the test's own files and servers.

A conftest that says ``from browser import chromium, chromium_page`` has it; tests skip where Chromium or Playwright is absent.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str | None:
    """Return where the system's Chromium is, or None."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser, shared by the tests of one file: while it is there, its event loop forbids all others in this thread."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'insphere[test]'")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium is installed")
    # Playwright gives every launch a fresh profile of its own and removes it afterwards.
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), headless=True)
        yield browser
        browser.close()


@pytest.fixture
def chromium_page(chromium: Any) -> Iterator[Any]:
    """A page without cookies or storage; `page.complaints` collects errors and requests to anywhere but this machine."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))

    def only_here(route: Any) -> None:
        address = route.request.url
        if address.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:")):
            route.continue_()
        else:
            page.complaints.append(f"request to {address}")
            route.abort()

    page.route("**/*", only_here)
    yield page
    context.close()
