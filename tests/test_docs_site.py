"""The site builds without a warning, from what lies in the repository, and asks no other machine for anything."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("mkdocs", "material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the site needs {module}: pip install 'insphere[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_the_documentation_is_there(site: Path) -> None:
    pages = {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.name for path in site.glob("*.html")}
    assert (site / "papers" / "vae-svdd-2021" / "README.html").is_file() and (site / "benchmarks" / "reports" / "audit.html").is_file()


def test_the_reference_has_the_docstrings(site: Path) -> None:
    page = (site / "api" / "detectors.html").read_text(encoding="utf-8")
    assert "insphere.detectors.vae_svdd.DeepSVDDVAE" in page and "Source: Zhou 2021" in page
    assert "target_fpr" in page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    loaded = r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//"
    styled = r"<link[^>]*rel=\"(?:stylesheet|preload)\"[^>]*href=\"(?:https?:)?//"
    fetched = re.compile(f"{loaded}|{styled}")
    assert [path.name for path in site.rglob("*.html") if fetched.search(path.read_text(encoding="utf-8"))] == []


def test_search_works_without_a_server(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index") and "conformal" in index
