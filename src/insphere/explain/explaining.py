"""From a fitted detector and rows to an explanation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import as_rows
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.scoring import Rows
from insphere.errors import DataError, ExplainError
from insphere.explain import gradients, heat, occlusion
from insphere.explain.baselines import Witnesses, make_baselines
from insphere.explain.explanation import ExplainOptions, Explanation
from insphere.explain.maps import at_size
from insphere.explain.neighbours import codes_of, find_neighbours
from insphere.explain.scaling import as_rows_like, scaled, unscaled
from insphere.explain.score_graph import latent_contributions, reconstruct

Array = NDArray[np.float64]

_PATCH_SHARE = 8  # of the longer side


def explain(detector: AbstractDetector, X: Rows, *, normals: Rows | None = None, **options: Any) -> Explanation:
    """Say why rows score as they do.

    Parameters
    ----------
    detector : AbstractDetector
        Fitted.
    X : array, source or path
        As for `AbstractDetector.anomaly_score`. All rows are held in memory: explain the tens or hundreds that matter.
    normals : array, source or path, optional
        Normal examples, such as the rows that the detector was fitted on, for pictures of the nearest ones and better heat-maps. Of a
        source with parts or labels, only the normal training rows are taken. Without it, what the decoder makes of the training codes
        that the model keeps stands in for them, where it keeps any.
    **options
        Fields of `ExplainOptions`; foremost ``method``:

        - "auto": "map" where the detector has heat-maps of its own; else for images "difference", or "occlusion" where there is nothing to
          compare with, and for vectors "integrated-gradients" where the detector is a network, or else "occlusion".
        - "map": the heat-maps that the detector scores by, brought to the image's size; detectors that have them.
        - "difference": smoothed difference from the reconstruction and from the nearest normal examples, whichever there are; images.
        - "reconstruction", "reconstruction-smooth": squared reconstruction error, plain and smoothed; images.
        - "neighbours": smoothed difference from the nearest normal examples alone; images.
        - "integrated-gradients": of the score, through encoder and sphere, from a baseline; networks.
        - "gradient-difference": gradient of the score times the difference from the baseline; networks.
        - "occlusion": what the score loses when a patch or a feature becomes that of the baseline; all detectors.

    Returns
    -------
    Explanation

    Raises
    ------
    ParameterError
        If an option breaks its rule.
    ExplainError
        If the method needs what the detector does not have; the message names what would do.
    DataError
        If the rows do not fit the detector, or none can be read.
    CollapseError
        If the detector gives every row the same score.

    Examples
    --------
    >>> from insphere import CAE
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 1.0, 0.1]
    >>> detector = CAE(epochs=20, random_state=0).fit(X)
    >>> explanation = explain(detector, np.array([[0.0, 0.0, 3.0]]))
    >>> explanation.method, int(explanation.feature_contributions.argmax())
    ('integrated-gradients', 2)
    """
    chosen = ExplainOptions(**options)
    source = detector.open(X)
    scored, maps = _scored(detector, source)
    examples = None if normals is None else detector.open(normals, split="train")
    rows = scored.rows
    network = detector if isinstance(detector, AbstractNeuralDetector) else None
    codes = None if network is None else codes_of(network, rows)
    reconstructions = None if network is None else reconstruct(network, rows)
    neighbours = find_neighbours(detector, rows, codes, examples, chosen.n_neighbors)
    witnesses = Witnesses(scaled(detector, rows), reconstructions, neighbours)
    chosen = dataclasses.replace(chosen, method=_resolve(chosen.method, detector, witnesses))
    explained = _attribute(detector, scored, witnesses, chosen) if chosen.method != "map" else _mapped(scored, maps, chosen)
    latent = None
    if network is not None and network.sphere_ is not None and codes is not None:
        latent = latent_contributions(network.sphere_, codes)
    return dataclasses.replace(
        explained,
        reconstructions=None if reconstructions is None else unscaled(detector, reconstructions, rows),
        latent_contributions=latent,
        neighbours=neighbours,
    )


def _scored(detector: AbstractDetector, source: AbstractSource) -> tuple[Explanation, list[NDArray[np.float32]]]:
    """Return an explanation that has the readable rows and their scores, and nothing else yet; and their heat-maps, if there are any."""
    loaded = source.load()
    names = source.ids if source.ids is not None else [str(row) for row in range(len(source))]
    errors = {names[row]: text for row, text in loaded.errors.items()}
    if not len(loaded.X):
        name, text = next(iter(errors.items()), ("", "it is empty"))
        raise DataError(f"{source.name} has no row that can be explained (first: {name}: {text}).")
    rows = as_rows(loaded.X)
    batches = list(detector.score_batches(ArraySource(loaded.X), maps=True))
    maps = [heatmap for batch in batches if batch.maps is not None for heatmap in batch.maps]
    explanation = Explanation(
        method="",
        source=source.name,
        ids=tuple(names[int(row)] for row in loaded.index),
        rows=rows,
        anomaly_score=np.concatenate([batch.anomaly_score for batch in batches]),
        p_value=np.concatenate([batch.p_value for batch in batches]),
        is_anomaly=np.concatenate([batch.is_anomaly for batch in batches]),
        feature_names=detector.feature_names_,
        errors=errors,
    )
    return explanation, maps


def _mapped(scored: Explanation, maps: list[NDArray[np.float32]], options: ExplainOptions) -> Explanation:
    """Return the explanation with the detector's own heat-maps at the size of the images."""
    heatmaps = np.stack([at_size(heatmap, *scored.rows.shape[1:3]) for heatmap in maps])
    smoothed = heat.smooth(np.maximum(heatmaps, 0), options.smoothing or 0.0)
    return dataclasses.replace(scored, method=options.method, heatmaps=smoothed.astype(np.float32))


