"""From contents to the HTML file: template, styles and script in one page that may load nothing else."""

import base64
import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from insphere.errors import MissingDependencyError
from insphere.report.verdict import interval, percent, sentence


def render(context: dict[str, Any]) -> bytes:
    """Return the report as UTF-8, with a content security policy that admits its own styles and script and nothing else.

    Raises
    ------
    MissingDependencyError
        If Jinja2 is not installed.
    """
    return _page("page.html.jinja", context, script=_part("page.js"))


def render_document(context: dict[str, Any]) -> bytes:
    """Return a document without a script as UTF-8: see `insphere.report.document`.

    Raises
    ------
    MissingDependencyError
        If Jinja2 is not installed.
    """
    return _page("document.html.jinja", context | {"version": version("insphere")})


def _page(template: str, context: dict[str, Any], script: str | None = None) -> bytes:
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependencyError("A report needs Jinja2, which is not installed: pip install 'insphere[report]'.") from error
    style = _part("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "interval": interval, "number": _number, "sentence": sentence}
    scripts = "'none'" if script is None else _hash(script)
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {scripts}; base-uri 'none'; form-action 'none'"
    marked = {"style": Markup(style), "script": Markup(script or ""), "json": Markup(_json(context.get("data")))}
    html: str = environment.from_string(_part(template)).render(**(context | {"policy": policy} | marked))
    return html.encode("utf-8", "backslashreplace")


def _part(name: str) -> str:
    return (files("insphere.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _json(data: Any) -> str:
    # Inside a script element only "<" could end it or begin a comment.
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _number(value: float) -> str:
    return f"{value:.4g}"
