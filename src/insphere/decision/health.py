"""Is the sphere alive? Checks made at fit time, stored with the model, in words that say what to do."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.decision.calibration import rows_needed
from insphere.decision.decision import Decision
from insphere.errors import HealthWarning, warn_user

LEVELS = ("ok", "warning", "critical")
"""Levels of a finding, from good to bad."""

LEAST_SPREAD = 1e-3
"""Share of their spread before training that codes or outputs must keep; with less they have collapsed."""

_MANY_EQUAL = 0.05
_SUSPICIOUS_SHARE = 0.004
_MODE_SHIFT = 10.0  # 6 was the most in fits that found anomalies well, and bad fits had no larger ones
_LEAST_NATS = 0.003  # per latent dimension, between a code and its prior

_LARGEST = 1e12  # a finding's figure must stay finite to be stored


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check and its outcome.

    Attributes
    ----------
    name : str
        What was checked.
    level : {"ok", "warning", "critical"}
        A critical finding means that scores would be meaningless.
    value : float
        The figure that the level was decided on.
    text : str
        The outcome in a sentence, with what to do where there is something to do.
    """

    name: str
    level: str
    value: float
    text: str


@dataclasses.dataclass(frozen=True)
class HealthReport:
    """All findings about one fitted detector.

    Examples
    --------
    >>> report = HealthReport((Finding("distinct scores", "ok", 100.0, "100 distinct scores."),))
    >>> report.level, report.collapsed
    ('ok', False)
    """

    findings: tuple[Finding, ...]
    suspects: tuple[int, ...] = ()
    """Positions, among the rows given to `fit`, of training rows that look like anomalies; the most suspicious first."""

    @property
    def level(self) -> str:
        """The worst level of all findings."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="ok")

    @property
    def collapsed(self) -> bool:
        """Whether a finding is critical, so that scoring is refused."""
        return self.level == "critical"

    def replaced(self, *findings: Finding | None) -> "HealthReport":
        """Return the report with each finding in the place of the one of its name, or at the end where there was none."""
        new = {finding.name: finding for finding in findings if finding is not None}
        kept = [new.pop(old.name, old) for old in self.findings]
        return dataclasses.replace(self, findings=(*kept, *new.values()))

    def warn(self) -> None:
        """Issue a `HealthWarning` for each finding that is not ok."""
        for finding in self.findings:
            if finding.level != "ok":
                warn_user(f"{finding.name}: {finding.text}", HealthWarning)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {
            "level": self.level,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "suspects": list(self.suspects),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "HealthReport":
        """Return the report that `to_json` described."""
        return cls(tuple(Finding(**finding) for finding in record["findings"]), tuple(record["suspects"]))


def check_scores(scores: NDArray[np.float64], advice: str = "Check that the training rows differ.") -> Finding:
    """Find out whether the scores tell rows apart at all.

    Scores count as constant when their spread is below a millionth of their size: that is what float32 networks leave of equal codes.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
        Of training and held-out rows.
    advice : str
        What to do where they are constant: it depends on the detector.
    """
    low, high = float(scores.min()), float(scores.max())
    n_distinct = len(np.unique(scores))
    if not np.isfinite([low, high]).all():
        return Finding(
            "distinct scores",
            "critical",
            0.0,
            "Some training scores are not finite. Check the rows for extreme values or lower the learning rate.",
        )
    if n_distinct < 2 or high - low <= 1e-6 * max(abs(high), abs(low)):
        text = f"All {len(scores)} rows score {high:.6g}, so the detector can't tell rows apart. {advice}"
        return Finding("distinct scores", "critical", float(n_distinct), text)
    return Finding("distinct scores", "ok", float(n_distinct), f"{n_distinct} distinct scores among {len(scores)} rows.")


def check_equal_rows(n_equal: int, n_rows: int) -> Finding:
    """Tell how many rows equal another one: they are kept on one side of every split, and count once."""
    share = n_equal / n_rows
    if n_equal == 0:
        return Finding("equal rows", "ok", 0.0, "All rows differ.")
    text = (
        f"{n_equal} of {n_rows} rows are equal to another one. Equal rows are kept together, to train on or to calibrate on, and count once"
        " for the false-alarm rate."
    )
    advice = " If they are copies, leave them out; if normal rows do repeat, the real rate will be lower than stated."
    return Finding("equal rows", "warning", share, text + advice) if share > _MANY_EQUAL else Finding("equal rows", "ok", share, text)


def check_calibration(decision: Decision) -> Finding:
    """Find out whether enough unseen normal rows were scored to promise the false-alarm rate that was asked for."""
    n, target = len(decision), decision.target_fpr
    rows = "row" if n == 1 else "rows"
    if decision.by == "radius":
        text = "The threshold is the paper's radius, as asked, which promises no false-alarm rate; p-values are calibrated."
        return Finding("calibration", "ok", float(n), text)
    independent = f" (of {decision.n_rows}: rows of a group and equal rows count once)" if decision.n_rows > n else ""
    how = {
        "split": f"{n} held-out normal {rows}{independent}",
        "cross": f"{n} normal {rows}{independent}, each scored by a model that was fitted without it",
        "given": f"{n} normal {rows}{independent} given to recalibrate",
    }[decision.method]
    if decision.reaches_target:
        return Finding("calibration", "ok", float(n), f"The threshold is calibrated on {how}.")
    n_needed = rows_needed(target)
    wanted = f"{n_needed - n} more" + (", of which half may be held out" if decision.method == "split" else "")
    text = (
        f"The threshold is calibrated on {how}, too few for the wanted false-alarm rate: {target:.3g} was asked for, and"
        f" {1 / (n + 1):.3g} is what can be promised. The threshold is the highest of their scores. Give {wanted}, or raise target_fpr."
    )
    return Finding("calibration", "warning", float(n), text)


def check_categories(decision: Decision) -> Finding | None:
    """Find out which categories have too few calibration scores of their own; None where there are no categories."""
    if decision.categories is None:
        return None
    sizes, borrowing = decision.categories.sizes, decision.borrowing
    n_needed = rows_needed(decision.target_fpr)
    if decision.by == "radius":
        return Finding("categories", "ok", 0.0, f"{len(sizes)} categories have p-values of their own; the radius is one for all, as asked.")
    if not borrowing:
        text = f"Each of {len(sizes)} categories has a threshold of its own, on {min(sizes.values())} calibration rows or more."
        return Finding("categories", "ok", 0.0, text)
    shown = ", ".join(f"{name} ({sizes[name]})" for name in borrowing[:10]) + (", …" if len(borrowing) > 10 else "")
    text = (
        f"{len(borrowing)} of {len(sizes)} categories have fewer than the {n_needed} calibration rows that a rate of"
        f" {decision.target_fpr:.3g} takes, and borrow the threshold of all, raised to their own highest score: {shown}. The rate holds for"
        " them as far as they score as the others do. Give more normal rows of them, or raise target_fpr."
    )
    return Finding("categories", "warning", float(len(borrowing)), text)


def find_suspects(train_scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return positions of training scores far above the rest, highest first.

    The fence is three interquartile ranges above the upper quartile of the log-scores (Tukey's far-out fence; the logarithm because
    distances are skewed to the right). Of clean Gaussian log-scores about one in a million lies beyond it. Where many rows lie beyond a
    lower fence, 3.5 robust standard deviations above the median, these are returned: a tail that is heavy as a whole.

    Source: Iglewicz 1993 (the modified z-score and its 3.5). Deviation: the interquartile range, for the median absolute deviation.
    """
    logs = np.log(np.maximum(train_scores - min(0.0, float(train_scores.min())), 1e-12))
    lower, median, upper = np.quantile(logs, [0.25, 0.5, 0.75])
    if upper <= lower:
        return np.empty(0, np.int64)
    beyond = np.flatnonzero(logs > median + 3.5 * (upper - lower) / 1.349)
    # Of clean handwritten digits one in 400 is there, with 5 % others among them one in 190; in a small sample a handful says nothing.
    if len(beyond) < 20 or len(beyond) <= _SUSPICIOUS_SHARE * len(logs):
        beyond = np.flatnonzero(logs > upper + 3 * (upper - lower))
    order: NDArray[np.int64] = beyond[np.argsort(-train_scores[beyond], kind="stable")]
    return order


