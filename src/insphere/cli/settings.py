"""What a fit is asked for: a TOML file, ``--set name=value`` and the plain options, brought together."""

import dataclasses
import glob
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from insphere.errors import ParameterError, did_you_mean
from insphere.toml_file import read_toml

DEFAULT_SEED = 0
DEFAULT_MINUTES = 10.0

# Option on the command line and in the file -> parameter of the detector that it sets.
_PARAMETER_OF_OPTION = {"target_fpr": "target_fpr", "seed": "random_state", "device": "device", "epochs": "epochs"}
_SOURCE_OPTIONS = (
    "image_size",
    "mode",
    "label_column",
    "normal_label",
    "columns",
    "one_hot",
    "groups",
    "groups_by",
    "category",
    "category_by",
    "header",
    "channels",
    "data_dir",
    "jpeg_draft",
)
_FILE_KEYS = ("detector", "auto", "minutes", *_PARAMETER_OF_OPTION, *_SOURCE_OPTIONS, "params")


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """One fit, ready to run.

    Attributes
    ----------
    detector : str, optional
        Name in the catalog; None to choose by what the source holds.
    parameters : dict
        Arguments of the detector's constructor; nested options are dicts.
    source_options : dict
        Arguments of `insphere.open_source`.
    auto : bool
        Whether several detectors are tried, and the most promising one is fitted.
    minutes : float
        About how long that may take.
    """

    detector: str | None
    parameters: dict[str, Any]
    source_options: dict[str, Any]
    auto: bool = False
    minutes: float = DEFAULT_MINUTES


def gather(config: Path | None, assignments: Iterable[str], options: Mapping[str, Any]) -> FitSettings:
    """Return the settings of a fit; what the command line says wins over the file.

    Parameters
    ----------
    config : Path, optional
        TOML file with the option names (``target-fpr`` and ``target_fpr`` are the same) and a table ``[params]``.
    assignments : iterable of str
        ``name=value`` each; ``a.b=value`` sets the field `b` of the nested option `a`.
    options : mapping
        Plain options by name; None where one was not given.

    Raises
    ------
    ParameterError
        If a name is unknown, a text is not ``name=value``, or one thing is said twice in the same place.
    DataError
        If the file cannot be read.
    """
    in_file = {} if config is None else read_config(config)
    on_line = {name: value for name, value in options.items() if value is not None}
    file_parameters = _parameters(in_file.pop("params", {}), in_file, f"in {config}")
    line_parameters = _parameters(parse_assignments(assignments), on_line, "on the command line")
    from insphere.validation import check_number  # here, as it brings NumPy along

    merged = in_file | on_line
    auto = bool(merged.get("auto", False))
    if auto and merged.get("detector") is not None:
        raise ParameterError("`--auto` chooses the detector, and `--detector` names one; leave out one of them.")
    if not auto and "minutes" in merged:
        raise ParameterError("`--minutes` says how long `--auto` may take; add --auto, or leave it out.")
    return FitSettings(
        auto=auto,
        minutes=check_number("minutes", merged.get("minutes", DEFAULT_MINUTES), above=0),
        detector=None if merged.get("detector") is None else str(merged["detector"]),
        parameters=_merge({"random_state": DEFAULT_SEED}, _merge(file_parameters, line_parameters)),
        source_options=source_options(merged),
    )


