"""What the commands say: results on standard output, everything else on standard error."""

import dataclasses
import io
import json
import math
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from insphere.visible import visible
from insphere.worker_processes import place_in_group


class Interrupted(Exception):  # noqa: N818 - the user's wish is not an error
    """The user pressed Ctrl-C; the message says what is left and how to go on."""


_WIDTH_OF_A_FILE = 120  # columns where the output is not a terminal; rich would take 80 and break table cells


def take_any_text() -> None:
    """Have both streams write "?" for what their encoding lacks: work that is done must not end in an error of the terminal's."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def results() -> Console:
    """Return the console for results (standard output)."""
    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, quiet=not speaks())


def messages(*, always: bool = False) -> Console:
    """Return the console for messages (standard error); with `always`, it is not silent in any process."""
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=not (always or speaks()))


def speaks() -> bool:
    """Return whether this process is the one that writes files and messages, of several that were started to do one piece of work."""
    return place_in_group()[1] == 0


def say(text: str, *, style: str = "") -> None:
    """Write one message to standard error, never reading it as markup."""
    messages().print(Text(visible(text), style=style))


def program() -> str:
    """Return how to call this program again: its name, or what it was called by where the name would find another one or none.

    So ``make demo``, which calls it in an environment that nobody has activated, names commands that can be copied.
    """
    called, found = Path(sys.argv[0]), shutil.which("insphere")
    if called.name == "__main__.py":
        beside = found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
        return "insphere" if beside else f"{shlex.quote(sys.executable)} -m insphere"
    if called.stem != "insphere" or (found is not None and Path(found).resolve() == called.resolve()):
        return "insphere"
    return shlex.quote(str(called))


def warn(text: str) -> None:
    """Write one warning to standard error."""
    messages().print(Text.assemble(("warning: ", "bold yellow"), visible(text)))


def note(text: str) -> None:
    """Write one thing that the user should know to standard error."""
    messages().print(Text.assemble(("note: ", "bold cyan"), visible(text)))


def tell(source: Any) -> None:
    """Write what the user should be told of a source, a line each, to standard error."""
    for notice in source.notices:
        note(f"{source.name}: {notice}")


def noted(source: Any) -> list[dict[str, Any]]:
    """Return the same for a JSON object."""
    return [dataclasses.asdict(notice) for notice in source.notices]


def fail(text: str, *, prefix: str = "error: ") -> None:
    """Write why the command ends to standard error."""
    messages(always=True).print(Text.assemble((prefix, "bold red"), visible(text)))


def write_json(result: Mapping[str, Any]) -> None:
    """Write `result` as the one JSON object on standard output."""
    if speaks():
        sys.stdout.write(json.dumps(as_json(result), indent=2, allow_nan=False) + "\n")


def as_json(value: Any) -> Any:
    """Return `value` in JSON's own types: NaN and infinity become null, paths and other objects their text.

    Examples
    --------
    >>> from pathlib import Path
    >>> as_json({"threshold": float("inf"), "shape": (8, 8), "path": Path("m.insphere")})
    {'threshold': None, 'shape': [8, 8], 'path': 'm.insphere'}
    """
    if hasattr(value, "to_json"):
        return as_json(value.to_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_json(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(entry) for entry in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return as_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[int] = ()) -> Table:
    """Return a table; `numbers` are the columns set flush right."""
    made = Table(title=Text(visible(title)), title_justify="left", title_style="bold", header_style="bold")
    right = set(numbers)
    for position, name in enumerate(columns):
        made.add_column(visible(name), justify="right" if position in right else "left", no_wrap=position in right)
    for row in rows:
        made.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    return made


def facts(title: str, rows: Iterable[tuple[str, object]]) -> Table:
    """Return a list of names and values without frame or header."""
    made = Table(
        title=Text(visible(title)),
        title_justify="left",
        title_style="bold",
        show_header=False,
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(Text(visible(name)), Text(visible(str(value))))
    return made


def percent(estimate: Any, *, digits: int = 1) -> str:
    """Return an estimate in [0, 1] as percent with its interval, such as ``96.2 (95.1–97.0)``."""
    if estimate.value is None or math.isnan(estimate.value):
        return "undefined"
    value, low, high = (f"{100 * part:.{digits}f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low}–{high})"


def duration(seconds: float) -> str:
    """Return seconds in the unit a person would choose.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