def check_contamination(n_suspects: int, n_rows: int, *, n_trimmed: int = 0) -> Finding:
    """Find out whether anomalies may be hiding among the `n_rows` training rows, `n_trimmed` others having been left out."""
    share = n_suspects / n_rows
    before = f"{n_trimmed} rows were left out as the most suspicious ones (trim); see health_.suspects. " if n_trimmed else ""
    if n_suspects == 0:
        return Finding("contamination", "ok", 0.0, f"{before}No training row lies far outside the others.")
    level = "warning" if share > _SUSPICIOUS_SHARE and n_suspects >= 3 else "ok"
    advice = " Look at them (health_.suspects) and remove those that are not normal, or fit with `trim` a little above their share."
    text = f"{before}{n_suspects} of {n_rows} training rows ({share:.1%}) lie far outside the others."
    return Finding("contamination", level, share, text + (advice if level == "warning" else ""))


def check_trimmed(kept: Iterable[NDArray[np.float64]], left_out: NDArray[np.float64]) -> Finding | None:
    """Warn where trimming has left features without any row that differs: kinds of rows that are rare may be normal.

    Parameters
    ----------
    kept : iterable of ndarray, shapes (n, features)
        The rows to train on, in parts.
    left_out : ndarray, shape (m, features)
        Those that were left out.

    Examples
    --------
    >>> check_trimmed([np.array([[1.0, 0.0], [2.0, 0.0]])], np.array([[1.0, 5.0]])).text[:45]
    'In feature 1 (counted from 0) every row that '
    """
    low, high = np.inf, -np.inf
    for part in kept:
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
    emptied = np.flatnonzero((low == high) & (left_out != low).any(axis=0))
    if not len(emptied):
        return None
    shown = ", ".join(str(number) for number in emptied[:10]) + (", …" if len(emptied) > 10 else "")
    text = (
        f"In feature{'s' * (len(emptied) > 1)} {shown} (counted from 0) every row that differs was left out as suspicious (trim), so that"
        " no other value is known there. If such rows are rare but normal, lower trim, or fit without it."
    )
    return Finding("trimmed kinds", "warning", float(len(emptied)), text)


