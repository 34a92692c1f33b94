"""Slow, obvious re-statements of the fast code, used as oracles. Plain loops over plain numbers; nothing here is clever."""

import math
from collections.abc import Sequence


def auroc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Share of (anomaly, normal) pairs in the right order, a tie counting one half."""
    anomalies = [score for label, score in zip(labels, scores, strict=True) if label]
    normals = [score for label, score in zip(labels, scores, strict=True) if not label]
    wins = sum(_win(anomaly, normal) for anomaly in anomalies for normal in normals)
    return wins / (len(anomalies) * len(normals))


def delong_variance(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Variance of the AUROC after DeLong: by the mean win of each anomaly and of each normal row."""
    anomalies = [score for label, score in zip(labels, scores, strict=True) if label]
    normals = [score for label, score in zip(labels, scores, strict=True) if not label]
    by_anomaly = [sum(_win(anomaly, normal) for normal in normals) / len(normals) for anomaly in anomalies]
    by_normal = [sum(_win(anomaly, normal) for anomaly in anomalies) / len(anomalies) for normal in normals]
    return _variance(by_anomaly) / len(anomalies) + _variance(by_normal) / len(normals)


def average_precision(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Sum over thresholds, highest first, of the gain in recall times the precision."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        flagged = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        recall = sum(flagged) / sum(labels)
        total += (recall - recall_before) * sum(flagged) / len(flagged)
        recall_before = recall
    return total


def fpr_at_tpr(labels: Sequence[int], scores: Sequence[float], tpr: float) -> float:
    """Share of normal rows flagged by the highest threshold that flags at least `tpr` of the anomalies."""
    for threshold in sorted(set(scores), reverse=True):
        flagged = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        if sum(flagged) / sum(labels) >= tpr:
            return (len(flagged) - sum(flagged)) / (len(labels) - sum(labels))
    raise AssertionError("the lowest threshold flags every anomaly")


def p_value(calibration: Sequence[float], score: float) -> float:
    """Conformal p-value: the rank of the score among the held-out scores and itself."""
    return (1 + sum(1 for held_out in calibration if held_out >= score)) / (len(calibration) + 1)


def _win(anomaly: float, normal: float) -> float:
    return 1.0 if anomaly > normal else 0.5 if anomaly == normal else 0.0


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def deep_svdd_vae_loss(
    x: list[list[float]],
    mu: list[list[float]],
    logvar: list[list[float]],
    z: list[list[float]],
    output: list[list[float]],
    *,
    alpha: float,
    norm: str,
    likelihood: str,
) -> dict[str, float]:
    """Zhou 2021, eq. 12 with one draw and the batch mean as centre, row by row."""
    n, n_values = len(x), len(x[0])
    center = [sum(row[j] for row in z) / n for j in range(len(z[0]))]
    mean_square = sum((a - b) ** 2 for row, made in zip(x, output, strict=True) for a, b in zip(row, made, strict=True)) / (n * n_values)
    kl = reconstruction = distance = 0.0
    for row, m, v, code, made in zip(x, mu, logvar, z, output, strict=True):
        kl += -0.5 * sum(1 + v_j - m_j**2 - math.exp(v_j) for m_j, v_j in zip(m, v, strict=True)) / n
        for value, out in zip(row, made, strict=True):
            if likelihood == "bernoulli":
                p = 1 / (1 + math.exp(-out))
                log_p = value * math.log(p) + (1 - value) * math.log(1 - p)
            else:
                variance = mean_square if likelihood == "gaussian-learned" else 1.0
                log_p = -0.5 * (math.log(2 * math.pi * variance) + (value - out) ** 2 / variance)
            reconstruction -= log_p / n
        square = sum((c_j - z_j) ** 2 for c_j, z_j in zip(center, code, strict=True))
        distance += (square if norm == "squared" else math.sqrt(square)) / n
    return {"loss": alpha * (kl + reconstruction) + distance, "kl": kl, "reconstruction": reconstruction, "distance": distance}
