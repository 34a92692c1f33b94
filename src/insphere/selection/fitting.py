"""One call from rows to a fitted detector, where the user names none."""

from collections.abc import Callable
from typing import Any

from insphere.data import open_source
from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import make
from insphere.detectors.scoring import Rows
from insphere.errors import ParameterError, SourceNotice, warn_user
from insphere.selection.automatic import fit_automatically
from insphere.selection.choosing import Choice, choose


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

    Photos, pictures whose longer side has more than 64 pixels, get `PhotoSpheres`, and so do smaller ones from 12 pixels where a trained
    network is installed; other small pictures get `TransformSVDD`, or `DeepSVDDVAE` where that would take long; vectors `Fusion`, or
    `DeepSVDDVAE` where they are many or long (`insphere.selection.choosing` has the bounds), or a parameter is given that the others lack.
    A `SourceNotice` says which it is and why.

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
        return fit_automatically(source, minutes=10.0 if minutes is None else minutes, on_epoch=on_epoch, on_rows=on_rows, **parameters)
    if minutes is not None:
        raise ParameterError("`minutes` says how long `auto` may take; add auto=True, or leave it out.")
    opened = open_source(source, split="train")
    choice = choose(opened, parameters) if detector is None else Choice(detector, parameters=parameters)
    if choice.reason:
        instead = f" detector={choice.other!r} fits that one instead." if choice.other else ""
        warn_user(f"{choice.reason}{instead}", SourceNotice)
    made = make(choice.name, choice.parameters)
    return made.fit(made.open_to_fit(opened), on_epoch=on_epoch, on_rows=on_rows)
