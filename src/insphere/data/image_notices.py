"""What the user of images is told: what is left out of them as they are decoded, and which marks vanish as they are shrunk."""

from collections.abc import Mapping, Sequence

from insphere.data.image_sizes import LONGEST_SIDE, lost_marks
from insphere.data.images import ImageSpec
from insphere.data.rows import Notice

_MARKS_FROM = 4
"""Pixels from which it is told that marks of fewer are lost."""

_EXAMPLES = 5

_REMARKS = {
    "pages": "Files with more than one page or frame, of which the first is read: {n}; pages left out: {amount}. Store them one by one.",
    "colour": "Images with colours that a grey model does not see, and which are read as grey: {n}.",
    "depth": "Images with more than 8 bits of grey or a colour, which are read with 8, so that finer steps are lost: {n}.",
}


def told_of(remarks: Mapping[str, Mapping[int, int]], ids: Sequence[str] | None) -> list[Notice]:
    """Return what is to be told of decoded images: for each kind of remark the rows that it is true of, and how often."""
    counted = {}
    for kind, rows in remarks.items():
        names = [ids[row] if ids is not None else f"row {row}" for row in sorted(rows)[:_EXAMPLES]]
        counted[kind] = (len(rows), sum(rows.values()), names)
    return counted_remarks(counted)


def counted_remarks(counted: Mapping[str, tuple[int, int, Sequence[str]]]) -> list[Notice]:
    """Return the same of remarks that have been counted: for each kind the number of images, how often in all, and some names."""
    found = [(text, *counted[kind]) for kind, text in _REMARKS.items() if kind in counted and counted[kind][0]]
    return [Notice("left out", n, text.format(n=n, amount=amount), tuple(names)) for text, n, amount, names in found]


def told_of_size(n_images: int, natural: tuple[float, float] | None, spec: ImageSpec) -> list[Notice]:
    """Return what is to be told of images that are shrunk to a size which nobody asked for: that small marks vanish.

    Parameters
    ----------
    natural : (float, float), optional
        Their common or median height and width; None where the size was asked for.

    Examples
    --------
    >>> [notice] = told_of_size(5, (600.0, 800.0), ImageSpec(48, 64, 3))
    >>> notice.text[:110]
    'Images of 800 × 600 pixels are shrunk to 64 × 48 by detectors other than photo: a mark below 12 pixels is lost'
    """
    if natural is None:
        return []
    lost = lost_marks(natural, (spec.height, spec.width))
    if lost < _MARKS_FROM:
        return []
    is_small = max(spec.height, spec.width) <= LONGEST_SIDE
    who = " by detectors other than photo" if is_small else ""
    other = "take the detector photo (--detector photo, `PhotoSpheres`)" if is_small else "cut the pictures into windows (tiles=auto)"
    remedy = f"{other}, or choose a larger size"
    text = (
        f"Images of {natural[1]:.0f} × {natural[0]:.0f} pixels are shrunk to {spec.width} × {spec.height}{who}: a mark below {lost} pixels"
        f" is lost. Where such marks matter, {remedy} (--image-size, `image_size`)."
    )
    return [Notice("shrunk", n_images, text)]
