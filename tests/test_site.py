"""The site's search where pages are opened from a disk: no worker starts there, and nothing may be fetched."""

from pathlib import Path
from typing import Any

from browser import chromium, chromium_page  # noqa: F401

SCRIPT = Path(__file__).parent.parent / "docs" / "site" / "iframe-worker.js"
WORKER = "addEventListener('message', async (event) => { if (event.data > 0) postMessage(2 * event.data); });"
PAGE = """<!doctype html><title>page</title><body><script src="iframe-worker.js"></script><script>
const worker = new Worker("worker.js"), answers = [];
worker.addEventListener("message", (event) => answers.push(event.data));
worker.postMessage(1);  // before the worker's script is there
</script>"""


def test_messages_go_to_and_fro_without_a_worker(chromium_page: Any, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "iframe-worker.js").write_bytes(SCRIPT.read_bytes())
    (tmp_path / "worker.js").write_text(WORKER)
    (tmp_path / "page.html").write_text(PAGE)
    chromium_page.goto((tmp_path / "page.html").as_uri())
    chromium_page.wait_for_function("answers.length === 1")
    chromium_page.evaluate("worker.postMessage(-1); worker.postMessage(21)")
    chromium_page.wait_for_function("answers.length === 2")
    assert chromium_page.evaluate("answers") == [2, 42] and chromium_page.complaints == []


def test_the_theme_takes_ours_and_fetches_none() -> None:
    text = (SCRIPT.parent.parent.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"polyfills: [site/{SCRIPT.name}]" in text and "iframe-worker" in SCRIPT.name  # the word by which the plugin knows it
