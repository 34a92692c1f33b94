"""What the site adds to the pages of docs/: pages elsewhere in the repository that they link to, and links that lead there.

In the repository a link is a path from the page; on the site the pages of docs/ stand at the top, and what lies elsewhere keeps its path.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "papers/vae-svdd-2021/README.md", "benchmarks/reports/*.md")
FILES = ("papers/vae-svdd-2021/figures/*.png",)

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)((?:#[^)]*)?\))")
_FENCE = re.compile(r"(^```.*?^```\s*$)", flags=re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that lie outside docs/."""
    for pattern in (*PAGES, *FILES):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links of the repository into links of the site; what the site has not is left as text."""
    here = repository_path(page.file.src_uri)
    parts = _FENCE.split(markdown)
    return "".join(part if _FENCE.match(part) else _LINK.sub(lambda found: _linked(found, here, page, files), part) for part in parts)


def repository_path(site_path: str) -> str:
    """Return where a page of the site lies in the repository.

    >>> repository_path("CHANGELOG.md"), repository_path("method.md")
    ('CHANGELOG.md', 'docs/method.md')
    """
    return f"docs/{site_path}" if (ROOT / "docs" / site_path).exists() else site_path


def _linked(found: re.Match[str], here: str, page: Any, files: Files) -> str:
    before, link, after = found.groups()
    if "://" in link or link.startswith("mailto:"):
        return found[0]
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    target = wanted.removeprefix("docs/")
    if files.get_file_from_path(target) is None:
        # Source files, folders, the README: said, not linked.
        return found[0] if before.startswith("!") else before[1:-2]
    return f"{before}{os.path.relpath(target, posixpath.dirname(page.file.src_uri) or '.')}{after}"
