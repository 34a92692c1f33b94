"""What the places of images in a tree say: which are normal, which anomalies, which masks; in any letters, at any depth."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Self

import numpy as np
from numpy.typing import NDArray

from insphere.data.folder_names import (
    ABNORMAL_FOLDERS,
    NORMAL_FOLDERS,
    PARTS,
    TWO_KINDS,
    UNJUDGED_FOLDERS,
    names_masks,
    part_and_rest,
    sense,
    word,
)
from insphere.data.rows import Notice, RowFacts
from insphere.errors import DataError

_UNKNOWN = -1
_LISTED = 8
_APART = "Products or cameras are told apart by `category_by='folder'` (fit --category-by folder)."
_INNER_FOLDERS = (("data", "images"), ("data", "image"))  # between a product and its Normal and Anomaly
_FOLDERS_OF_TWINS = ("label", "labels", "target", "targets", "ann", "anns")
_MASK_STEM = re.compile(r"[-_ ](mask|gt|groundtruth|label)$", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """What the places of images in a tree say.

    Parameters
    ----------
    kind : {"mvtec", "classes", "flat"}
        Parts (train/good next to test/<defect>); good next to <defect>; anything else.
    positions : tuple of int
        Which of the given names are rows: no masks, and in "mvtec" only those in a part.
    facts : RowFacts
        Of those, in order; `ids` are the names.
    codes : tuple of int
        0 normal, 1 anomaly, -1 unknown, of each row.
    notices : tuple of Notice
        What was taken as what, and what was left out.
    doubt : str, optional
        Why nothing may be learned from the tree as a whole, with the remedy.
    """

    kind: str
    positions: tuple[int, ...]
    facts: RowFacts
    codes: tuple[int, ...] = ()
    notices: tuple[Notice, ...] = ()
    doubt: str | None = None

    def labels_at(self, positions: Sequence[int]) -> NDArray[np.int64] | None:
        """Return the labels of some rows, or None where one is unknown: labels of a part would pass for those of all."""
        return _labels([self.codes[position] for position in positions])


@dataclass(frozen=True)
class _Place:
    """What one path says: its part of the data, its type (a folder's name, "" if unknown), and whether that is normal (0) or not (1)."""

    part: str | None
    type: str
    code: int
    is_mask: bool = False


def read_layout(names: Sequence[str], *, name: str, normal_label: object = None, strict: bool = True, told_apart: bool = False) -> Layout:
    """Return what the places of images (relative posix paths) say about them.

    Parameters
    ----------
    names : sequence of str
        Relative posix paths.
    name : str
        What the tree is called in messages.
    normal_label : object, optional
        Name of the folder with the normal images, where it is none of `NORMAL_FOLDERS`.
    strict : bool
        Whether there must be such a folder. A tree without the one that a model only remembers is read by the usual names, unless the
        remembered name usually means anomalies: then the usual names mean the contrary, and the images have no labels.
    told_apart : bool
        Whether products or cameras are told apart by something else than the layout, so that nothing need be said of several.

    Raises
    ------
    DataError
        If `normal_label` names no folder, or the tree holds several data sets.

    Examples
    --------
    >>> layout = read_layout(["crack/1.png", "Good/2.png", "ground_truth/crack/1_mask.png"], name="tiles")
    >>> layout.kind, layout.facts.labels.tolist(), layout.facts.types, layout.facts.masks
    ('classes', [1, 0], ('crack', 'Good'), ('ground_truth/crack/1_mask.png', None))
    """
    normal = NORMAL_FOLDERS if normal_label is None else _called(str(normal_label))
    folders = _parted([tuple(item.split("/")[:-1]) for item in names], normal)
    _check_one_data_set(folders, normal, name)
    said = _Said.of(folders, normal, by_words=normal_label is None)
    if normal_label is not None and not strict and not said.homes and not _means_anomalies(str(normal_label)):
        return read_layout(names, name=name, told_apart=told_apart)
    stems = {_stem(item) for item in names if not _MASK_STEM.search(_stem(item))}
    twins = _twins(names)
    mask = _Place(None, "", _UNKNOWN, is_mask=True)
    places = [mask if item in twins else _place(parts, _stem(item), said, stems) for parts, item in zip(folders, names, strict=True)]
    has_parts = any(place.part is not None for place in places) and _keeps_parts(places)
    kind = "mvtec" if has_parts else "classes" if said.homes else "flat"
    if strict and normal_label is not None and not said.homes:
        found = ", ".join(sorted({"/".join(parts) or "." for parts in folders})[:10])
        raise DataError(f"{name} has no folder {str(normal_label)!r}, which `normal_label` asks for; its folders are {found}.")
    rows = [row for row, place in enumerate(places) if not place.is_mask and (place.part is not None or not has_parts)]
    if not rows and names:  # a folder of masks, asked for by its own name: its images are what is meant
        rows, kind = list(range(len(names))), "flat"
    chosen = [places[row] for row in rows]
    facts = _facts(kind, [names[row] for row in rows], chosen, _masks(names, places, rows), any(place.code == 1 for place in chosen))
    notices = (
        *_told(kind, names, places, rows, told_apart),
        *_told_places(() if told_apart else said.homes),
        *_left(names, places, rows, facts),
    )
    return Layout(kind, tuple(rows), facts, tuple(place.code for place in chosen), notices, _doubt(kind, name, facts.ids or (), chosen))


def masks_among(names: Sequence[str]) -> list[str]:
    """Return those of some images that say where an anomaly is: in a folder of masks, or called so beside their picture.

    Parameters
    ----------
    names : sequence of str
        Relative posix paths.

    Examples
    --------
    >>> masks_among(["1.png", "1_mask.png", "2_mask.png", "gt/3.png"])
    ['1_mask.png', 'gt/3.png']
    """
    stems = {_stem(item) for item in names if not _MASK_STEM.search(_stem(item))}
    folders = {folder: [word(part) for part in folder.split("/")] for folder in {item.rpartition("/")[0] for item in names}}
    twins = _twins(names)
    return [item for item in names if item in twins or _is_mask(folders[item.rpartition("/")[0]], _stem(item), stems, NORMAL_FOLDERS)]


def _twins(names: Sequence[str]) -> set[str]:
    """Return the images in folders called labels in which every image has the name of one outside: they say where its anomaly is.

    Examples
    --------
    >>> sorted(_twins(["good/1.png", "bad/2.png", "labels/bad/2.png"])), _twins(["good/1.png", "labels/bad/2.png"])
    (['labels/bad/2.png'], set())
    """
    inside: dict[str, list[str]] = {}
    outside = set()
    for item in names:
        parts = item.split("/")[:-1]
        depth = next((depth for depth, part in enumerate(parts) if word(part) in _FOLDERS_OF_TWINS), None)
        if depth is None:
            outside.add(_stem(item))
        else:
            inside.setdefault("/".join(parts[: depth + 1]), []).append(item)
    return {item for items in inside.values() if all(_MASK_STEM.sub("", _stem(item)) in outside for item in items) for item in items}


def _parted(folders: Sequence[tuple[str, ...]], normal: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the folders with names such as train_normal and test_crack taken apart, as if they were train/normal and test/crack.

    Nothing is taken apart in a tree without a part to train on. In others, a name counts as put together where what is beside the part
    says something of the images, or where a folder next to it is such a part.
    """

    def says(rest: str) -> bool:
        name = word(rest)
        return name in normal or name in ABNORMAL_FOLDERS or names_masks(rest) or sense(rest) is not None

    beside: set[tuple[str, ...]] = set()
    for parts in set(folders):
        for depth, part in enumerate(parts):
            found = part_and_rest(part)
            if PARTS.get(word(part)) == "train" or (found is not None and PARTS[found[0].lower()] == "train" and says(found[1])):
                beside.add(parts[:depth])

    def apart(parts: tuple[str, ...]) -> tuple[str, ...]:
        pieces: list[str] = []
        for depth, part in enumerate(parts):
            found = part_and_rest(part)
            is_joined = found is not None and (says(found[1]) or parts[:depth] in beside)
            pieces += found if found is not None and is_joined else (part,)
        return tuple(pieces)

    if not beside:
        return list(folders)
    by_folder = {parts: apart(parts) for parts in set(folders)}
    return [by_folder[parts] for parts in folders]


def _called(normal_label: str) -> tuple[str, ...]:
    """Return the names of the folder of normal images that a user names: its own, and what is left of it without a part's name."""
    found = part_and_rest(normal_label)
    return (word(normal_label),) if found is None else (word(normal_label), word(found[1]))


def _means_anomalies(folder: str) -> bool:
    return word(folder) in ABNORMAL_FOLDERS or sense(folder) == 1


def _check_one_data_set(folders: Iterable[tuple[str, ...]], normal: Sequence[str], name: str) -> None:
    """Refuse trees with parts, or Data/Images/Normal, in several folders: their products are not one kind of normal."""
    homes = set()
    for parts in set(folders):
        words = [word(part) for part in parts]
        inner = next((depth for depth in range(1, len(words)) if tuple(words[depth : depth + 2]) in _INNER_FOLDERS), None)
        if inner and words[inner + 2 : inner + 3] and words[inner + 2] in normal:
            homes.add("/".join(parts[:inner]))
        depth = next((depth for depth, part in enumerate(words) if part in PARTS), None)
        if depth and any(part in normal or PARTS.get(part) == "train" for part in words[depth:]):
            homes.add("/".join(parts[:depth]))
    if len(homes) > 1:
        listed = ", ".join(sorted(homes)[:_LISTED]) + (", ..." if len(homes) > _LISTED else "")
        raise DataError(
            f"{name} holds {len(homes)} data sets, each with its own folders of normal images: {listed}. What is normal for one is not for"
            " another; give one of these folders."
        )


@dataclass(frozen=True)
class _Said:
    """What the names of folders say: by a name as a whole, and by the words in longer names ("OK_1", "bad_scratch").

    Words of a folder that holds everything say nothing of its images: "defect_detection" is what the data are for.
    """

    normal: Sequence[str]
    by_words: bool
    shared: int
    homes: frozenset[tuple[str, ...]] = frozenset()

    @classmethod
    def of(cls, folders: Sequence[tuple[str, ...]], normal: Sequence[str], *, by_words: bool) -> Self:
        """Return what the folders say; `homes` are those that hold a folder of normal images."""
        distinct = sorted(set(folders))
        shared = [*takewhile(lambda level: len({*level}) == 1, zip(*distinct, strict=False))]
        said = cls(normal, by_words, len(shared))
        homes = {parts[:at] for parts in distinct for at in range(len(parts)) if said.named(parts[at]) == 0 or said.worded(parts, at) == 0}
        return replace(said, homes=frozenset(homes))

    def named(self, part: str) -> int | None:
        """Return what a folder's whole name says: 0 normal, 1 anomalies."""
        name = word(part)
        return 0 if name in self.normal else 1 if name in ABNORMAL_FOLDERS else None

    def worded(self, parts: Sequence[str], at: int) -> int | None:
        """Return what the words in the name of one folder of a path say; where the user names the normal one, no other is."""
        says_rows = at >= self.shared and self.named(parts[at]) is None and not names_masks(parts[at])
        code = sense(parts[at]) if says_rows else None
        return code if self.by_words or code == 1 else None


def _place(parts: tuple[str, ...], stem: str, said: _Said, stems: set[str]) -> _Place:
    words = [word(part) for part in parts]
    if _is_mask(words, stem, stems, said.normal):
        return _Place(None, "", _UNKNOWN, is_mask=True)
    start = next((depth for depth, part in enumerate(words) if part in PARTS and part not in said.normal), None)
    part = None if start is None else PARTS[words[start]]
    after = 0 if start is None else start + 1
    depths = range(after, len(parts))
    codes = [*((depth, said.named(parts[depth])) for depth in depths), *((depth, said.worded(parts, depth)) for depth in depths)]
    beside = [depth for depth in depths if parts[:depth] in said.homes]  # next to a folder of normal images
    codes += [(depth, _UNKNOWN if words[depth] in UNJUDGED_FOLDERS and words[depth] not in said.normal else 1) for depth in beside]
    for depth, code in codes:
        if code is not None:
            return _Place(part, parts[depth], code)
    if part is not None:
        return _Place(part, parts[after], 1) if after < len(parts) else _Place(part, "", 0 if part == "train" else _UNKNOWN)
    return _Place(None, "", _UNKNOWN)


def _is_mask(words: Sequence[str], stem: str, stems: Collection[str], normal: Sequence[str]) -> bool:
    in_folder = any(names_masks(part) and part not in normal for part in words)
    return in_folder or (_MASK_STEM.search(stem) is not None and _MASK_STEM.sub("", stem) in stems)


def _keeps_parts(places: Iterable[_Place]) -> bool:
    """Return whether parts mean something: there is one to train on, or one to test on that has normal images."""
    return any(place.part == "train" or (place.part == "test" and place.code == 0) for place in places)


def _facts(kind: str, ids: Sequence[str], places: Sequence[_Place], masks: tuple[str | None, ...] | None, has_anomalies: bool) -> RowFacts:
    if kind == "flat" and not has_anomalies:
        return RowFacts(tuple(ids), masks=masks)
    unnamed = NORMAL_FOLDERS[0]  # what lies in train/ itself
    types = tuple(place.type or (unnamed if place.code == 0 else "") for place in places)
    parts = tuple(place.part or "" for place in places) if kind == "mvtec" else None
    return RowFacts(tuple(ids), _labels([place.code for place in places]), types, parts=parts, masks=masks)


def _labels(codes: Sequence[int]) -> NDArray[np.int64] | None:
    return None if _UNKNOWN in codes else np.array(codes, dtype=np.int64)


def _masks(names: Sequence[str], places: Sequence[_Place], rows: Sequence[int]) -> tuple[str | None, ...] | None:
    """Return the mask of each row: of the same stem, in a folder of the same type, or in an untyped one, and no other row's."""
    by_stem: dict[str, list[str]] = {}
    for item, place in zip(names, places, strict=True):
        if place.is_mask:
            by_stem.setdefault(_MASK_STEM.sub("", _stem(item)), []).append(item)
    if not by_stem:
        return None
    types = {places[row].type for row in rows} - {""}
    own, shared = [], []
    for row in rows:
        candidates = by_stem.get(_stem(names[row]), []) if places[row].code != 0 else []
        own.append(next((item for item in candidates if places[row].type and places[row].type in item.split("/")[:-1]), None))
        untyped = [item for item in candidates if types.isdisjoint(item.split("/")[:-1])]
        shared.append(untyped[0] if own[-1] is None and len(untyped) == 1 else None)
    # What two rows could call theirs (7_mask.png, of crack/7.png or of dent/7.png) says nothing of either.
    uses = Counter(shared)
    return tuple(mask or (other if uses[other] == 1 else None) for mask, other in zip(own, shared, strict=True))


def _told(kind: str, names: Sequence[str], places: Sequence[_Place], rows: Sequence[int], told_apart: bool) -> list[Notice]:
    """Return what folders were taken as."""
    if kind == "flat" and not any(places[row].code == 1 for row in rows):
        tops = Counter(names[row].partition("/")[0] for row in rows if "/" in names[row])
        if not tops:
            return []
        text = f"All {len(rows)} images are taken as of one kind, whatever folder they lie in ({_counted(tops)})."
        if len(tops) > 1 and not told_apart:
            text += f" {_APART}"
        return [Notice("taken as", len(rows), text, tuple(tops)[:_LISTED])]
    meaning = {0: "normal", 1: "anomalies", _UNKNOWN: "of unknown kind"}
    parts = []
    for code, called in meaning.items():
        counts = Counter("/".join(names[row].split("/")[:-1]) or "." for row in rows if places[row].code == code)
        if counts:
            parts.append(f"{called}: {_counted(counts)}")
    in_part = any(places[row].code == _UNKNOWN for row in rows) and len(parts) > 1
    remedy = " As those of unknown kind have no labels, results can be measured on the other folders alone." if in_part else ""
    return [Notice("taken as", len(rows), f"Folders are taken as {'; '.join(parts)}.{remedy}")]


def _told_places(homes: Iterable[tuple[str, ...]]) -> list[Notice]:
    """Return that normal images lie in several places, which may be several products."""
    places = sorted({"/".join(part for part in home if word(part) not in PARTS) or "." for home in homes})
    if len(places) < 2:
        return []
    listed = ", ".join(places[:_LISTED]) + (", ..." if len(places) > _LISTED else "")
    text = (
        f"Normal images lie in {len(places)} places, which count as one product ({listed}); if they are several, give one of them. {_APART}"
    )
    return [Notice("taken as", len(places), text)]


def _left(names: Sequence[str], places: Sequence[_Place], rows: Sequence[int], facts: RowFacts) -> list[Notice]:
    """Return which images are not rows, and why."""
    kept = set(rows)
    left = [row for row in range(len(names)) if row not in kept]
    masks = [names[row] for row in left if places[row].is_mask]
    others = [names[row] for row in left if not places[row].is_mask]
    notices = []
    if masks:
        text = "Images taken as masks, which say where an anomaly is, are not rows"
        notices.append(Notice.counting("taken as", text, masks, _belonging(len(masks), [places[row] for row in rows], facts)))
    if others:
        notices.append(Notice.counting("left out", "Images outside the folders for training and testing are left out", others))
    return notices


def _belonging(n_masks: int, places: Sequence[_Place], facts: RowFacts) -> str:
    """Return how many pictures the masks belong to, and how many belong to none."""
    n_with = sum(mask is not None for mask in facts.masks or ())
    n_anomalies = sum(place.code == 1 for place in places)
    whose = f"{n_with} of {n_anomalies} anomalies" if n_anomalies else f"{n_with} of {len(places)} pictures"
    used = len({mask for mask in facts.masks or () if mask is not None})
    return f" ({whose} have one" + (f"; without a picture: {n_masks - used})" if used < n_masks else ")")


def _doubt(kind: str, name: str, ids: Sequence[str], places: Sequence[_Place]) -> str | None:
    """Return why a fit must not go on: folders that sound like anomalies, or like two kinds, and none that says what is normal."""
    if kind != "flat":
        return None
    bad = Counter(place.type for place in places if place.code == 1)
    if not bad:
        folders = Counter(item.rpartition("/")[0].rpartition("/")[2] for item in ids)
        if frozenset(word(folder) for folder in folders) not in TWO_KINDS:
            return None
        return (
            f"{name} has folders of two kinds ({_counted(folders)}), and nothing says which is normal, so that both would be learned as"
            f" normal. Name the folder of normal images with `normal_label` (--normal-label), or give that folder alone."
        )
    return (
        f"{name} has folders that sound like anomalies ({_counted(bad)}), and no folder says which images are normal. Put the normal ones"
        f" into a folder called {NORMAL_FOLDERS[0]}, or name theirs with `normal_label` (--normal-label), or give that folder alone."
    )


def _counted(counts: Counter[str]) -> str:
    listed = [f"{folder} ({count})" for folder, count in sorted(counts.items())]
    return ", ".join(listed[:_LISTED]) + (f", and {len(listed) - _LISTED} more" if len(listed) > _LISTED else "")


def _stem(item: str) -> str:
    return item.rpartition("/")[2].rpartition(".")[0]