def check_held_out(train_scores: NDArray[np.float64], held_out_scores: NDArray[np.float64], radius: float, *, decides: bool) -> Finding:
    """Compare the share of held-out normal rows outside the training radius with the share of training rows outside it.

    Only where the radius decides is a difference worth a warning: scores of rows that were learned are lower than those of new ones in
    good fits too, more often than in bad ones (``benchmarks/reports/health-lines.md``), and the calibrated threshold knows new ones only.
    """
    if not len(held_out_scores):
        return Finding("radius", "ok", 0.0, "No rows were held out, so the radius could not be checked on new rows.")
    inside, outside = float((train_scores > radius).mean()), float((held_out_scores > radius).mean())
    text = f"The training radius flags {inside:.1%} of training rows and {outside:.1%} of held-out normal rows."
    # Twice the share and ten points more: beyond what the optimism of training scores and the noise of small samples explain.
    if decides and outside > max(2 * inside, inside + 0.1) and len(held_out_scores) >= 20:
        return Finding(
            "radius",
            "warning",
            outside,
            text
            + " It fits the rows it has seen better than new ones: add normal rows, and decide by the calibrated threshold rather than by"
            " the radius. For a network, train shorter or make it smaller.",
        )
    return Finding("radius", "ok", outside, text)


def check_codes(mu: NDArray[np.float64], logvar: NDArray[np.float64] | None, *, scored_by_code: bool = True) -> list[Finding]:
    """Find out how many latent dimensions are in use and, with a distribution over codes, how much of the distance is noise.

    Dead codes are critical where rows are scored by them; a reconstruction error still means something without them.
    """
    variances = mu.var(axis=0)
    # Relative to all of a dimension's variance, so that a sphere that shrinks signal and noise alike does not look dead. Under the
    # standard normal prior the total is 1 and this is the usual rule: variance of mu above 0.01 (Burda 2016, active units).
    total = variances + np.exp(logvar).mean(axis=0) if logvar is not None else np.full(len(variances), variances.max())
    n_active, n_dims = int((variances > 0.01 * total).sum()), mu.shape[1]
    findings = []
    if n_active:
        findings.append(
            Finding("active latent dimensions", "ok", float(n_active), f"{n_active} of {n_dims} latent dimensions vary with the input.")
        )
    else:
        text = (
            f"None of {n_dims} latent dimensions varies with the input by more than its noise: the codes say next to nothing about it"
            " (posterior collapse). Lower alpha, or train longer."
        )
        findings.append(Finding("active latent dimensions", "warning", 0.0, text))
    if logvar is not None:
        noise, signal = float(np.exp(logvar).sum(axis=1).mean()), float(variances.sum())
        ratio = signal / noise if noise > 0 else float("inf")
        text = f"The codes' means spread {ratio:.2g} times as much as their noise."
        level = "ok"
        if ratio < 0.01:
            level = "warning"
            text += " The distance to the centre would be mostly chance: lower alpha."
        findings.append(Finding("signal to noise", level, _bounded(ratio, worst=_LARGEST), text))
        findings.append(_check_kl(mu, logvar, any_active=n_active > 0, scored_by_code=scored_by_code))
    return findings


