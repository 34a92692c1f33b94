"""The page at ``/``: one file without anything from elsewhere, under a policy that allows nothing else."""

import base64
import functools
import hashlib
import re
from importlib.resources import files


@functools.cache
def html() -> str:
    """Return the page."""
    return files("insphere.serving").joinpath("page.html").read_text(encoding="utf-8")


@functools.cache
def policy() -> str:
    """Return the content security policy: the page's own script and style by their digests, pictures it made, this server.

    Examples
    --------
    >>> policy().startswith("default-src 'none'; script-src 'sha256-")
    True
    """
    script, style = (_digests(tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digests(tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html(), flags=re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in contents)
