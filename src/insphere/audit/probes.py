"""The checks of an audit, one function each: they ask a fitted detector, or fit it again, and give a finding."""

import copy
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere import model_file
from insphere.audit.comparing import alike, apart, area, difference, rate, spread
from insphere.audit.findings import AuditFinding
from insphere.audit.rows import Parted
from insphere.audit.subjects import Scorer, Subject, quiet, subject_of
from insphere.detectors.base import AbstractDetector
from insphere.detectors.stored import KIND
from insphere.errors import InsphereError
from insphere.estimate import Estimate
from insphere.export import export_onnx
from insphere.scores.neighbours import Neighbours

FloatArray = NDArray[np.float64]
Pairs = Sequence[tuple[FloatArray, FloatArray]]

ROUNDING = 1e-4
"""Difference of two scores of a row, in units of the interquartile range of all, up to which it counts as rounding."""

SAME = 0.99999
"""Rank correlation from which two scorings count as the same."""

N_NEIGHBORS = 5

_SMALL_STEP, _FEW_ROWS = 0.05, 0.02  # of the scores' spread, and of the rows: what rounding does to scores that are steps
_ALONE = 40  # rows that are scored alone
_FEW_DISTINCT, _MANY_EQUAL = 0.05, 0.5
_TOO_WIDE = 0.3  # an interval that holds nearly any rate


def check_scores(scores: FloatArray, n_rows: int) -> AuditFinding:
    """Check that each row has one score, that it is a number, and that scores tell rows apart."""
    if len(scores) != n_rows:
        return AuditFinding("scores", "error", f"{n_rows} rows have {len(scores)} scores; each must have one.")
    n_bad = int((~np.isfinite(scores)).sum())
    if n_bad:
        return AuditFinding(
            "scores", "error", f"{n_bad} of {n_rows} rows have a score that is not a finite number.", {"n_not_finite": n_bad}
        )
    values, counts = np.unique(scores, return_counts=True)
    figures = {"n_rows": n_rows, "n_distinct": len(values), "largest_share_of_one": float(counts.max() / n_rows)}
    if len(values) == 1:
        return AuditFinding("scores", "error", f"All {n_rows} rows have the same score: it says nothing.", figures)
    if counts.max() > _MANY_EQUAL * n_rows or len(values) < _FEW_DISTINCT * n_rows:
        text = f"{n_rows} rows have {len(values)} different scores, and {counts.max()} rows one of them: few can be told apart."
        return AuditFinding("scores", "warning", text, figures)
    return AuditFinding("scores", "ok", f"{n_rows} rows have {len(values)} different scores, all finite.", figures)


def check_training(subject: Subject, part: Parted, scorer: Scorer, still: "tuple[str, Scorer] | None", seed: int) -> AuditFinding:
    """Check that training changes scores: against the subject that has not learned, and against one that was fitted on noise."""
    trained = scorer.scores(part.test)
    figures: dict[str, Any] = {}
    same: list[str] = []
    alike_to: list[str] = []
    try:
        noise: FloatArray | None = subject.fit(noise_like(part.train, seed), **subject.seeded(seed)).scores(part.test)
    except Exception as error:  # whatever others raise on noise says little of these rows
        figures["fit_on_noise"], noise = f"{type(error).__name__}: {error}", None
    untrained = None if still is None else still[1].scores(part.test)
    for name, scores, words in (
        ("rank_correlation_with_fit_on_noise", noise, "fitted on noise instead of these rows"),
        ("rank_correlation_with_untrained", untrained, f"not trained at all ({'' if still is None else still[0]})"),
    ):
        if scores is None or len(scores) != len(trained):
            continue
        figures[name] = alike(trained, scores)
        if figures[name] > SAME:
            (same if apart(trained, scores) <= ROUNDING else alike_to).append(words)
    if same:
        text = f"Training changes nothing: new rows score the same where it is {' and '.join(same)}."
        return AuditFinding("training", "error", text, figures)
    if alike_to:
        text = f"Training changes hardly anything: new rows rank the same (correlation above {SAME}) where it is {' and '.join(alike_to)}."
        return AuditFinding("training", "warning", text, figures)
    compared = [f"{value:.2f} {text}" for text, value in _compared(figures)]
    if not compared:
        return AuditFinding("training", "skipped", "It could be fitted on these rows only, so there is nothing to compare.", figures)
    return AuditFinding("training", "ok", f"Training changes how new rows rank: rank correlation {', '.join(compared)}.", figures)


