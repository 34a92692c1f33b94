"""Which detector suits a source, where the user names none: by what its rows are, without labels, and said."""

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from insphere.data import AbstractSource, ImageSource
from insphere.detectors.catalog import check, detector_class
from insphere.errors import ParameterError
from insphere.nets.backbones import BACKBONES, SCRATCH

DEFAULT = "vae-svdd"
"""Detector of what the others are too slow for: many rows, long vectors, pictures between `MOST_PIXELS` and `LARGER_THAN`."""

SMALL = "transform-svdd"
"""Detector of small pictures that `PHOTOS` is not for.

Ten digits of 28 × 28 pixels, each the normal one: a mean AUROC of 98.6, `DEFAULT` 97.3 (``benchmarks/reports/digits.md``); ten classes of
CIFAR-10 85.7 and 65.6. Trials without labels take it on all sets of small pictures (``benchmarks/reports/choice.md``).
"""

MOST_PIXELS = 1600
"""Height times width of pictures for which `SMALL` is taken: a training takes one core about a minute at 28 × 28, two at 40 × 40, eight
at 64 × 64, three to seven times as long as that of `DEFAULT`."""

TABLES = "fusion"
"""Detector of vectors, on tables ahead of `DEFAULT` and of nearest neighbours (``benchmarks/reports/adbench.md``)."""

MOST_FEATURES, MOST_ROWS, MOST_VALUES = 2048, 50_000, 12_800_000
"""Vectors for which `TABLES` is taken: it compares with rows, which takes longer the more and the longer they are.

Of long ones a code keeps least of what matters: of 2,000 rows with 1,000 features that twenty factors make, `DEFAULT` tells rows off that
plane with an AUROC of 51, `TABLES` with 100 (made-up rows, one seed).
"""

PHOTOS = "photo"
"""Detector of photos, and of small pictures where a trained network is there to see them with.

Mean AUROC on the ten classes of CIFAR-10 92.8, of `SMALL` 85.7, of `DEFAULT` 65.6; on the ten digits of MNIST 99.0, 98.6 and 97.3; and it
is fitted sooner (``benchmarks/reports/photos.md`` and ``digits.md``, one seed).
"""

LARGER_THAN = 64
"""Pixels: pictures whose longer side is longer are photos, of which small marks would vanish at the size of `DEFAULT`."""

SEEN_FROM = 12
"""Pixels of the shorter side from which a trained network sees more in small pictures than `SMALL` learns from them.

Ten digits of 8 × 8 pixels: a mean AUROC of 97.8 by the network, 99.1 by `SMALL`; two of MNIST at 12 × 12: 98.6 and 96.1; at 16 × 16: 99.0
and 97.8 (one seed, at most 1,500 rows, labels looked at; nothing between 8 and 12 was).
"""

