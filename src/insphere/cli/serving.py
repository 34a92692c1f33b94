"""``insphere serve``: models behind HTTP."""

import os
from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options
from insphere.errors import MissingDependencyError, ParameterError

_LIMITS = "Limits"
_FEEDBACK = "What people find"
_ENVIRONMENT = "INSPHERE_API_KEY"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            show_default=False,
            help="Model files, as PATH (named as the file is), NAME=PATH or NAME@VERSION=PATH; or a folder of *.insphere files"
            " (NAME.insphere, NAME@VERSION.insphere), where new files are found while it runs.",
        ),
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8080,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; 0.0.0.0 lets other machines in (set an API key then).")
    ] = "127.0.0.1",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", metavar="FILE", show_default=False, help=f"File with the key that clients must send. Or set {_ENVIRONMENT}."
        ),
    ] = None,
    max_body: Annotated[float, typer.Option("--max-body", metavar="MIB", help="Largest body, in MiB.", rich_help_panel=_LIMITS)] = 32.0,
    max_pixels: Annotated[
        int,
        typer.Option(
            "--max-pixels", metavar="N", help="Most pixels of an image; a request may have 4 times as many.", rich_help_panel=_LIMITS
        ),
    ] = 25_000_000,
    max_rows: Annotated[
        int, typer.Option("--max-rows", metavar="N", help="Most images or rows of a request.", rich_help_panel=_LIMITS)
    ] = 1024,
    max_queue: Annotated[
        int, typer.Option("--max-queue", metavar="ROWS", help="Most rows waiting for a model.", rich_help_panel=_LIMITS)
    ] = 4096,
    rate: Annotated[
        float,
        typer.Option("--rate", metavar="N", help="Requests a second of one client, on average; 0: no limit.", rich_help_panel=_LIMITS),
    ] = 0.0,
    burst: Annotated[int, typer.Option("--burst", metavar="N", help="Requests of one client at once.", rich_help_panel=_LIMITS)] = 50,
    read_timeout: Annotated[
        float, typer.Option("--read-timeout", metavar="S", help="Seconds in which a body must arrive.", rich_help_panel=_LIMITS)
    ] = 30.0,
    max_wait: Annotated[
        float, typer.Option("--max-wait", metavar="MS", help="Milliseconds that a batch waits for company.", rich_help_panel=_LIMITS)
    ] = 4.0,
    reload_every: Annotated[
        float, typer.Option("--reload-every", metavar="S", help="Seconds between looks at the model files; 0: only on SIGHUP.")
    ] = 2.0,
    load_timeout: Annotated[
        float,
        typer.Option(
            "--load-timeout",
            metavar="S",
            help="Seconds that a model file may take to be loaded and to score two rows, tried in a process of its own; 0: not tried, no"
            " limit.",
            rich_help_panel=_LIMITS,
        ),
    ] = 60.0,
    require_signature: options.RequireSignature = None,
    fdr: Annotated[
        float | None,
        typer.Option(
            "--fdr",
            metavar="RATE",
            show_default=False,
            help="Raise alarms (is_alarm in the results) of which, in every window of rows, at most this share is false on average.",
            rich_help_panel=_FEEDBACK,
        ),
    ] = None,
    fdr_window: Annotated[
        int, typer.Option("--fdr-window", metavar="N", help="Rows of a window for --fdr.", rich_help_panel=_FEEDBACK)
    ] = 100,
    feedback: Annotated[
        Path | None,
        typer.Option(
            "--feedback",
            metavar="FILE.sqlite",
            show_default=False,
            help="File in which rows wait for people to look at them, on the page /feedback, with what they say; made if it is not there.",
            rich_help_panel=_FEEDBACK,
        ),
    ] = None,
    draw: Annotated[
        float | None,
        typer.Option(
            "--draw",
            metavar="SHARE",
            show_default=False,
            help="Share of the rows that is drawn for a look, whatever it scores. Default: that of the file, 0.02 for a new one.",
            rich_help_panel=_FEEDBACK,
        ),
    ] = None,
    stop_timeout: Annotated[
        float, typer.Option("--stop-timeout", metavar="S", help="Seconds that requests in flight are given at the end.")
    ] = 30.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            show_default=False,
            help="Name by which clients may call the service, besides localhost and addresses; may be repeated. Without it any name is"
            " taken where --host lets other machines in, and none otherwise.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        str,
        typer.Option("--trusted-proxy", metavar="ADDRESS", show_default=False, help="Proxies whose X-Forwarded-For header is believed."),
    ] = "",
) -> None:
    """Serve models over HTTP: upload an image or send rows, get score, p-value and decision, equal to those of insphere score.

    A page to try it is at http://127.0.0.1:8080/, what there is at /openapi.json, metrics at /metrics; logs go to standard error as
    JSON lines. A changed model file is loaded while the old model goes on answering. SIGTERM answers what is in flight, then stops.

    With --feedback FILE.sqlite a share of the rows is drawn for a look, and people say on the page /feedback what they are. The service
    writes no model file: insphere feedback MODEL FILE.sqlite --recalibrate add does, and the service takes the changed file up by itself.

    With --fdr RATE each model raises alarms as its rows come; what such an alarm promises stands in the answers.

    For example:
      insphere serve model.insphere
      insphere serve tiles@1=april.insphere tiles@2=may.insphere sensors.insphere --port 9000
      insphere serve models/ --host 0.0.0.0 --api-key-file key.txt
      insphere serve line.insphere --feedback line.sqlite --draw 0.02
      curl -F images=@photo.png http://127.0.0.1:8080/score
    """
    try:
        from insphere.serving import Settings, find_models, logs, make_app, server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in (
            "fastapi",
            "uvicorn",
            "httptools",
            "prometheus_client",
            "python_multipart",
            "starlette",
        ):
            raise MissingDependencyError("insphere serve needs more packages; install them with: pip install 'insphere[serve]'") from error
        raise
    from insphere.signatures import required_key

    settings = Settings(
        max_body_bytes=round(max_body * 2**20),
        max_buffered_bytes=max(round(max_body * 2**20) * 4, 256 * 2**20),
        max_pixels=max_pixels,
        max_request_pixels=4 * max_pixels,
        max_rows=max_rows,
        max_queue_rows=max_queue,
        rate=rate,
        burst=burst,
        read_seconds=read_timeout,
        max_wait_ms=max_wait,
        reload_seconds=reload_every,
        load_seconds=load_timeout,
        require_signature=required_key(require_signature),
        fdr=fdr,
        fdr_window=fdr_window,
        feedback=None if feedback is None else feedback.expanduser(),
        draw=draw,
        stop_seconds=stop_timeout,
        api_key=read_api_key(api_key_file),
        host_names=host_names(host, allow_host or []),
    )
    with server.listen(host, port) as listener:
        if settings.api_key is None and not is_local(host):
            console.warn(f"{host} lets other machines in, and nobody is asked for a key; --api-key-file FILE asks for one.")
        logs.log_to()
        app = make_app(find_models(models), settings)
        server.run(app, listener, trusted_proxies=trusted_proxy)


def host_names(host: str, allowed: list[str]) -> tuple[str, ...] | None:
    """Return the names by which the service may be called, besides localhost and addresses; None for any.

    >>> host_names("127.0.0.1", []), host_names("0.0.0.0", []), host_names("0.0.0.0", ["qa.example"])
    ((), None, ('qa.example',))
    """
    return tuple(allowed) if allowed or is_local(host) else None


def is_local(host: str) -> bool:
    """Return whether an address to listen at lets this machine in alone.

    >>> is_local("127.0.0.1"), is_local("0.0.0.0")
    (True, False)
    """
    return host in ("localhost", "::1") or host.startswith("127.")


def read_api_key(path: Path | None) -> str | None:
    """Return the API key of a file (its first line) or of the environment, None if there is neither.

    Raises
    ------
    ParameterError
        If the file cannot be read, or is empty.
    """
    if path is None:
        return os.environ.get(_ENVIRONMENT) or None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"The API key file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from error
    if not lines or not lines[0].strip():
        raise ParameterError(f"The API key file {path} has nothing in its first line; write the key there.")
    return lines[0].strip()
