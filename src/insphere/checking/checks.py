"""The checks of a source, each one function from a survey to a finding."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from insphere.checking.findings import CheckReport, DataFinding, first_names, listed
from insphere.checking.likeness import exact_duplicates, near_duplicates, outliers
from insphere.checking.masks import check_masks
from insphere.checking.survey import Survey, joined, survey
from insphere.data import AbstractSource
from insphere.data.rows import Notice
from insphere.errors import DataError

LEAST_ROWS, FEW_ROWS = 8, 100
"""Normal rows below which `fit` refuses, and below which a detector is a rough one and its threshold loose."""

_UNREADABLE_SHARE = 0.01
_STRETCH = 1.25  # ratio of the widest to the narrowest aspect from which bringing all to one size distorts


def check_source(source: AbstractSource, *, test: AbstractSource | None = None) -> CheckReport:
    """Say whether a source is fit to learn from and to measure with, and what to do where it is not.

    Nothing is trained and no label is used but to tell the normal rows. Two passes are made over the rows.

    Parameters
    ----------
    source : AbstractSource
        Images or vectors; with parts or labels where there are any.
    test : AbstractSource, optional
        Rows to be scored or measured on, checked for copies of rows in `source`, all of which then count as training rows.

    Returns
    -------
    CheckReport

    Raises
    ------
    DataError
        If the two sources have rows of different shapes.

    Examples
    --------
    >>> from insphere.data import ArraySource
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> report = check_source(ArraySource(np.concatenate([X, X[:1]])))
    >>> [(finding.name, finding.groups) for finding in report.at_least("warning")]
    [('exact duplicates', (('0', '200'),))]
    """
    if test is not None and test.row_shape != source.row_shape:
        raise DataError(
            f"The rows of {test.name} have the shape {test.row_shape}, those of {source.name} {source.row_shape}; give two sources of the"
            " same kind."
        )
    known = survey(source, part=None if test is None else "train")
    name = source.name
    if test is not None:
        name, known = f"{source.name} and {test.name}", joined(known, survey(test, part="test"))
    checks: list[Callable[[Survey], DataFinding]] = [_unreadable, _enough, _labels]
    checks += [_sizes, _modes, _constant_images] if known.is_image else [_constant_columns, _duplicate_columns]
    checks += [_exact_duplicates, *([_near_duplicates] if known.is_image else []), _copies_across, _outliers]
    doubts = [DataFinding("folders" if source.is_image else "columns", "error", text, 1) for text in (source.doubt,) if text is not None]
    masks = [found for given in (source, test) if given is not None for found in (check_masks(given),) if found is not None]
    told = [_notice(notice, given) for given in (source, test) if given is not None for notice in given.notices]
    return CheckReport(name, len(known), (*doubts, *told, *(check(known) for check in checks), *masks))


def _notice(notice: Notice, source: AbstractSource) -> DataFinding:
    """Return what a source tells of itself as a finding; what is read as something else than what is stored deserves a look."""
    level = "note" if notice.kind in ("taken as", "shrunk") else "warning"
    return DataFinding(notice.kind, level, f"{source.name}: {notice}", notice.count, listed([[name] for name in notice.examples]))


def _unreadable(known: Survey) -> DataFinding:
    name, errors = "unreadable rows", known.errors
    if not errors:
        return DataFinding(name, "ok", f"Every row can be read: {len(known)}.")
    reasons = [f"{known.names[row]}: {text.rstrip('.')}" for row, text in sorted(errors.items())]
    text = (
        f"Rows that cannot be read: {len(errors)} of {len(known)} ({first_names(reasons, most=2)}). They are left out of"
        " a fit and get no score: mend or remove them."
    )
    level = "error" if known.is_image or len(errors) > _UNREADABLE_SHARE * len(known) else "warning"
    return DataFinding(name, level, text, len(errors), listed([[known.names[row]] for row in sorted(errors)]))


def _enough(known: Survey) -> DataFinding:
    n_rows = len(known.normal)
    text = f"Readable normal rows to learn from: {n_rows}."
    if n_rows < LEAST_ROWS:
        advice = f" A fit needs at least {LEAST_ROWS}; a few hundred make a usable detector."
        return DataFinding("enough rows", "error", text + advice, n_rows)
    if n_rows < FEW_ROWS:
        advice = f" With fewer than {FEW_ROWS} the detector is rough and its false-alarm rate uncertain: collect more normal examples."
        return DataFinding("enough rows", "warning", text + advice, n_rows)
    return DataFinding("enough rows", "ok", text, n_rows)


def _labels(known: Survey) -> DataFinding:
    name = "labels"
    if (known.labels < 0).all():
        return DataFinding(name, "ok", "No labels: all rows are taken as normal.")
    n_normal, n_anomaly = (int(np.count_nonzero(known.labels == label)) for label in (0, 1))
    text = f"Rows labelled normal: {n_normal}; anomalies: {n_anomaly}."
    conflicting = [rows for rows in exact_duplicates(known) if len({int(known.labels[row]) for row in rows} - {-1}) > 1]
    if conflicting:
        n_rows = sum(map(len, conflicting))
        advice = f" Equal rows with both labels: {n_rows} ({_examples(known, conflicting)}): find out which is right."
        return DataFinding(name, "error", text + advice, n_rows, _named(known, conflicting))
    in_training = [row for row in range(len(known)) if known.parts[row] == "train" and known.labels[row] == 1]
    if in_training:
        names = [known.names[row] for row in in_training]
        advice = f" Anomalies in the training part: {len(names)} ({first_names(names)}); a fit leaves them out: move them to the test."
        return DataFinding(name, "warning", text + advice, len(names), listed([[item] for item in names]))
    tested = [row for row in range(len(known)) if known.parts[row] != "train"]
    kinds = {int(known.labels[row]) for row in tested} - {-1}
    if tested and len(kinds) == 1:
        missing = "anomaly" if kinds == {0} else "normal row"
        return DataFinding(name, "note", f"{text} There is no {missing} to measure a detector with; fitting and scoring need none.")
    return DataFinding(name, "ok", text)


def _sizes(known: Survey) -> DataFinding:
    sizes = Counter((header.height, header.width) for header in known.headers if header is not None)
    if not sizes:
        return DataFinding("sizes", "ok", "The images are an array of one size.")
    if len(sizes) == 1:
        ((height, width),) = sizes
        return DataFinding("sizes", "ok", f"All images have {width} × {height} pixels.")
    (height, width), count = sizes.most_common(1)[0]
    aspects = [rows / columns for rows, columns in sizes]
    text = (
        f"{len(sizes)} different sizes, most often {width} × {height} ({count} of {sizes.total()}), heights {min(s[0] for s in sizes)} to"
        f" {max(s[0] for s in sizes)}, widths {min(s[1] for s in sizes)} to {max(s[1] for s in sizes)}. All are brought to one size."
    )
    odd = [row for row, header in enumerate(known.headers) if header is not None and (header.height, header.width) != (height, width)]
    if max(aspects) / min(aspects) < _STRETCH:
        return DataFinding("sizes", "note", text, len(odd))
    text += f" Their shapes differ by a factor of {max(aspects) / min(aspects):.2g}, so some are stretched: crop them alike before a fit."
    return DataFinding("sizes", "warning", text, len(odd), listed([[known.names[row]] for row in odd]))


def _modes(known: Survey) -> DataFinding:
    kinds = Counter(header.kind for header in known.headers if header is not None)
    if len(kinds) < 2:
        (kind,) = kinds or ("array",)
        return DataFinding("modes", "ok", f"All images are of one kind ({kind}).")
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    rare = kinds.most_common()[-1][0]
    odd = [row for row, header in enumerate(known.headers) if header is not None and header.kind == rare]
    names = [known.names[row] for row in odd]
    text = (
        f"Images of several kinds: {counts} (for example {first_names(names)}). They come from different cameras or exports, and a detector"
        " may learn that instead of the product: export all alike, or choose --mode grey or rgb."
    )
    return DataFinding("modes", "warning", text, len(odd), listed([[item] for item in names]))


def _constant_images(known: Survey) -> DataFinding:
    names = [known.names[row] for row in known.readable[known.constant[known.readable]].tolist()]
    if not names:
        return DataFinding("constant images", "ok", "No image is of one colour alone.")
    text = f"Images of one colour alone: {len(names)} ({first_names(names)}); empty or failed exposures: remove them."
    return DataFinding("constant images", "warning", text, len(names), listed([[item] for item in names]))


def _constant_columns(known: Survey) -> DataFinding:
    values = known.places[known.normal]
    found = np.flatnonzero((values == values[:1]).all(axis=0)).tolist() if len(values) > 1 else []
    names = [known.feature_names[column] for column in found]
    if not names:
        return DataFinding("constant columns", "ok", "Every column varies.")
    text = (
        f"Columns with one value in all normal rows: {len(names)} ({first_names(names)}); leave them out (--columns) or check the sensor."
    )
    return DataFinding("constant columns", "warning", text, len(names), listed([[item] for item in names]))


def _duplicate_columns(known: Survey) -> DataFinding:
    values = known.places[known.readable]
    groups: dict[bytes, list[str]] = {}
    varying = np.flatnonzero((values != values[:1]).any(axis=0)).tolist() if len(values) else []
    for column in varying:
        groups.setdefault(np.ascontiguousarray(values[:, column]).tobytes(), []).append(known.feature_names[column])
    equal = [names for names in groups.values() if len(names) > 1]
    if not equal:
        return DataFinding("duplicate columns", "ok", "No two columns are equal.")
    text = (
        f"Columns that are there more than once: {len(equal)} ({' = '.join(equal[0])}). They count twice: keep one of each with --columns."
    )
    return DataFinding("duplicate columns", "warning", text, sum(map(len, equal)), listed(equal))


def _exact_duplicates(known: Survey) -> DataFinding:
    groups = exact_duplicates(known)
    if not groups:
        return DataFinding("exact duplicates", "ok", "No two rows are equal.")
    n_extra = sum(len(rows) - 1 for rows in groups)
    text = (
        f"Rows that are copies of others: {n_extra} ({_examples(known, groups)}). Copies count twice in training, and one"
        " that is held out makes the threshold too low: keep one of each."
    )
    return DataFinding("exact duplicates", "warning", text, n_extra, _named(known, groups))


def _near_duplicates(known: Survey) -> DataFinding:
    groups = near_duplicates(known)
    if not groups:
        return DataFinding("near duplicates", "ok", "No two images look like copies of each other.")
    n_extra = sum(len(rows) - 1 for rows in groups)
    text = (
        f"Images that look almost like others: {n_extra} ({_examples(known, groups)}): the same picture saved again, or"
        " frames of one film. Keep one of each, or hold them out together (`groups`)."
    )
    return DataFinding("near duplicates", "warning", text, n_extra, _named(known, groups))


def _copies_across(known: Survey) -> DataFinding:
    """Find test rows that are, or look like, training rows: what is measured on them is not what new data will show."""
    name = "copies across train and test"
    if not {"train", "test"} <= set(known.parts):
        return DataFinding(name, "ok", "There are no separate training and test rows to compare.")
    exact = [rows for rows in exact_duplicates(known) if len({known.parts[row] for row in rows}) > 1]
    near = [rows for rows in near_duplicates(known) if len({known.parts[row] for row in rows}) > 1] if known.is_image else []
    if not exact and not near:
        return DataFinding(name, "ok", "No test row is a copy of a training row.")
    n_equal, n_alike = (sum(known.parts[row] == "test" for rows in groups for row in rows) for groups in (exact, near))
    text = (
        f"Test rows that equal training rows: {n_equal}, that look almost like one: {n_alike}"
        f" ({_examples(known, exact + near)}). Figures measured on them are too good: remove them from one side."
    )
    return DataFinding(name, "error" if exact else "warning", text, n_equal + n_alike, _named(known, exact + near))


def _outliers(known: Survey) -> DataFinding:
    found = outliers(known).tolist()
    if not found:
        return DataFinding("outliers", "ok", "No normal row lies far from all others.")
    names = [known.names[row] for row in found]
    text = (
        f"Normal rows far from all others: {len(found)} of {len(known.normal)}, the farthest first: {first_names(names)}. Look at them: if"
        " they are anomalies, remove them, or fit with --set trim=0.05; if they are rare but normal, add more like them."
    )
    return DataFinding("outliers", "warning", text, len(found), listed([[item] for item in names]))


def _named(known: Survey, groups: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
    return listed([[known.names[row] for row in rows] for rows in groups])


def _examples(known: Survey, groups: Sequence[Sequence[int]]) -> str:
    return "; ".join(" = ".join(known.names[row] for row in rows[:3]) for rows in groups[:2]) + ("; ..." if len(groups) > 2 else "")