def source_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for `insphere.open_source` among `options`, leaving out what was not given.

    A command hands its ``locals()`` on: its options are called as the arguments are, and other names are left out here.

    Examples
    --------
    >>> source_options({"image_size": "24x40", "columns": "a,b", "mode": None, "epochs": 3})
    {'image_size': (24, 40), 'columns': ['a', 'b']}
    """
    chosen = {name: options[name] for name in _SOURCE_OPTIONS if options.get(name) is not None}
    if "image_size" in chosen:
        chosen["image_size"] = parse_image_size(chosen["image_size"])
    for option in ("columns", "one_hot"):
        if isinstance(chosen.get(option), str):
            chosen[option] = [name.strip() for name in chosen[option].split(",") if name.strip()]
    return chosen


def parse_image_size(value: object) -> int | tuple[int, int]:
    """Return N or (height, width) for ``64``, ``"64"``, ``"24x40"`` or ``[24, 40]``.

    Raises
    ------
    ParameterError
        If `value` is none of these, or a side is not positive.

    Examples
    --------
    >>> parse_image_size("64"), parse_image_size("24x40")
    (64, (24, 40))
    """
    parts = value if isinstance(value, list | tuple) else str(value).lower().split("x")
    if 1 <= len(parts) <= 2 and all(str(part).strip().isdecimal() and int(part) > 0 for part in parts):
        sides = [int(part) for part in parts]
        return sides[0] if len(sides) == 1 else (sides[0], sides[1])
    raise ParameterError(f"`--image-size` must be one side of a square (64) or HEIGHTxWIDTH (24x40), in pixels, got {value!r}.")


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Return nested parameters for texts like ``alpha=0.1`` and ``training.lr=0.001``.

    A value is read as TOML (number, true/false, "text", [list], {table}); anything else is a text as it stands.

    Raises
    ------
    ParameterError
        If a text has no ``=`` or no name, or two of them set the same thing.

    Examples
    --------
    >>> parse_assignments(["alpha=0.1", "geometry=euclidean", "training.lr=0.001", "training.schedule=cosine"])
    {'alpha': 0.1, 'geometry': 'euclidean', 'training': {'lr': 0.001, 'schedule': 'cosine'}}
    """
    parameters: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        path = [part.strip() for part in name.split(".")]
        if not equals or not all(path):
            raise ParameterError(f"`--set` must be name=value, for example --set alpha=0.1 or --set training.lr=0.001, got {text!r}.")
        place = parameters
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ParameterError(f"`--set {text}` sets a field of {part!r}, which another --set gives a plain value; keep one of them.")
        if path[-1] in place:
            raise ParameterError(f"`--set {text}`: {'.'.join(path)!r} is set twice; keep one of them.")
        place[path[-1]] = _parse_value(value.strip())
    return parameters


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file, its top-level names with underscores.

    Raises
    ------
    DataError
        If it cannot be read, or is not TOML.
    ParameterError
        If a top-level name is unknown.
    """
    content = read_toml(path, "the configuration")
    settings = {name.replace("-", "_"): value for name, value in content.items()}
    for name in settings:
        if name not in _FILE_KEYS:
            known = ", ".join(_FILE_KEYS)
            hint = did_you_mean(name, _FILE_KEYS) or " Parameters of the detector belong under [params]."
            raise ParameterError(f"The configuration {path} has an unknown name {name!r}; known are {known}.{hint}")
    if not isinstance(settings.get("params", {}), dict):
        raise ParameterError(f"`params` in {path} must be a table: write [params] on its own line, and name = value below it.")
    return settings


def _parameters(named: dict[str, Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return `named` with the parameters that plain options set."""
    parameters = dict(named)
    for option, parameter in _PARAMETER_OF_OPTION.items():
        if option not in options:
            continue
        if parameter in parameters:
            raise ParameterError(f"`{option}` and the parameter `{parameter}` are the same thing and both are set {where}; keep one.")
        parameters[parameter] = options[option]
    return parameters


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the entries of `over` in their places, field by field where both are tables."""
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged


def _parse_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    # Nested too deeply, or a number of more digits than Python reads, besides what is no TOML.
    except (ValueError, RecursionError):
        return text
    # A line break could smuggle in a second name; then the text was not a single value.
    return parsed["value"] if set(parsed) == {"value"} else text


def checkpoint_path(model: str | os.PathLike[str]) -> Path:
    """Return where the training behind `model` keeps its state: the same name with ``.checkpoint`` added.

    Examples
    --------
    >>> checkpoint_path("tiles.insphere").name
    'tiles.insphere.checkpoint'
    """
    path = Path(model)
    return path.with_name(path.name + ".checkpoint")


def is_kept(checkpoint: Path) -> bool:
    """Return whether there is a state to go on from: in the file itself, or, of a detector of several parts, in one of each part."""
    return checkpoint.exists() or any(checkpoint.parent.glob(f"{glob.escape(checkpoint.name)}.[0-9]*"))