def _check_kl(mu: NDArray[np.float64], logvar: NDArray[np.float64], *, any_active: bool, scored_by_code: bool) -> Finding:
    kl = float(0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1).mean())
    text = f"{kl:.3g} nats per row between code and prior."
    # A network that is hardly trained has no active dimension either, but has not yet been pulled to the prior.
    if any_active or kl >= _LEAST_NATS * mu.shape[1]:
        return Finding("KL divergence", "ok", kl, text)
    text += " Posterior collapse: the code is the prior whatever the row. Lower alpha, or use a larger decoder or a learned variance."
    return Finding("KL divergence", "critical" if scored_by_code else "warning", kl, text)


def check_spread(now: float, start: float, *, of: str) -> Finding:
    """Compare the spread of what rows are scored by with its spread before training.

    Parameters
    ----------
    now, start : float
        Root mean square distance of the training rows' codes or outputs to their mean, after training and before.
    of : str
        What they are, for the text.
    """
    ratio = _bounded(now / start, worst=_LARGEST) if start > 0 else 0.0
    text = f"The {of} of the training rows spread {ratio:.2g} times as far as before training."
    if ratio >= LEAST_SPREAD:
        return Finding("spread", "ok", ratio, text)
    remedy = (
        " They have collapsed to a point and say next to nothing about the rows. Use no biases, a centre off zero and pretraining,"
        " or train shorter or with a smaller learning rate."
    )
    return Finding("spread", "critical", ratio, text + remedy)


def check_centers(rows: NDArray[np.int64], n_asked: int) -> Finding:
    """Tell how many training rows each of several centres has, and whether some centres were dropped in training.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows that are nearest to each centre that is left.
    n_asked : int
        Centres that training began with.

    Examples
    --------
    >>> check_centers(np.array([30, 50]), 3).level
    'warning'
    """
    n_used = len(rows)
    counts = ", ".join(str(count) for count in sorted(rows.tolist(), reverse=True))
    text = f"{n_used} of {n_asked} centres {'has' if n_used == 1 else 'have'} training rows: {counts} of {int(rows.sum())}."
    if n_used == n_asked:
        return Finding("centres", "ok", float(n_used), text)
    remedy = (
        " The others had next to none and were dropped: the rows are of fewer kinds than that, or training has joined some."
        f" Give reading={{'n_centers': {n_used}}}, or geometry='local', which takes no number of kinds."
    )
    return Finding("centres", "warning", float(n_used), text + remedy)


def check_reconstruction(x: NDArray[Any], reconstruction: NDArray[Any], *, decides: bool) -> Finding:
    """Compare the reconstruction with that by the mean row: R² in (−inf, 1].

    Only where rows are scored by it is a bad one worth a warning: of codes that find anomalies well, many belong to decoders that say next
    to nothing (``benchmarks/reports/health-lines.md``).
    """
    x, reconstruction = x.astype(np.float64), reconstruction.astype(np.float64)
    total = float(((x - x.mean(axis=0)) ** 2).sum())
    r_squared = _bounded(1 - float(((x - reconstruction) ** 2).sum()) / total, worst=-_LARGEST) if total > 0 else 0.0
    text = f"The decoder explains {r_squared:.1%} of the variance between training rows."
    if decides and r_squared < 0.05:
        return Finding(
            "reconstruction",
            "warning",
            r_squared,
            text + " It has learned little more than the mean row: train longer, or use a larger network or code.",
        )
    return Finding("reconstruction", "ok", r_squared, text)


def check_mode_shift(train_mode: NDArray[np.float64], eval_mode: NDArray[np.float64]) -> Finding:
    """Compare codes' distances with batch statistics and with running statistics: the median of |relative difference|."""
    shift = float(np.median(np.abs(train_mode - eval_mode)) / max(float(np.median(np.abs(eval_mode))), 1e-12))
    shift = _bounded(shift, worst=_LARGEST)
    text = f"Distances to the centre differ by {shift:.1%} between batch and running statistics of the batch norms."
    if shift > _MODE_SHIFT:
        return Finding(
            "batch-norm shift",
            "warning",
            shift,
            text + " The running statistics lag behind: train longer, or lower the learning rate at the end.",
        )
    return Finding("batch-norm shift", "ok", shift, text)


def _bounded(value: float, *, worst: float) -> float:
    return worst if np.isnan(value) else min(max(value, -_LARGEST), _LARGEST)