def _compared(figures: dict[str, Any]) -> list[tuple[str, float]]:
    named = {
        "rank_correlation_with_untrained": "with itself untrained",
        "rank_correlation_with_fit_on_noise": "with itself fitted on noise",
    }
    return [(text, figures[name]) for name, text in named.items() if isinstance(figures.get(name), float)]


def noise_like(X: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return rows of uniform noise as many as `X`, between the least and the largest value of each feature.

    Examples
    --------
    >>> noise_like(np.array([[0.0, 5.0], [1.0, 5.0]]), 0)[:, 1]
    array([5., 5.])
    """
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    drawn = np.random.default_rng([seed, 1]).uniform(size=X.shape) * (high - low) + low
    whole = np.issubdtype(X.dtype, np.integer)
    noise: NDArray[Any] = np.rint(drawn).astype(X.dtype) if whole else drawn.astype(X.dtype)
    return noise


def check_seed(subject: Subject, part: Parted, scorer: Scorer, seed: int) -> AuditFinding:
    """Check that two fits on the same rows, with the same seed, give the same scores."""
    seeded = subject.seeded(seed)
    first, second = scorer.scores(part.test), subject.fit(part.train, **seeded).scores(part.test)
    moved, order = apart(first, second), alike(first, second)
    figures = {"difference": moved, "rank_correlation": order}
    given = f"the same {next(iter(seeded))}" if seeded else "the same parameters"
    if moved <= ROUNDING:
        return AuditFinding("same seed", "ok", f"Two fits with {given} give the same scores{_rounded(moved)}.", figures)
    text = f"Two fits with {given} give other scores (rank correlation {order:.3f}): a result can't be had again."
    return AuditFinding("same seed", "warning" if seeded else "note", text, figures)


def check_again(part: Parted, scorer: Scorer) -> AuditFinding:
    """Check that rows that are scored twice score the same."""
    moved = apart(scorer.scores(part.test), scorer.scores(part.test))
    if moved <= ROUNDING:
        return AuditFinding("scored again", "ok", f"Rows that are scored twice score the same{_rounded(moved)}.", {"difference": moved})
    text = f"Rows that are scored twice score otherwise, by up to {moved:.2g} of the scores' spread: a score depends on chance."
    return AuditFinding("scored again", "error", text, {"difference": moved})


def check_batch(part: Parted, scorer: Scorer) -> AuditFinding:
    """Check that a row's score and decision do not depend on which rows are scored with it."""
    X = part.test
    whole = scorer.scores(X)
    alone_at = np.linspace(0, len(X) - 1, min(_ALONE, len(X))).astype(int)
    try:
        alone = np.array([scorer.scores(X[row : row + 1])[0] for row in alone_at])
    except Exception as error:
        text = f"It cannot score a row alone ({type(error).__name__}: {error}): scores must not need other rows."
        return AuditFinding("batch", "error", text)
    sevens = np.concatenate([scorer.scores(X[start : start + 7]) for start in range(0, min(len(X), 350), 7)])
    moved = {"alone": _moved(whole, alone_at, alone), "in sevens": _moved(whole, np.arange(len(sevens)), sevens)}
    n_moved = int((np.abs(sevens - whole[: len(sevens)]) > ROUNDING * spread(whole)).sum())
    figures: dict[str, Any] = {"alone": moved["alone"], "in_sevens": moved["in sevens"], "n_moved_in_sevens": n_moved}
    if scorer.decides:
        together = scorer.flags(X)[alone_at]
        figures["n_decisions_that_differ"] = int((np.array([scorer.flags(X[row : row + 1])[0] for row in alone_at]) != together).sum())
    worst = max(moved, key=lambda way: moved[way])
    if ROUNDING < moved[worst] < _SMALL_STEP and n_moved < _FEW_ROWS * len(sevens):
        text = (
            f"{n_moved} of {len(sevens)} rows score otherwise in sevens, by {moved[worst]:.2g} of their spread: rounding at the edge of"
            " a bin or leaf does that."
        )
        return AuditFinding("batch", "note", text, figures)
    if moved[worst] > ROUNDING:
        text = f"Scores depend on the rows scored together: {worst} they differ by {moved[worst]:.2g} of their spread from all at once."
        return AuditFinding("batch", "error", text, figures)
    if figures.get("n_decisions_that_differ"):
        text = f"{figures['n_decisions_that_differ']} of {len(alone_at)} rows are decided otherwise alone, at equal scores."
        return AuditFinding("batch", "error", text, figures)
    return AuditFinding("batch", "ok", f"A row scores the same alone, in sevens and among all{_rounded(moved[worst])}.", figures)


def _moved(whole: FloatArray, at: NDArray[Any], scores: FloatArray) -> float:
    placed = whole.copy()
    placed[at] = scores
    return apart(whole, placed)


def check_order(part: Parted, scorer: Scorer, seed: int) -> AuditFinding:
    """Check that the order of the rows changes no score."""
    X = part.test
    order = np.random.default_rng([seed, 2]).permutation(len(X))
    placed = np.empty(len(X))
    placed[order] = scorer.scores(X[order])
    moved = apart(scorer.scores(X), placed)
    if moved <= ROUNDING:
        return AuditFinding("order", "ok", f"The order of rows changes no score{_rounded(moved)}.", {"difference": moved})
    text = f"The order of rows changes scores by up to {moved:.2g} of their spread."
    return AuditFinding("order", "error", text, {"difference": moved})


def check_test_data(subject: Subject, part: Parted, scorer: Scorer, seed: int) -> AuditFinding:
    """Check that scoring learns nothing: rows score the same after others were scored, and no row given is changed."""
    figures: dict[str, Any] = {}
    kept = part.test.copy()
    given = kept.copy()
    before = scorer.scores(given)
    changed = [] if np.array_equal(given, kept, equal_nan=True) else ["scoring"]
    others = noise_like(part.train, seed)
    scorer.scores(others)
    if scorer.decides:
        scorer.flags(others)
    figures["difference_after_other_rows"] = apart(before, scorer.scores(kept))
    if subject.trains:
        train = part.train.copy()
        subject.fit(train, **subject.seeded(seed))
        if not np.array_equal(train, part.train, equal_nan=True):
            changed.append("fitting")
    if figures["difference_after_other_rows"] > ROUNDING:
        text = "Scoring other rows changes the model: the same rows score otherwise after it. Test data is learned from."
        return AuditFinding("test data", "error", text, figures)
    if changed:
        return AuditFinding("test data", "error", f"The array that it is given is changed by {' and '.join(changed)}.", figures)
    return AuditFinding("test data", "ok", "Scoring leaves the model and the rows as they were.", figures)


def check_labels(subject: Subject, part: Parted, scorer: Scorer, seed: int) -> AuditFinding:
    """Find out whether `fit` uses labels that it is given, here drawn at random; all rows are normal."""
    if isinstance(scorer.model, AbstractDetector):
        return AuditFinding("labels", "ok", "fit(X, y) leaves out what y marks as an anomaly, says so, and learns from nothing else.")
    y = np.random.default_rng([seed, 3]).integers(0, 2, len(part.train))
    try:
        with_labels = subject.fit(part.train, y, **subject.seeded(seed)).scores(part.test)
    except Exception as error:
        return AuditFinding("labels", "skipped", f"fit(X, y) fails ({type(error).__name__}: {error}).")
    without = subject.fit(part.train, **subject.seeded(seed)).scores(part.test)
    moved, own = apart(without, with_labels), apart(without, scorer.scores(part.test))
    if own > ROUNDING and moved > ROUNDING:
        return AuditFinding("labels", "skipped", "Two fits differ anyway, so that what labels change can't be told.", {"difference": moved})
    if moved <= ROUNDING:
        return AuditFinding("labels", "ok", "fit(X, y) does not use y.", {"difference": moved})
    text = "fit(X, y) uses y, here labels drawn at random: hand it no labels where it must not see any."
    return AuditFinding("labels", "note", text, {"difference": moved})


def check_copies(part: Parted, scorer: Scorer) -> AuditFinding:
    """Check that copies score the same: pickled in memory, deep-copied, and of insphere's detectors stored and exported."""
    model, X = scorer.model, part.test
    found: dict[str, float] = {}
    failed: dict[str, str] = {}
    whole = scorer.scores(X)
    for name, make in _copies(model).items():
        try:
            with quiet():
                copied = make()
            found[name] = apart(whole, copied(X) if callable(copied) else copied)
        except (ImportError, InsphereError) as error:
            failed[name] = f"{name} ({error})"
        except Exception as error:
            failed[name] = f"{name} ({type(error).__name__}: {error})"
    wrong = {name: moved for name, moved in found.items() if moved > ROUNDING}
    figures = dict(found)
    if wrong:
        text = "; ".join(f"the copy by {name} differs by up to {moved:.2g} of the scores' spread" for name, moved in wrong.items())
        return AuditFinding("copies", "error", f"{text[:1].upper()}{text[1:]}.", figures)
    if not found:
        return AuditFinding(
            "copies",
            "skipped" if not failed else "warning",
            f"No copy could be made: {'; '.join(failed.values()) or 'a function has none'}.",
        )
    text = f"Copies score the same{_rounded(max(found.values()))}: {', '.join(found)}."
    if failed:
        return AuditFinding("copies", "note", f"{text} Not to be had: {'; '.join(failed.values())}.", figures)
    return AuditFinding("copies", "ok", text, figures)


def _copies(model: Any) -> dict[str, Any]:
    """Return how a model is copied, by the name of the way; each gives what scores rows."""
    if isinstance(model, AbstractDetector):
        return {"model file": lambda: _stored(model), "ONNX graph": lambda: _exported(model)}
    if not hasattr(model, "fit"):
        return {}

    def again(made: Any) -> Any:
        return subject_of(made).scorer(made).scores if hasattr(made, "fit") else made

    # Only bytes that were made here, in memory, of an object that the user gave: nothing is read from a file.
    return {"pickle": lambda: again(pickle.loads(pickle.dumps(model))), "deepcopy": lambda: again(copy.deepcopy(model))}


def _stored(model: AbstractDetector) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.insphere"
        model.save(path)
        return type(model).from_file(model_file.read(path, KIND)).anomaly_score


def _exported(model: AbstractDetector) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path)
        return subject_of(path).fitted.scores


