"""Names of folders of images and what they say: normal, anomalies, masks, rows to train on; one table for every door."""

import re
from collections.abc import Iterator

NORMAL_FOLDERS = (
    *("good", "normal", "ok", "io", "i_o", "pass", "passed", "healthy", "intact", "perfect", "gut"),
    *("defect_free", "defectfree", "no_defect", "non_defective", "nondefective"),
)
"""Names of folders with normal images; case, blanks and hyphens do not matter, nor a word such as _images after them."""

ABNORMAL_FOLDERS = (
    *("bad", "ng", "nok", "ko", "nio", "n_i_o", "not_ok", "defect", "defects", "defective", "schlecht", "unhealthy", "imperfect"),
    *("abnormal", "anormal", "abnormality", "abnormalities", "anomaly", "anomalies", "anomalous", "outlier", "outliers"),
    *("fail", "failed", "failure", "fault", "faulty", "broken", "damaged", "reject", "rejected", "rejects", "scrap"),
    *("crack", "cracked", "scratch", "scratches", "scratched", "dent", "dented", "contamination", "contaminated"),
)
"""Names of folders with anomalies where no folder of normal images stands next to them."""

UNJUDGED_FOLDERS = ("new", "unlabelled", "unlabeled", "unsorted", "unknown", "incoming", "inbox")
"""Names of folders, next to one of normal images, with images of which nobody has said what they are."""

MASK_FOLDERS = ("ground_truth", "groundtruth", "mask", "masks", "gt", "segmentation", "segmentations", "annotation", "annotations")
"""Names of folders whose images say where anomalies are: never rows."""

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "val", "valid", "validation"), "test"),
}
"""Names of folders that keep rows to fit on and rows to evaluate on apart."""

TWO_KINDS = tuple(map(frozenset, (("positive", "negative"), ("pos", "neg"), ("0", "1"), ("yes", "no"), ("true", "false"))))
"""Names of folders that part two kinds without saying which is normal."""

_MASKS = frozenset({"mask", "masks", "gt", "groundtruth", "segmentation", "segmentations", "annotation", "annotations"})
_OF_MASKS = frozenset({"binary", "pixel", "image", "images"})
_BAD = frozenset(ABNORMAL_FOLDERS)
_SURE = frozenset({"good", "normal", "ok", "healthy", "intact"})  # of longer names: a mountain_pass is a place
_NEGATIONS = frozenset({"no", "not", "non"})
_AFTER = re.compile(r"_(dirs?|folders?|images?|imgs?|pics?|pictures?|photos?|samples?|parts?|data|set)$")
_BETWEEN_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])|[^A-Za-z0-9]+")


def word(name: str) -> str:
    """Return a folder's name as it is compared: lower case, one underline for blanks and hyphens, without _images and the like.

    Examples
    --------
    >>> word("Normal_Dir"), word("Not OK"), word("defect-free"), word("n.i.O."), word("train")
    ('normal', 'not_ok', 'defect_free', 'n_i_o', 'train')
    """
    return _AFTER.sub("", re.sub(r"[\s\-_.]+", "_", name.strip().lower()).strip("_")) or name.lower()


def names_masks(name: str) -> bool:
    """Return whether a folder's name says that its images are masks: one of `MASK_FOLDERS`, or one of their words in a longer name.

    Examples
    --------
    >>> [names_masks(name) for name in ("Ground Truth", "scratch_mask", "maskBad", "good-masks", "test_gt", "binary_masks")]
    [True, True, True, True, True, True]
    >>> [names_masks(name) for name in ("face_mask", "without_mask", "mask_off", "masked")]
    [False, False, False, False]
    """
    pieces = [piece.lower() for piece in _BETWEEN_WORDS.split(name) if piece]
    if word(name) in MASK_FOLDERS:
        return True
    # There are masks that people wear: the other words must say a part, a kind of rows, or a kind of picture.
    others = [piece for piece in pieces if piece not in _MASKS]
    known = all(sense(piece) is not None or piece in ABNORMAL_FOLDERS or piece in PARTS or piece in _OF_MASKS for piece in others)
    return len(others) < len(pieces) and known


def part_and_rest(name: str) -> tuple[str, str] | None:
    """Return the two names that a folder's name puts together: that of a part (see `PARTS`) and what else it says; None for other names.

    Examples
    --------
    >>> [part_and_rest(name) for name in ("train_normal", "TestDefect", "good-train", "training set", "train_1", "monday")]
    [('train', 'normal'), ('Test', 'Defect'), ('train', 'good'), None, None, None]
    """
    pieces = [piece for piece in _BETWEEN_WORDS.split(name) if piece]
    if len(pieces) < 2 or word(name) in PARTS:
        return None
    for part, rest in ((pieces[0], pieces[1:]), (pieces[-1], pieces[:-1])):
        if part.lower() in PARTS and any(piece.isalpha() for piece in rest):
            return part, "_".join(rest)
    return None


def sense(name: str) -> int | None:
    """Return what the words in a folder's name say: 0 normal, 1 anomalies, None where they say nothing or both.

    A negation turns the word after it round, "without" all words after it, and "free" the word before it.

    Examples
    --------
    >>> [sense(name) for name in ("OK_1", "ng2", "bad_scratch", "NonDefective", "without any defect", "train_normal")]
    [0, 1, 1, 0, 0, 0]
    >>> [sense(name) for name in ("monday", "good_and_bad", "mountain_pass")]
    [None, None, None]
    """
    said = set(_senses([piece.lower() for piece in _BETWEEN_WORDS.split(name) if piece]))
    return said.pop() if len(said) == 1 else None


def names_normal(column: str) -> bool:
    """Return whether the name of a label column says normal rows (also beside anomalies), so that 1 or true in it would mean normal.

    Examples
    --------
    >>> [names_normal(name) for name in ("ok", "is_normal", "isGood", "passed", "pass/fail", "defect_free")]
    [True, True, True, True, True, True]
    >>> [names_normal(name) for name in ("label", "nok", "not_ok", "not_passed", "is_defect", "abnormal")]
    [False, False, False, False, False, False]
    """
    words = [piece.lower() for piece in _BETWEEN_WORDS.split(column) if piece]
    if any(one in ("pass", "passed") and words[at - 1 : at] != ["not"] for at, one in enumerate(words)):
        return True
    said = sense(column)
    if said is not None:
        return said == 0
    return "_".join(words).removeprefix("is").strip("_") in NORMAL_FOLDERS or not _SURE.isdisjoint(words)


def _senses(words: list[str]) -> Iterator[int]:
    for position, one in enumerate(words):
        forms = {one, one.removesuffix("s")}
        code = 1 if forms & _BAD else 0 if forms & _SURE else None
        if code is None:
            continue
        before, after = words[:position], words[position + 1 :]
        is_turned = "without" in before or before[-1:] == ["free"] or before[-2:] == ["free", "of"] or after[:1] == ["free"]
        yield 1 - code if is_turned or (before and before[-1] in _NEGATIONS) else code