_REMEDY = "pip install 'insphere[photos]' brings a trained network, which finds more"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A detector and why it was chosen, as a sentence; no reason where there is nothing to say.

    `other` names the detector that one would take instead, if any; `parameters` are those that the user sets, and what else was chosen
    with the detector.
    """

    name: str
    reason: str = ""
    other: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def choose(source: AbstractSource, parameters: Mapping[str, Any] = MappingProxyType({})) -> Choice:
    """Return the detector for the rows of a source.

    Parameters
    ----------
    source : AbstractSource
        Opened; no image is decoded.
    parameters : mapping
        Parameters that the user sets, by their names: a detector that lacks one is not chosen.

    Examples
    --------
    >>> from insphere.data import open_source
    >>> choose(open_source([[1.0, 2.0], [3.0, 4.0]])).name
    'fusion'
    """
    size = size_of(source)
    if size is None:
        return _of_vectors(source, parameters)
    if max(size) <= LARGER_THAN:
        return _of_small(source, size, parameters)
    trained, foreign = _sees(parameters), _foreign(PHOTOS, parameters)
    shown = f"The pictures are larger than {LARGER_THAN} pixels ({size[1]:.0f} × {size[0]:.0f})"
    if foreign:
        reason = f"{shown}, but the detector {PHOTOS} has no {', '.join(foreign)}: {DEFAULT} is fitted."
        return Choice(DEFAULT, reason, parameters=parameters)
    so = f"{shown}, so the detector {PHOTOS} is fitted"
    if not trained:
        return Choice(PHOTOS, f"{so}, with backbone={SCRATCH}; {_REMEDY}.", DEFAULT, {**parameters, "backbone": SCRATCH})
    return Choice(PHOTOS, f"{so}.", DEFAULT, parameters)


def _of_vectors(source: AbstractSource, parameters: Mapping[str, Any]) -> Choice:
    n_features = source.row_shape[0]
    foreign = _foreign(TABLES, parameters)
    if len(source) > MOST_ROWS:
        shown = f"The rows are more than {MOST_ROWS:,} vectors"
    elif len(source) * n_features > MOST_VALUES:
        shown = f"The rows are vectors of more than {MOST_VALUES:,} values in all"
    elif n_features > MOST_FEATURES:
        shown = f"The rows are vectors of more than {MOST_FEATURES:,} features"
    elif foreign:
        shown = f"The rows are vectors, and {TABLES} has no {', '.join(foreign)}"
    else:
        return Choice(TABLES, f"The rows are vectors, so the detector {TABLES} is fitted.", DEFAULT, parameters)
    return Choice(DEFAULT, f"{shown}, so the detector {DEFAULT} is fitted.", parameters=parameters)


def _of_small(source: AbstractSource, size: tuple[float, float], parameters: Mapping[str, Any]) -> Choice:
    """Return the detector of pictures of at most `LARGER_THAN` pixels: the first that sees them, takes the parameters and is not slow."""
    shown = f"The pictures are small ({size[1]:.0f} × {size[0]:.0f} pixels)"
    trained, foreign = _sees(parameters), bool(_foreign(DEFAULT, parameters))
    many = len(source) > MOST_ROWS
    slow = many or math.prod(size) > MOST_PIXELS
    by_versions = _takes(SMALL, parameters) and (foreign or not slow)
    seen = source.row_shape[2] in (1, 3) and min(size) >= SEEN_FROM and not _foreign(PHOTOS, parameters) and _as_in_files(source)
    if seen and (trained or (foreign and not by_versions)):
        own = parameters if trained else {**parameters, "backbone": SCRATCH}
        so = "which knows what pictures show" if trained else f"with backbone={SCRATCH}; {_REMEDY}"
        return Choice(PHOTOS, f"{shown}, so the detector {PHOTOS} is fitted, {so}.", SMALL if by_versions else DEFAULT, own)
    more = f" To see more in them: {_REMEDY}." if seen else ""
    if by_versions:
        so = f"so the detector {SMALL} is fitted, slower than {DEFAULT} and better on the sets that were measured"
        return Choice(SMALL, f"{shown}, {so}.{more}", DEFAULT, parameters)
    if slow:
        why = f" and more than {MOST_ROWS:,}" if many else f" but have more than {MOST_PIXELS:,} pixels in all"
    else:
        why = f", and {SMALL} does not take these parameters"
    return Choice(DEFAULT, f"{shown}{why}, so the detector {DEFAULT} is fitted.{more}", parameters=parameters)


def _sees(parameters: Mapping[str, Any]) -> bool:
    """Return whether `PHOTOS` has a network to see with: one that the user names, or the weights that come in a package."""
    return "backbone" in parameters or importlib.util.find_spec(BACKBONES["efficientnet-lite0"].package) is not None


def _as_in_files(source: AbstractSource) -> bool:
    """Return whether pixels are 0..255, as image files have them: arrays of other types may hold anything."""
    return isinstance(source, ImageSource) or source.dtype == np.uint8


def _foreign(name: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the parameters that a detector does not have."""
    return sorted(set(parameters) - set(detector_class(name)._get_param_names()))


def _takes(name: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether a detector has all these parameters and takes their values: others are for `DEFAULT`, or to be refused by it."""
    try:
        check(name, parameters)
    except ParameterError:
        return False
    return True


def size_of(source: AbstractSource) -> tuple[float, float] | None:
    """Return the height and width of the pictures, as they are or as the user wants them; None where rows are vectors."""
    if isinstance(source, ImageSource) and source.natural is not None:
        return source.natural
    return (source.row_shape[0], source.row_shape[1]) if source.is_image else None
