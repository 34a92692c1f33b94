"""``insphere score`` into a folder: many images, as Parquet parts."""

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from insphere.cli import console


def is_bulk(output: str, engine: str | None) -> bool:
    """Return whether scores are to go into a folder of parts: one that is there, or a name that ends like none of a file.

    Examples
    --------
    >>> is_bulk("scores/", None), is_bulk("s3://bucket/scores", None), is_bulk("scores.csv", None), is_bulk("scores.csv", "ray")
    (True, True, False, True)
    """
    return engine is not None or "://" in output or output.endswith(("/", os.sep)) or os.path.isdir(output)


def score_bulk(
    models: Sequence[str | os.PathLike[str]],
    source: str,
    output: str,
    engine: str,
    workers: int | None,
    maps: Path | None,
    require_signature: Path | None,
    *,
    as_json: bool,
) -> None:
    """Score all images of a place into a folder of parts, with progress; exit code 1 where none has a score."""
    from insphere.cli.progress import BulkRowProgress
    from insphere.errors import ParameterError
    from insphere.scores_file import FORMATS
    from insphere.scoring import BulkOptions, score_in_bulk

    if Path(output).suffix.lower() in FORMATS and not os.path.isdir(output) and not output.endswith("/"):
        raise ParameterError(f"Scores in bulk go into a folder of parts, got the name of one file, {output!r}; name a folder (scores/).")
    options = BulkOptions(engine, workers, maps=maps, require_signature=require_signature)
    try:
        with BulkRowProgress(f"scoring {source}") as progress:
            done = score_in_bulk(models, source, output, options, on_progress=progress.update)
    except KeyboardInterrupt as error:
        raise console.Interrupted(f"Stopped. What is scored is in {output}; the same command goes on from there.") from error
    for notice in done.notices:
        console.note(f"{source}: {notice}")
    if done.n_changed:
        console.warn(
            f"{done.n_changed} images have changed since they were scored, and keep the scores of then; a new folder judges all of them"
            " as they are."
        )
    if done.n_errors:
        console.warn(f"{done.n_errors} images could not be scored; the column error of {output} says why.")
    facts = {"output": output, "source": source, "models": [os.fspath(model) for model in models], "engine": engine, **vars(done)}
    if as_json:
        console.write_json(facts)
    else:
        flagged = ", ".join(f"{count} by {name}" for name, count in done.n_anomalies.items())
        n_now = done.n_scored + done.n_errors
        lines = [
            ("scored", f"{done.n_scored} of {n_now} images of {source}" + (f"; {done.n_before} had been before" if done.n_before else "")),
            ("flagged", flagged if n_now else "nothing was left to score"),
            ("time", f"{console.duration(done.seconds)}, {n_now / max(done.seconds, 1e-9):.1f} images a second, starting included"),
        ]
        console.results().print(console.facts(output, lines))
    if not done.n_scored and not done.n_before:
        raise typer.Exit(1)
