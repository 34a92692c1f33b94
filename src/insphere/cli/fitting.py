"""``insphere fit``: from normal rows to a model file."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insphere.cli import console, options, presenting
from insphere.cli.settings import DEFAULT_SEED, FitSettings, checkpoint_path, gather, is_kept
from insphere.errors import ParameterError

if TYPE_CHECKING:
    from insphere.data import AbstractSource
    from insphere.detectors.base import AbstractDetector
    from insphere.selection.automatic import Choice

_TRAINING = "Training"


def fit(
    source: options.Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", show_default=False, help="Model file to write.")],
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="NAME",
            show_default=False,
            help="See insphere detectors. Default: photo for pictures (small ones without its weights: transform-svdd), fusion for tables.",
        ),
    ] = None,
    auto: Annotated[
        bool | None,
        typer.Option(
            "--auto",
            show_default=False,
            help="Try several detectors on a part of the rows, without labels, and fit the most promising one.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", metavar="N", show_default=False, help="About how long --auto may take. Default: 10."),
    ] = None,
    target_fpr: Annotated[
        float | None,
        typer.Option("--target-fpr", metavar="RATE", show_default=False, help="Share of normal rows that may be flagged. Default: 0.05."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            show_default=False,
            rich_help_panel=_TRAINING,
            help="Passes over the rows. Default: chosen by their number.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            show_default=False,
            rich_help_panel=_TRAINING,
            help=f"The same seed gives the same scores. Default: {DEFAULT_SEED}.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="auto|cpu|cuda|mps", show_default=False, rich_help_panel=_TRAINING, help="Where to train. Default: auto."
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            show_default=False,
            rich_help_panel=_TRAINING,
            help="Set any parameter of the detector (alpha=0.1), a field of a nested one too (training.lr=0.001). May be repeated.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml",
            show_default=False,
            rich_help_panel=_TRAINING,
            help="Read the same names from a TOML file, parameters of the detector below \\[params]; the command line wins.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel=_TRAINING, help="Go on with an interrupted fit: same command, plus this.")
    ] = False,
    checkpoint: Annotated[
        bool,
        typer.Option(
            "--checkpoint/--no-checkpoint",
            rich_help_panel=_TRAINING,
            help="Keep MODEL.checkpoint after every epoch until the model is written, for --resume.",
        ),
    ] = True,
    image_size: options.ImageSize = None,
    mode: options.Mode = None,
    columns: options.Columns = None,
    one_hot: options.OneHotColumns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    groups: options.Groups = None,
    groups_by: options.GroupsBy = None,
    category: options.Category = None,
    category_by: options.CategoryBy = None,
    jpeg_draft: options.JpegDraft = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Learn what is normal from good images, or a table of good rows, and write a model file.

    Only normal rows are used: those in train/good, or in good, or labelled normal, or else all.
    A fifth of them is held out to set the threshold. Unreadable images are skipped and reported. With --category or --category-by each
    camera, product or shift gets a threshold of its own, so that the rate of false alarms holds for every one of them.
    Several graphics processors or machines train one network together under torchrun (see docs/scale.md).

    For example:
      insphere fit photos/good -o model.insphere
      insphere fit tiles.zip -o tiles.insphere --target-fpr 0.01
      insphere fit parts.csv -o m.insphere --label-column state --normal-label ok
      insphere fit photos -o line.insphere --category-by '(?P<category>cam[0-9]+)'
      insphere fit may.csv -o m.insphere --auto --minutes 5
      insphere fit mnist:8 -o m.insphere --set alpha=0.1 --set training.lr=0.001
    """
    from insphere.output_file import check_writable

    given = {
        "detector": detector,
        "auto": auto,
        "minutes": minutes,
        "target_fpr": target_fpr,
        "epochs": epochs,
        "seed": seed,
        "device": device,
        "image_size": image_size,
        "mode": mode,
        "columns": columns,
        "one_hot": one_hot,
        "label_column": label_column,
        "normal_label": normal_label,
        "groups": groups,
        "groups_by": groups_by,
        "category": category,
        "category_by": category_by,
        "jpeg_draft": jpeg_draft,
        "header": header,
        "channels": channels,
        "data_dir": data_dir,
    }
    settings = gather(config, assignments or [], given)
    check_writable(output)
    if settings.auto and resume:
        raise ParameterError(
            "`--resume` goes on with the fit of one detector; name the one that was chosen (--detector) instead of `--auto`."
        )
    state = None if settings.auto else _checkpoint(output, wanted=checkpoint, resume=resume)
    fitted, rows, seconds = fit_detector(source, settings, checkpoint=state, resume=resume)
    if not console.speaks():  # the first of the processes that trained together does the rest
        return
    fitted.save(output)
    if state is not None:
        with suppress(OSError):
            state.unlink(missing_ok=True)
    description = fitted.describe()
    cached = {name: getattr(fitted, f"{name}_") for name in ("n_cached", "n_computed") if hasattr(fitted, f"{name}_")}
    if json:
        console.write_json({"output": output, "seconds": seconds, "notices": console.noted(rows), **cached, **description})
        return
    console.results().print(presenting.model_facts(str(output), description, seconds=seconds))
    for table in presenting.category_tables(description["decision"]):
        console.results().print(table)
    known = (f"INSPHERE_DETECTORS={settings.detector} " if ":" in (settings.detector or "") else "") + console.program()
    console.say(f"Next: {known} score {output} NEW_ROWS -o scores.csv, or {known} info {output} for all there is.")


