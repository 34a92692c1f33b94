"""The program `insphere`: its commands, and the one place where an exception becomes a message and an exit code.

Nothing here or in the command modules imports PyTorch, numpy or pyarrow at import time, so that ``--help`` answers at once.
"""

import os
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

import insphere
from insphere.cli import console
from insphere.cli.auditing import audit
from insphere.cli.benchmarking import benchmark
from insphere.cli.carding import card
from insphere.cli.checking import check
from insphere.cli.demonstrating import demo
from insphere.cli.explaining import explain
from insphere.cli.exporting import export, verify
from insphere.cli.feeding_back import feedback
from insphere.cli.fitting import fit
from insphere.cli.listing import datasets, detectors, info
from insphere.cli.recalibrating import recalibrate
from insphere.cli.reporting import report
from insphere.cli.scoring import evaluate, score
from insphere.cli.serving import serve
from insphere.cli.signing import sign
from insphere.cli.watching import watch
from insphere.errors import InsphereError, ParameterError, SourceNotice

GOOD, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="insphere",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"insphere {insphere.__version__}")
        raise typer.Exit


@app.callback()
def insphere_(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="INSPHERE_DEBUG", help="Show where an error arose (works after the command too).")
    ] = False,
) -> None:
    """Find what is not normal. Learn from normal examples only: a folder of good photos, or a table of good measurements.

    Try it: insphere demo

    Your images:
      insphere fit photos/good -o model.insphere
      insphere score model.insphere photos/new -o scores.csv

    Scores are higher for more anomalous rows. A row is flagged so that a chosen share of normal rows (5 %) is a false alarm.
    """


for command in (
    demo,
    check,
    audit,
    fit,
    score,
    evaluate,
    report,
    card,
    explain,
    recalibrate,
    feedback,
    benchmark,
    export,
    verify,
    serve,
    watch,
    sign,
    info,
    datasets,
    detectors,
):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 good, 1 failed, 2 wrong usage, 130 interrupted.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after ``insphere``; None takes those of the process.

    Examples
    --------
    >>> main(["--version"])
    insphere 0.1.0
    0
    """
    console.take_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # People add --debug where their cursor is, at the end; so it counts anywhere.
    debug = "--debug" in words or os.environ.get("INSPHERE_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    try:
        with _readable_warnings():
            code = typer.main.get_command(app).main(args=words, prog_name="insphere", standalone_mode=False)
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _report(error, as_json="--json" in words)
    return code if isinstance(code, int) else GOOD


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong, on standard error and as the JSON object that was asked for; return the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # typer has shown the help already
        return USAGE
    message, code = _explain(error)
    console.fail(message, prefix="" if code == INTERRUPTED else "error: ")
    if as_json:
        console.write_json({"error": {"type": type(error).__name__, "message": message}})
    return code


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code for an exception."""
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        hint = "" if context is None else f" See: {context.command_path} --help"
        message = error.format_message().strip()
        return f"{message}{'' if message.endswith(('.', '?')) else '.'}{hint}", error.exit_code
    if isinstance(error, console.Interrupted):
        return str(error), INTERRUPTED
    if isinstance(error, InsphereError):
        return str(error), USAGE if isinstance(error, ParameterError) else FAILED
    if isinstance(error, MemoryError):
        return "The memory is not enough for this. Try a smaller --image-size, or fewer rows.", FAILED
    return f"{type(error).__name__}: {error} ({_whose(error)}; --debug shows where)", FAILED


def _whose(error: Exception) -> str:
    """Return whose defect an error is that nobody foresaw: of a file that the user named (an own detector, say), or ours."""
    ours = (Path(__file__).parent.parent, *{Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")})
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    if frames and not any(Path(frames[-1].filename).is_relative_to(folder) for folder in ours):
        return f"raised by {frames[-1].filename}, line {frames[-1].lineno}, which is not a part of insphere"
    return "a defect of insphere or of a library it uses"


@contextmanager
def _readable_warnings() -> Iterator[None]:
    """Show each of insphere's own warnings as one line on standard error; other libraries' filters stay as they are."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", SourceNotice)  # the commands tell these themselves, and put them into their JSON
        warnings.showwarning = show
        yield