def check_untrained(trained: Pairs, untrained: Pairs, how: str, *, on_these_rows: bool) -> AuditFinding:
    """Compare the areas under the ROC curve of the trained and of the untrained subject on the same rows."""
    own, other, gain = area(trained), area(untrained), difference(trained, untrained)
    figures = {"auroc": own, "auroc_untrained": other, "difference": gain}
    text = f"AUROC {_percent(own)} trained, {_percent(other)} {how}; difference {_points(gain)} points."
    if gain.low > 0:
        return AuditFinding("untrained", "ok", f"Training helps: {text}", figures)
    if not on_these_rows:
        # A detector that learns little more than ranges may rank well after noise of the same ranges: that alone is not held against it.
        return AuditFinding("untrained", "note", f"Learning these rows is no better than learning noise in their ranges: {text}", figures)
    verb = "Training hurts" if gain.high < 0 else "That training helps can't be seen on these rows"
    return AuditFinding("untrained", "warning", f"{verb}: {text}", figures)


def check_neighbours(trained: Pairs, neighbours: Pairs) -> AuditFinding:
    """Compare the area under the ROC curve with that of the distance to the five nearest training rows, which learns nothing."""
    own, other, gain = area(trained), area(neighbours), difference(trained, neighbours)
    figures = {"auroc": own, "auroc_5nn": other, "difference": gain}
    text = f"AUROC {_percent(own)}, 5-NN {_percent(other)}; difference {_points(gain)} points."
    if own.high < 0.5:
        text = f"Anomalies score lower than normal rows: {text} Where a higher score means more normal, say so (--higher normal)."
        return AuditFinding("5-NN", "warning", text, figures)
    if gain.high < 0:
        return AuditFinding("5-NN", "warning", f"Worse than 5-NN, which learns nothing: {text}", figures)
    if gain.low > 0:
        return AuditFinding("5-NN", "ok", f"Better than 5-NN: {text}", figures)
    return AuditFinding("5-NN", "note", f"Neither better nor worse than 5-NN as far as these rows tell: {text}", figures)