def _resolve(method: str, detector: AbstractDetector, witnesses: Witnesses) -> str:
    """Return the method that "auto" stands for, or the one asked for where it applies."""
    is_network, is_image = isinstance(detector, AbstractNeuralDetector), witnesses.values.ndim == 4
    if method == "auto" and detector.has_maps:
        return "map"
    if method == "map" and not detector.has_maps:
        raise ExplainError(f"`method` 'map' needs a detector with heat-maps, and {detector.name!r} has none; use 'auto'.")
    if method == "auto":
        comparable = witnesses.reconstructions is not None or (witnesses.neighbours is not None and witnesses.neighbours.values is not None)
        if is_image:
            return "difference" if comparable else "occlusion"
        return "integrated-gradients" if is_network else "occlusion"
    if method in ("integrated-gradients", "gradient-difference") and not is_network:
        raise ExplainError(f"`method` {method!r} needs a network, and {detector.name!r} has no gradients; use 'occlusion'.")
    if method in ("difference", "reconstruction", "reconstruction-smooth", "neighbours") and not is_image:
        raise ExplainError(f"`method` {method!r} draws heat-maps of images, and these rows are vectors; use 'auto' or 'occlusion'.")
    if method.startswith("reconstruction") and witnesses.reconstructions is None:
        raise ExplainError(f"`method` {method!r} needs a decoder, and {detector.name!r} has none; use 'auto' or 'occlusion'.")
    return method


def _attribute(detector: AbstractDetector, scored: Explanation, witnesses: Witnesses, options: ExplainOptions) -> Explanation:
    """Return the explanation with what the method finds."""
    values, reconstructions, neighbours = witnesses.values, witnesses.reconstructions, witnesses.neighbours
    deviation = heat.smoothing_for(values.shape[1], values.shape[2], options.smoothing) if values.ndim == 4 else 0.0
    by_difference: dict[str, Callable[[], Array]] = {
        "difference": lambda: heat.difference_heat(values, reconstructions, neighbours, deviation),
        "neighbours": lambda: heat.difference_heat(values, None, neighbours, deviation),
        "reconstruction-smooth": lambda: heat.difference_heat(values, reconstructions, None, deviation),
        "reconstruction": lambda: heat.difference_heat(values, reconstructions, None, options.smoothing or 0.0),
    }
    if options.method in by_difference:
        heatmaps = by_difference[options.method]().astype(np.float32)
        return dataclasses.replace(scored, method=options.method, heatmaps=heatmaps)
    attributed = _by_baseline(detector, scored, witnesses, options)
    if values.ndim == 2:
        return dataclasses.replace(attributed, feature_contributions=attributed.attributions)
    return dataclasses.replace(attributed, heatmaps=heat.attribution_heat(_known(attributed), deviation).astype(np.float32))


def _known(explanation: Explanation) -> Array:
    if explanation.attributions is None:
        raise ExplainError(f"`method` {explanation.method!r} makes no attributions.")
    return explanation.attributions


def _by_baseline(detector: AbstractDetector, scored: Explanation, witnesses: Witnesses, options: ExplainOptions) -> Explanation:
    """Return the explanation with signed attributions against a baseline, and the baseline's score."""
    rows = scored.rows
    baselines = make_baselines(detector, rows, witnesses, options.baseline)
    if options.method == "occlusion":
        replacements = as_rows_like(unscaled(detector, baselines, rows), rows)
        if rows.ndim == 2:
            attributions = occlusion.occlude_features(detector, rows, replacements)
        else:
            patch = options.patch or max(1, round(max(rows.shape[1:3]) / _PATCH_SHARE))
            losses = occlusion.occlude_patches(detector, rows, replacements, patch)
            # A patch is replaced in all channels at once: each has an equal share of what that did.
            attributions = np.repeat(losses[..., np.newaxis] / rows.shape[3], rows.shape[3], axis=3)
        baseline_score = detector.anomaly_score(ArraySource(replacements))
    elif isinstance(detector, AbstractNeuralDetector):
        if options.method == "integrated-gradients":
            attributions = gradients.integrated_gradients(detector, rows, baselines, options.n_steps)
        else:
            attributions = gradients.gradient_times_difference(detector, rows, baselines)
        baseline_score = gradients.score_of(detector, baselines)
    return dataclasses.replace(scored, method=options.method, attributions=attributions, baseline_score=baseline_score)
