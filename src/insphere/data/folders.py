"""Folders of images: which files count, and what their places in the tree say about them."""

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import IMAGE_SUFFIXES
from insphere.data.options import OpenOptions
from insphere.data.rows import RowFacts, split_positions
from insphere.data.stores import AbstractStore, FileStore, ImageSource
from insphere.errors import DataError

NORMAL_FOLDERS = ("good", "normal", "ok")

_UNKNOWN = -1
LOOKED_FOR = f"files ending in {', '.join(IMAGE_SUFFIXES)}"


@dataclass(frozen=True)
class Layout:
    """What the places of images in a tree say: facts of each, and the folder types found.

    Parameters
    ----------
    kind : {"mvtec", "classes", "flat"}
        train/good beside test/<defect>; good beside <defect>; anything else.
    positions : tuple of int
        Which of the given names belong to it (in "mvtec" only those in train/ and test/).
    facts : RowFacts
        Of those, in order; `ids` are the names.
    """

    kind: str
    positions: tuple[int, ...]
    facts: RowFacts


def is_image_name(name: str) -> bool:
    """Return whether a relative posix path names an image: a known suffix, and no part hidden or of a Mac's resource forks.

    Examples
    --------
    >>> is_image_name("test/crack/1.PNG"), is_image_name("__MACOSX/1.png"), is_image_name(".cache/1.png")
    (True, False, False)
    """
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES


def wrapper(names: Sequence[str]) -> str:
    """Return the one top folder that all names lie in, with a slash, or "" if there is none or it has a meaning of its own.

    Examples
    --------
    >>> wrapper(["tiles/train/good/1.png", "tiles/test/crack/2.png"])
    'tiles/'
    >>> wrapper(["good/1.png"])
    ''
    """
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(tops) != 1:
        return ""
    top = tops.pop()
    return f"{top}/" if top and top.lower() not in (*NORMAL_FOLDERS, "train", "test") else ""


def read_layout(names: Sequence[str], *, name: str, normal_label: object = None) -> Layout:
    """Return what the places of images (relative posix paths) say about them.

    Parameters
    ----------
    names : sequence of str
        Relative posix paths.
    name : str
        What the tree is called in messages.
    normal_label : object, optional
        Name of the folder with the normal images, where it is none of `NORMAL_FOLDERS`.

    Raises
    ------
    DataError
        If `normal_label` names no folder.

    Examples
    --------
    >>> layout = read_layout(["crack/1.png", "good/2.png"], name="tiles")
    >>> layout.kind, layout.facts.labels.tolist(), layout.facts.types
    ('classes', [1, 0], ('crack', 'good'))
    """
    kind = _kind(names, normal_label)
    if kind == "mvtec":
        layout = _mvtec(names, normal_label)
    elif kind == "classes":
        layout = _classes(names, normal_label)
    else:
        layout = Layout("flat", tuple(range(len(names))), RowFacts(ids=tuple(names)))
    if normal_label is not None and (
        layout.kind == "flat" or str(normal_label).lower() not in {t.lower() for t in layout.facts.types or ()}
    ):
        found = ", ".join(sorted({item.rpartition("/")[0] or "." for item in names})[:10])
        raise DataError(f"{name} has no folder {str(normal_label)!r}, which `normal_label` asks for; its folders are {found}.")
    return layout


def open_images(name: str, names: Sequence[str], store: AbstractStore, options: OpenOptions) -> ImageSource:
    """Return the source of the images of a tree.

    Parameters
    ----------
    name : str
        What the user pointed at.
    names : sequence of str
        Relative posix paths, sorted; one per image of `store`.
    store : AbstractStore
        The images.
    options : OpenOptions
        Split, spec, size, mode and normal folder asked for.

    Raises
    ------
    DataError
        If the split has no image, or none can be read.
    """
    options.refuse(("label_column", "columns", "groups"), "images in a folder or zip")
    layout = read_layout(names, name=name, normal_label=options.normal_label)
    facts = layout.facts
    n_rows = len(layout.positions)
    known = None if facts.types is None else _codes(facts.types, options.normal_label)
    positions = split_positions(options.split, n_rows, known, facts.parts, name=name, remedy=_remedy(layout, options))
    chosen = store.take([layout.positions[position] for position in positions])
    facts = facts.take(positions)
    if facts.types is not None:
        # Anew, because rows of unknown type may all lie outside the split.
        facts = replace(facts, labels=_labels(facts.types, options.normal_label))
    return ImageSource(name, chosen, facts, options.spec_for(chosen, name))


def open_folder(path: Path, options: OpenOptions) -> ImageSource | None:
    """Return the source of the images under a folder, or None if there is no image.

    Raises
    ------
    DataError
        As `open_images`.
    """
    names = sorted(item for item in walk(path) if is_image_name(item))
    if not names:
        return None
    wrapped = wrapper(names)
    if wrapped and _kind([item[len(wrapped) :] for item in names], options.normal_label) != "flat":
        # Only a wrapper around a layout is looked through: in other trees the names must lead from `path` to the files.
        path, names = path / wrapped, [item[len(wrapped) :] for item in names]
    return open_images(path.name or str(path), printable(names), FileStore([path / item for item in names]), options)


