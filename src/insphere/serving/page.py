"""The pages: each one file without anything from elsewhere, under a policy that allows nothing else."""

import base64
import functools
import hashlib
import re
from importlib.resources import files

from fastapi import Response


def answer(name: str) -> Response:
    """Return the response that shows a page."""
    return Response(html(name), media_type="text/html", headers={"Content-Security-Policy": policy(name)})


@functools.cache
def html(name: str = "page.html") -> str:
    """Return a page, with the style and the script that all pages have in common in their places."""
    page = _part(name)
    for part in ("common.css", "common.js"):
        page = page.replace(f"/* {part} */\n", _part(part))
    return page


@functools.cache
def policy(name: str = "page.html") -> str:
    """Return the content security policy of a page: its own script and style by their digests, pictures it made, this server.

    Examples
    --------
    >>> policy().startswith("default-src 'none'; script-src 'sha256-")
    True
    """
    script, style = (_digests(html(name), tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _part(name: str) -> str:
    return files("insphere.serving").joinpath(name).read_text(encoding="utf-8")


def _digests(page: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in contents)
