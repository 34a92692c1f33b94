"""Folders of images: which files count, which are left out, and the source of those that do."""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from insphere.data.folder_names import ABNORMAL_FOLDERS, MASK_FOLDERS, NORMAL_FOLDERS, PARTS, word
from insphere.data.images import IMAGE_SUFFIXES
from insphere.data.layouts import Layout, read_layout
from insphere.data.options import OpenOptions
from insphere.data.rows import Notice, RowFacts, split_positions
from insphere.data.stores import AbstractStore, FileStore, ImageSource, MaskImages
from insphere.errors import DataError, ParameterError

_WITH_MEANING = {*NORMAL_FOLDERS, *ABNORMAL_FOLDERS, *MASK_FOLDERS, *PARTS}
_LISTED = 5
LOOKED_FOR = f"files ending in {', '.join(IMAGE_SUFFIXES)}"


def is_image_name(name: str) -> bool:
    """Return whether a relative posix path names an image: a known suffix, and no part hidden or of a Mac's resource forks.

    Examples
    --------
    >>> is_image_name("test/crack/1.PNG"), is_image_name("__MACOSX/1.png"), is_image_name(".cache/1.png")
    (True, False, False)
    """
    return not _is_hidden(name) and os.path.splitext(name.rpartition("/")[2])[1].lower() in IMAGE_SUFFIXES


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
    return f"{top}/" if top and word(top) not in _WITH_MEANING else ""


@dataclass
class Survey:
    """What lies under a folder: files by name, and what is not looked at.

    Attributes
    ----------
    names : list of str
        Relative posix paths of regular files, and of links that lead nowhere, which become error rows.
    irregular : list of str
        Pipes, sockets, devices, and links to them: never opened, because reading them may never end.
    unreadable : list of str
        Folders that cannot be listed, with the reason.
    """

    names: list[str] = field(default_factory=list)
    irregular: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def notices(self) -> list[Notice]:
        """Return what is left out."""
        notices = left_out(self.names)
        if self.irregular:
            notices.append(Notice.counting("left out", "Pipes, sockets and devices are not read", self.irregular))
        if self.unreadable:
            text = "Folders that cannot be listed are left out, with all that is in them (check that they may be read)"
            notices.append(Notice.counting("left out", text, self.unreadable))
        return notices


def left_out(names: Sequence[str]) -> list[Notice]:
    """Return which files are not read as images: hidden ones, and those whose suffix is that of none.

    Examples
    --------
    >>> [notice.text for notice in left_out(["1.png", "notes.txt", ".cache/2.png"])]
    ['Hidden files are left out: 1.', 'Files that do not end like images are left out: 1 (.txt: 1).']
    """
    hidden = [item for item in names if _is_hidden(item)]
    others = [item for item in names if not _is_hidden(item) and not is_image_name(item)]
    notices = []
    if hidden:
        notices.append(Notice.counting("left out", "Hidden files are left out", hidden))
    if others:
        suffixes = Counter(os.path.splitext(item)[1].lower() or "no suffix" for item in others)
        listed = ", ".join(f"{suffix}: {count}" for suffix, count in suffixes.most_common(_LISTED))
        notices.append(Notice.counting("left out", "Files that do not end like images are left out", others, f" ({listed})"))
    return notices


