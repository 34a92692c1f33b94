"""``insphere info``, ``insphere datasets`` and ``insphere detectors``: what there is."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from insphere.cli import console, options, presenting


def info(model: options.Model, require_signature: options.RequireSignature = None, json: options.Json = False) -> None:
    """Tell all about a model file: data, threshold, false alarms, health, parameters.

    For example:
      insphere info model.insphere
    """
    from insphere.detectors import catalog

    description = catalog.load(model, require_signature=require_signature).describe()
    if json:
        console.write_json({"path": model, **description})
        return
    for part in presenting.model_tables(str(model), description):
        console.results().print(part)


def datasets(data_dir: options.DataDir = None, json: options.Json = False) -> None:
    """List the named data sets, their classes, and where each was found here.

    A name and a normal class make a source: digits:3, mnist:8, fashion-mnist:bag. The training part holds the normal class only.

    For example:
      insphere datasets --data-dir ~/data
    """
    from insphere.data import list_datasets, local_folder

    entries = []
    for entry in list_datasets():
        folder = local_folder(entry.name, data_dir)
        entries.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "classes": entry.classes,
                "shape": entry.spec.shape,
                "folder": folder,
                "hub": entry.hub.repository if entry.hub else None,
                "bundled": entry.bundled,
            }
        )
    if json:
        console.write_json({"datasets": entries})
        return
    rows = [(entry["name"], entry["summary"], _in_short(entry["classes"]), _where(entry)) for entry in entries]
    console.results().print(console.table("Named data sets (insphere fit NAME:CLASS)", ("name", "what it is", "classes", "where"), rows))


def _in_short(classes: Any) -> str:
    return ", ".join(classes) if len(classes) <= 10 else f"{', '.join(classes[:4])}, … ({len(classes)}; or their numbers from 0)"


def _where(entry: Mapping[str, Any]) -> str:
    """Return where a data set was found, or where it would come from."""
    if entry["bundled"]:
        return "comes along"
    if entry["folder"] is not None:
        return str(entry["folder"])
    if entry["hub"] is not None:
        return f"not here; downloaded from the Hugging Face hub ({entry['hub']}) when used"
    return "not here; name its folder with --data-dir or INSPHERE_DATA"


def detectors(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", show_default=False, help="Tell the parameters of this one; module:Class too.")
    ] = None,
    json: options.Json = False,
) -> None:
    """List the detectors with a word on when to choose each, or the parameters of one: type, default, what it does.

    For example:
      insphere detectors
      insphere detectors vae-svdd
    """
    from insphere.detectors.catalog import DETECTORS, installed

    if name is not None:
        _parameters_of(name, json=json)
        return
    entries = [
        {"name": entry.name, "class": entry.class_name, "summary": entry.summary, "when": entry.when} for entry in DETECTORS.values()
    ]
    entries += [
        {"name": other, "class": target, "summary": f"of another package: {target}", "when": ""} for other, target in installed().items()
    ]
    if json:
        console.write_json({"detectors": entries})
        return
    rows = ((entry["name"], entry["summary"], entry["when"]) for entry in entries)
    console.results().print(console.table("Detectors (insphere fit --detector NAME)", ("name", "what it is", "when to choose it"), rows))


def _with_range(entry: Mapping[str, Any]) -> str:
    return f"{entry['type']}, {entry['range']}" if entry["range"] else str(entry["type"])


def _parameters_of(name: str, *, json: bool) -> None:
    from insphere.detectors.catalog import detector_class
    from insphere.detectors.parameters import described

    found = described(detector_class(name))
    if json:
        console.write_json({"detector": name, "parameters": found})
        return
    rows = ((entry["name"], _with_range(entry), entry["default"], entry["meaning"]) for entry in found)
    title = f"Parameters of {name} (--set NAME=VALUE; in Python, those with a dot are fields of a mapping)"
    console.results().print(console.table(title, ("name", "type", "default", "what it does"), rows))