def open_glob(pattern: str, options: OpenOptions) -> ImageSource:
    """Return the source of the image files that match a pattern ("photos/*.png", "**" for any depth).

    Raises
    ------
    DataError
        If no image file matches, and as `open_images`.
    """
    base = Path(*_parts_without_magic(Path(pattern)))
    found = {Path(match).relative_to(base).as_posix() for match in glob.glob(pattern, recursive=True) if os.path.isfile(match)}
    names = sorted(item for item in found if is_image_name(item))
    if not names:
        raise DataError(f"{pattern} matches no image; looked for {LOOKED_FOR}. Quote the pattern so that the shell does not expand it.")
    return open_images(pattern, printable(names), FileStore([base / item for item in names]), options)


def open_image_file(path: Path, options: OpenOptions) -> ImageSource:
    """Return the source of one image file.

    Raises
    ------
    DataError
        As `open_images`.
    """
    return open_images(path.name, printable([path.name]), FileStore([path]), options)


def walk(root: Path) -> Iterable[str]:
    """Yield the relative posix paths of all files under a folder, links followed, each real folder once.

    Raises
    ------
    DataError
        If the folder itself cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"the folder {folder} cannot be listed: {error.strerror}. Check that it may be read.") from error
        for entry in entries:
            if entry.is_dir():
                waiting.append((f"{prefix}{entry.name}/", folder / entry.name))
            elif entry.is_file() or (entry.is_symlink() and not stat.S_ISFIFO(_mode(entry))):
                yield f"{prefix}{entry.name}"


def printable(names: Sequence[str]) -> list[str]:
    """Return file names as valid Unicode: bytes that are none become replacement characters, so that JSON and Parquet take them."""
    return [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in names]


def _mode(entry: "os.DirEntry[str]") -> int:
    """Return the type of what a link leads to; 0 for a broken link, which stays in the list to become an error row."""
    try:
        return entry.stat().st_mode
    except OSError:
        return 0


def _parts_without_magic(pattern: Path) -> list[str]:
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _kind(names: Sequence[str], normal_label: object) -> str:
    normal = _normal_folders(normal_label)
    places = [tuple(part.lower() for part in item.split("/")) for item in names]
    if any(_is_mvtec(parts, normal) for parts in places):
        return "mvtec"
    return "classes" if any(len(parts) > 1 and parts[0] in normal for parts in places) else "flat"


def _is_mvtec(parts: Sequence[str], normal: Sequence[str]) -> bool:
    return len(parts) > 1 and (parts[0] == "train" or (parts[0] == "test" and len(parts) > 2 and parts[1] in normal))


def _mvtec(names: Sequence[str], normal_label: object) -> Layout:
    """Only train/ and test/ are read; an image directly in train/ is normal, directly in test/ of unknown type."""
    positions, parts, types = [], [], []
    for position, item in enumerate(names):
        pieces = item.split("/")
        part = pieces[0].lower()
        if part in ("train", "test") and len(pieces) > 1:
            positions.append(position)
            parts.append(part)
            types.append(pieces[1] if len(pieces) > 2 else _normal_folders(normal_label)[0] if part == "train" else "")
    ids = tuple(names[position] for position in positions)
    return Layout("mvtec", tuple(positions), RowFacts(ids, _labels(types, normal_label), tuple(types), parts=tuple(parts)))


def _classes(names: Sequence[str], normal_label: object) -> Layout:
    """Every image in a top folder has that folder's type; images beside the folders are of unknown type."""
    types = tuple(item.partition("/")[0] if "/" in item else "" for item in names)
    return Layout("classes", tuple(range(len(names))), RowFacts(tuple(names), _labels(types, normal_label), types))


def _normal_folders(normal_label: object) -> tuple[str, ...]:
    return NORMAL_FOLDERS if normal_label is None else (str(normal_label).lower(),)


def _codes(types: Sequence[str], normal_label: object) -> list[int]:
    normal = _normal_folders(normal_label)
    return [_UNKNOWN if not item else 0 if item.lower() in normal else 1 for item in types]


def _labels(types: Sequence[str], normal_label: object) -> NDArray[np.int64] | None:
    codes = _codes(types, normal_label)
    # Labels of some rows only would silently turn a metric over all rows into one over a part.
    return None if _UNKNOWN in codes else np.array(codes, dtype=np.int64)


def _remedy(layout: Layout, options: OpenOptions) -> str:
    """Return what the tree has instead of the split asked for."""
    types = layout.facts.types or ()
    parts = layout.facts.parts or ("",) * len(types)
    found = Counter(f"{part}/{item}".strip("/") for part, item in zip(parts, types, strict=True))
    listed = ", ".join(f"{folder} ({count})" for folder, count in sorted(found.items())[:10])
    normal = " or ".join(NORMAL_FOLDERS) if options.normal_label is None else repr(options.normal_label)
    wanted = f"train/ with a folder {normal}" if options.split == "train" else f"{options.split}/"
    return f"; looked for {wanted} and found {listed}; name the folder of normal images with `normal_label`"