def open_images(name: str, names: Sequence[str], store: AbstractStore, options: OpenOptions, notices: Sequence[Notice] = ()) -> ImageSource:
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
        Split, spec, size, mode, normal folder and groups asked for.
    notices : sequence of Notice
        What is to be told of the tree besides what its folders are taken as.

    Raises
    ------
    DataError
        If the split has no image, or none can be read; or if the split is for training, and what is normal is in doubt.
    """
    options.refuse(("label_column", "columns", "groups", "category"), "images in a folder or zip")
    remembered = options.remembered_normal(options.remembered.label_column)
    normal = options.normal_label if remembered is None else remembered
    by = options.category_by or options.remembered.category_by
    layout = read_layout(names, name=name, normal_label=normal, strict=remembered is None, told_apart=by is not None)
    if options.split == "train" and layout.doubt is not None:
        raise DataError(layout.doubt)
    facts = layout.facts
    if options.groups_by is not None:
        facts = replace(facts, groups=groups_of(facts.ids or (), options.groups_by))
    if by is not None:
        facts = replace(facts, categories=categories_of(facts.ids or (), by, types=facts.types, asked=options.category_by is not None))
    codes = None if facts.types is None else layout.codes
    positions = split_positions(options.split, len(layout.positions), codes, facts.parts, name=name, remedy=_remedy(layout, options))
    chosen = store.take([layout.positions[position] for position in positions])
    facts = facts.take(positions)
    if codes is not None:
        # Again, because rows of unknown type may all lie outside the split.
        facts = replace(facts, labels=layout.labels_at(positions))
    told = (*notices, *layout.notices)
    masks = MaskImages(store, {item: place for place, item in enumerate(names)}) if layout.facts.masks is not None else None
    return options.image_source(name, chosen, facts, notices=told, doubt=layout.doubt, masks=masks)


def groups_of(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Return the group of each image: what the pattern finds in its path.

    Parameters
    ----------
    ids : sequence of str
        Relative posix paths.
    pattern : str
        A regular expression, searched for in the path. The group called `group` is taken, or else the first, or else the whole match;
        or "folder": the folder that an image lies in. A path that does not match is a group of its own.

    Raises
    ------
    ParameterError
        If it is not a regular expression, or matches no path.

    Examples
    --------
    >>> groups_of(["a_1.png", "a_2.png", "b_1.png"], r"(?P<group>.*)_")
    ('a', 'a', 'b')
    >>> groups_of(["film1/1.png", "film1/2.png"], "folder")
    ('film1', 'film1')
    """
    if pattern == "folder":
        return tuple(item.rpartition("/")[0] for item in ids)
    found = _searched(ids, pattern, "group", "groups_by")
    if ids and all(name is None for name in found):
        raise ParameterError(f"`groups_by` {pattern!r} matches none of the {len(ids)} paths; the first is {ids[0]!r}.")
    return tuple(item if name is None else name for item, name in zip(ids, found, strict=True))


def categories_of(
    ids: Sequence[str], pattern: str, *, types: Sequence[str] | None = None, asked: bool = True
) -> tuple[str | None, ...] | None:
    """Return the category of each image (its camera, product or shift): what the pattern finds in its path, None where it finds nothing.

    Parameters
    ----------
    ids : sequence of str
        Relative posix paths.
    pattern : str
        A regular expression, searched for in the path. The group called `category` is taken, or else the first, or else the whole match;
        or "folder": the nearest folder above an image whose name does not mean normal, defect, training or test.
    types : sequence of str, optional
        Class or defect type of each image: a folder of that name is not its category.
    asked : bool
        Whether the user asks for it now; what a model remembers refuses no row.

    Raises
    ------
    ParameterError
        If it is not a regular expression, or is asked for and matches no path.

    Examples
    --------
    >>> categories_of(["cam1/good/a.png", "cam2/good/b.png", "c.png"], "folder")
    ('cam1', 'cam2', None)
    >>> categories_of(["left_1.png", "right_1.png"], "(?P<category>left|right)_")
    ('left', 'right')
    """
    if pattern == "folder":
        own = types if types is not None else [""] * len(ids)
        found = [
            next((part for part in reversed(item.split("/")[:-1]) if word(part) not in _WITH_MEANING and part != kind), None)
            for item, kind in zip(ids, own, strict=True)
        ]
    else:
        found = _searched(ids, pattern, "category", "category_by")
    if ids and asked and not any(found):
        raise ParameterError(f"`category_by` {pattern!r} matches none of the {len(ids)} paths; the first is {ids[0]!r}.")
    return tuple(found) if any(found) else None