def nearest(part: Parted, *, of_images: bool) -> tuple[FloatArray, FloatArray]:
    """Return the mean distances of normal rows and anomalies to the five nearest training rows; features in units of their spread there.

    Images stay in their pixels.
    """
    train, normal, anomaly = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (part.train, part.normal, part.anomaly))
    if not of_images:
        middle, width = train.mean(axis=0), train.std(axis=0)
        width[width == 0] = 1.0
        train, normal, anomaly = ((rows - middle) / width for rows in (train, normal, anomaly))
    near = Neighbours(train)
    return near.distances(normal, N_NEIGHBORS).mean(axis=1), near.distances(anomaly, N_NEIGHBORS).mean(axis=1)


def check_alarms(flags: Sequence[NDArray[np.bool_]], n_rows: int, stated: float | None, *, at_most: bool) -> AuditFinding:
    """Compare the share of new normal rows that are flagged with the share that is stated; one that is promised "at most" may be lower."""
    found = rate(flags, n_rows)
    figures: dict[str, Any] = {"rate": found, "stated": stated}
    text = f"{_percent(found)} of {n_rows} new normal rows are flagged"
    if stated is None:
        return AuditFinding("false alarms", "note", f"{text}; the detector states no rate (--stated-fpr names one).", figures)
    words = f"{'at most ' if at_most else ''}{100 * stated:.3g} %"
    if stated < found.low:
        # One interval in twenty misses by chance: a defect is what lies twice as far out.
        level = "error" if stated < found.value - 2 * (found.value - found.low) else "warning"
        return AuditFinding("false alarms", level, f"{text}, where {words} is stated.", figures)
    if stated > found.high and not at_most:
        return AuditFinding("false alarms", "warning", f"{text}, where {words} is stated: fewer, so anomalies are missed too.", figures)
    if found.high - found.low > _TOO_WIDE:
        text = f"{text}; {words} is stated, which these rows and repeats can't tell: give more of them (--repeats)."
        return AuditFinding("false alarms", "note", text, figures)
    return AuditFinding("false alarms", "ok", f"{text}; {words} is stated.", figures)


def _rounded(moved: float) -> str:
    return "" if moved == 0 else f" up to rounding ({moved:.1g} of their spread)"


def _percent(estimate: Estimate) -> str:
    value, low, high = (f"{100 * part:.1f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} % ({low}–{high})"


def _points(estimate: Estimate) -> str:
    value, low, high = (f"{100 * part:+.1f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"