def fit_detector(
    source: str, settings: FitSettings, *, checkpoint: Path | None = None, resume: bool = False
) -> "tuple[AbstractDetector, AbstractSource, float]":
    """Return the fitted detector, its rows and the seconds that reading and training took; progress goes to standard error."""
    from insphere.data.sources import check_there

    check_there(source)  # before PyTorch is imported, which takes seconds
    from insphere.cli.progress import TrainingProgress
    from insphere.data import open_source
    from insphere.detectors import catalog
    from insphere.selection import automatic, choosing

    started = time.perf_counter()
    name, parameters, opened, chosen = settings.detector, settings.parameters, None, None
    if settings.auto:
        opened = open_source(source, split="train", **settings.source_options)
        chosen = _chosen(opened, settings)
        name, parameters = chosen.chosen.candidate.detector, chosen.parameters
    elif name is None:
        opened = open_source(source, split="train", **settings.source_options)
        choice = choosing.choose(opened, settings.parameters)
        name, parameters = choice.name, dict(choice.parameters)
        if choice.reason:
            console.note(choice.reason + (f" --detector {choice.other} fits that one instead." if choice.other else ""))
    detector = catalog.make(name, parameters)
    rows = detector.open_to_fit(opened if opened is not None else source, **({} if opened is not None else settings.source_options))
    with TrainingProgress(f"fitting {name}") as progress:
        try:
            detector.fit(rows, checkpoint=checkpoint, resume=resume, on_epoch=progress.update, on_rows=progress.count)
        except KeyboardInterrupt as error:
            raise console.Interrupted(_how_to_resume(checkpoint)) from error
    if chosen is not None:
        automatic.note(detector, chosen, time.perf_counter() - started)
    console.tell(rows)
    tell_of_cache(detector)
    return detector, rows, time.perf_counter() - started


def _chosen(source: "AbstractSource", settings: FitSettings) -> "Choice":
    """Return what was tried on the rows, after a line about each and a table of all."""
    from insphere.selection import automatic
    from insphere.training.processes import Processes

    if Processes.here().several:
        raise ParameterError("`--auto` tries detectors in one process; run it without torchrun, then name what it chose (--detector).")
    n_tried = len(automatic.CANDIDATES[automatic.kind_of(source, settings.parameters)])
    console.say(f"Trying {n_tried} detectors on a part of the rows, for {settings.minutes / 2:g} minutes at most.")
    try:
        choice = automatic.choose_automatically(
            source,
            minutes=settings.minutes,
            parameters=settings.parameters,
            on_trial=lambda trial: console.say(presenting.trial_line(trial)),
        )
    except KeyboardInterrupt as error:
        raise console.Interrupted("Interrupted while detectors were tried; nothing was written.") from error
    console.messages().print(presenting.trials(choice))
    console.note(automatic.told(choice, listing=False))
    return choice


def tell_of_cache(detector: "AbstractDetector") -> None:
    """Say of how many pictures, those with synthetic defects among them, the features were on disk, where some were."""
    n_cached = getattr(detector, "n_cached_", 0)
    if n_cached:
        n_all = n_cached + getattr(detector, "n_computed_", 0)
        counted = f"{n_cached} of {n_all} pictures, made-up defects among them,"
        console.say(f"Features of {counted} came from the cache on disk (INSPHERE_CACHE=off does without).")


def tell_what_goes(model: Path) -> None:
    """Say that the model of an earlier demo will be replaced, where there is one: it may be of the other kind."""
    if model.exists():
        console.note(f"{model}, of an earlier demo, will be replaced, and so will its scores; --output FOLDER keeps them apart.")


def _checkpoint(output: Path, *, wanted: bool, resume: bool) -> Path | None:
    """Return where to keep the training's state, after a word on what is, or is not, there."""
    if not wanted:
        if resume:
            raise ParameterError("`--resume` goes on from the checkpoint, which `--no-checkpoint` rules out; leave out one of them.")
        return None
    path = checkpoint_path(output)
    if resume and not is_kept(path):
        console.warn(f"there is no checkpoint {path}; the fit starts from the beginning.")
    if is_kept(path) and not resume:
        console.warn(f"{path} of an interrupted fit will be replaced; add --resume to go on from it instead.")
    return path


def _how_to_resume(checkpoint: Path | None) -> str:
    if checkpoint is None or not is_kept(checkpoint):
        return "Interrupted; nothing was written."
    return f"Interrupted; the state after the last finished epoch is in {checkpoint}. Run the same command with --resume to go on."