def _searched(ids: Sequence[str], pattern: str, group: str, option: str) -> list[str | None]:
    """Return what a regular expression finds in each path: the named group, or else the first, or else the whole match."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ParameterError(f"`{option}` must be a regular expression such as '(?P<{group}>[^_]+)_', got {pattern!r}: {error}.") from error
    wanted: str | int = group if group in expression.groupindex else min(1, expression.groups)
    found = (expression.search(item) for item in ids)
    return [None if match is None else match[wanted] for match in found]


def open_folder(path: Path, options: OpenOptions) -> ImageSource | None:
    """Return the source of the images under a folder, or None if there is no image.

    Raises
    ------
    DataError
        As `open_images`.
    """
    survey = explore(path)
    names = sorted(item for item in survey.names if is_image_name(item))
    if not names:
        return None
    wrapped = wrapper(names)
    if wrapped and read_layout([item[len(wrapped) :] for item in names], name=path.name).kind != "flat":
        # Only a wrapper around a layout is looked through: in other trees the names must lead from `path` to the files.
        path, names = path / wrapped, [item[len(wrapped) :] for item in names]
    store = FileStore([path / item for item in names])
    return open_images(path.name or str(path), printable(names), store, options, survey.notices())


def open_glob(pattern: str, options: OpenOptions) -> ImageSource:
    """Return the source of the image files that match a pattern ("photos/*.png", "**" for any depth).

    Raises
    ------
    DataError
        If no image file matches, and as `open_images`.
    """
    base, survey = matching(pattern)
    names = sorted(item for item in set(survey.names) if is_image_name(item))
    if not names:
        raise DataError(f"{pattern} matches no image; looked for {LOOKED_FOR}. Quote the pattern so that the shell does not expand it.")
    return open_images(pattern, printable(names), FileStore([base / item for item in names]), options, survey.notices())


def matching(pattern: str) -> tuple[Path, Survey]:
    """Return the folder that a pattern begins with, and what of that folder matches."""
    base = Path(*_parts_without_magic(Path(pattern)))
    survey = Survey()
    for match in sorted(set(glob.glob(pattern, recursive=True))):
        relative = Path(match).relative_to(base).as_posix()
        if os.path.isfile(match) or not os.path.exists(match):  # a link that leads nowhere becomes an error row, as in a folder
            survey.names.append(relative)
        elif not os.path.isdir(match):
            survey.irregular.append(relative)
    return base, survey


def open_image_file(path: Path, options: OpenOptions) -> ImageSource:
    """Return the source of one image file.

    Raises
    ------
    DataError
        As `open_images`.
    """
    return open_images(path.name, printable([path.name]), FileStore([path]), options)


def open_image_files(paths: Sequence[str | os.PathLike[str]], options: OpenOptions) -> ImageSource:
    """Return the source of image files that are listed one by one, in the order of the list.

    Raises
    ------
    DataError
        If a path leads nowhere or to what is not a file, and as `open_images`.
    """
    files = [Path(os.path.expanduser(os.fspath(path))) for path in paths]
    for file in files:
        if not file.exists():
            raise DataError(f"{file} in the list of {len(files)} paths does not exist; give paths of image files.")
        if not file.is_file():
            raise DataError(f"{file} in the list of {len(files)} paths is not a file; give paths of image files, or one folder alone.")
    texts = [file.as_posix() for file in files]
    common = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    names = [os.path.relpath(os.path.abspath(text), common).replace(os.sep, "/") for text in texts]
    return open_images(f"a list of {len(files)} files", printable(names), FileStore(files), options)


def explore(root: Path) -> Survey:
    """Return what lies under a folder, links followed, each real folder once.

    Raises
    ------
    DataError
        If the folder itself cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [("", root)]
    survey = Survey()
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
            if not prefix:
                raise DataError(f"the folder {folder} cannot be listed: {error.strerror}. Check that it may be read.") from error
            survey.unreadable.append(f"{prefix} ({error.strerror})")
            continue
        for entry in entries:
            if entry.is_dir():
                waiting.append((f"{prefix}{entry.name}/", folder / entry.name))
            elif entry.is_file() or _leads_nowhere(entry):
                survey.names.append(f"{prefix}{entry.name}")
            else:
                survey.irregular.append(f"{prefix}{entry.name}")
    return survey


def walk(root: Path) -> Iterator[str]:
    """Yield the relative posix paths of all files under a folder: see `explore`."""
    yield from explore(root).names


def printable(names: Sequence[str]) -> list[str]:
    """Return file names as valid Unicode: bytes that are none become replacement characters, so that JSON and Parquet take them."""
    return [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in names]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _leads_nowhere(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a broken link, which stays in the list to become an error row."""
    if not entry.is_symlink():
        return False
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def _parts_without_magic(pattern: Path) -> list[str]:
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _remedy(layout: Layout, options: OpenOptions) -> str:
    """Return what the tree has instead of the split asked for."""
    facts: RowFacts = layout.facts
    found = Counter(item.rpartition("/")[0] or "." for item in facts.ids or ())
    listed = ", ".join(f"{folder} ({count})" for folder, count in sorted(found.items())[:10])
    normal = " or ".join(NORMAL_FOLDERS[:3]) if options.normal_label is None else repr(options.normal_label)
    wanted = f"train/ with a folder {normal}" if options.split == "train" else f"{options.split}/"
    return f"; looked for {wanted} and found {listed}; name the folder of normal images with `normal_label`"
