"""Slow, obvious re-statements of the fast code, used as oracles. Plain loops over plain numbers; nothing here is clever."""

import itertools
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


def dasvdd_batch(
    x: list[list[float]],
    output: list[list[float]],
    code: list[list[float]],
    trains: list[bool],
    center: list[float],
    *,
    gamma: float,
    momentum: float,
) -> tuple[float, list[float]]:
    """Hojjati 2021: the loss of the rows that the weights are trained on, and where the centre goes by the others, row by row."""
    total, others = 0.0, []
    for row, made, z, counts in zip(x, output, code, trains, strict=True):
        error = sum((a - b) ** 2 for a, b in zip(row, made, strict=True))
        square = sum((a - b) ** 2 for a, b in zip(z, center, strict=True))
        if counts:
            total += error + gamma * square
        else:
            others.append(z)
    means = [sum(z[j] for z in others) / len(others) if others else center[j] for j in range(len(center))]
    moved = [momentum * c + (1 - momentum) * mean for c, mean in zip(center, means, strict=True)]
    return total / max(1, sum(trains)), moved


def shrunken_covariance(codes: list[list[float]]) -> list[list[float]]:
    """Ledoit 2004: the covariance, moved towards a multiple of the identity by the share of its own error in its distance from there."""
    n, dims = len(codes), len(codes[0])
    mean = [sum(code[j] for code in codes) / n for j in range(dims)]
    rows = [[code[j] - mean[j] for j in range(dims)] for code in codes]
    covariance = [[sum(row[i] * row[j] for row in rows) / n for j in range(dims)] for i in range(dims)]
    level = sum(covariance[j][j] for j in range(dims)) / dims
    pairs = [(i, j) for i in range(dims) for j in range(dims)]
    distance = sum((covariance[i][j] - (level if i == j else 0)) ** 2 for i, j in pairs)
    error = sum((row[i] * row[j] - covariance[i][j]) ** 2 for row in rows for i, j in pairs) / n**2
    share = min(error, distance) / distance if distance > 0 else 0.0
    return [[(1 - share) * covariance[i][j] + (share * level if i == j else 0) for j in range(dims)] for i in range(dims)]


def mahalanobis(one: Sequence[float], other: Sequence[float], covariance: list[list[float]]) -> float:
    """Square root of (one − other)ᵀ · covariance⁻¹ · (one − other), by Gaussian elimination."""
    offset = [a - b for a, b in zip(one, other, strict=True)]
    matrix = [[*row, value] for row, value in zip(covariance, offset, strict=True)]
    for i in range(len(matrix)):
        for below in matrix[i + 1 :]:
            factor = below[i] / matrix[i][i]
            for j in range(i, len(below)):
                below[j] -= factor * matrix[i][j]
    solution = [0.0] * len(matrix)
    for i in reversed(range(len(matrix))):
        known = sum(matrix[i][j] * solution[j] for j in range(i + 1, len(matrix)))
        solution[i] = (matrix[i][-1] - known) / matrix[i][i]
    return math.sqrt(sum(a * b for a, b in zip(offset, solution, strict=True)))


def nearest_mean(distances: Sequence[float], n_neighbors: int) -> float:
    """Mean of the smallest `n_neighbors` distances, of all where there are fewer."""
    nearest = sorted(distances)[:n_neighbors]
    return sum(nearest) / len(nearest)


def kernel(x: Sequence[float], y: Sequence[float], name: str, *, gamma: float, degree: int, coef0: float) -> float:
    """One kernel value by its formula."""
    product = sum(a * b for a, b in zip(x, y, strict=True))
    if name == "rbf":
        return math.exp(-gamma * sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
    return product if name == "linear" else (gamma * product + coef0) ** degree


def svdd_dual(gram: list[list[float]], bound: float, n_sweeps: int = 3000) -> list[float]:
    """Zhou 2021, eq. 9: from equal weights, shift weight between two rows, pair by pair, as far as it raises the dual."""
    n = len(gram)
    alphas = [1 / n] * n
    for _ in range(n_sweeps):
        for i in range(n):
            for j in range(i):
                curvature = gram[i][i] + gram[j][j] - 2 * gram[i][j]
                if curvature <= 1e-15:
                    continue
                slope = gram[i][i] - gram[j][j] - 2 * sum(alphas[k] * (gram[i][k] - gram[j][k]) for k in range(n))
                step = slope / (2 * curvature)
                step = max(step, -alphas[i], alphas[j] - bound)
                step = min(step, alphas[j], bound - alphas[i])
                alphas[i] += step
                alphas[j] -= step
    return alphas


def svdd_dual_value(gram: list[list[float]], alphas: Sequence[float]) -> float:
    """Zhou 2021, eq. 9: the dual's objective."""
    n = len(gram)
    quadratic = sum(alphas[i] * alphas[j] * gram[i][j] for i in range(n) for j in range(n))
    return sum(alphas[i] * gram[i][i] for i in range(n)) - quadratic


def svdd_squared_distance(own: float, to_rows: Sequence[float], gram: list[list[float]], alphas: Sequence[float]) -> float:
    """Zhou 2021, right-hand side of eq. 10: of a row with k(x, x) = `own` and k(x_i, x) = `to_rows`."""
    n = len(gram)
    cross = sum(alphas[i] * to_rows[i] for i in range(n))
    norm = sum(alphas[i] * alphas[j] * gram[i][j] for i in range(n) for j in range(n))
    return own - 2 * cross + norm


def svdd_kkt_violation(gram: list[list[float]], alphas: Sequence[float], bound: float, squared_radius: float) -> float:
    """Return the largest breach of the optimality conditions: rows without weight inside, at the bound outside, between on the sphere."""
    worst = max(abs(sum(alphas) - 1), max(-alpha for alpha in alphas), max(alpha - bound for alpha in alphas))
    for i, alpha in enumerate(alphas):
        beyond = svdd_squared_distance(gram[i][i], gram[i], gram, alphas) - squared_radius
        if alpha < bound * (1 - 1e-6):
            worst = max(worst, beyond)
        if alpha > bound * 1e-6:
            worst = max(worst, -beyond)
    return worst


def gaussian_log_density(x: Sequence[float], rows: list[list[float]], bandwidth: float) -> float:
    """Log of the mean of Gaussians around the rows."""
    d = len(x)
    squares = [sum((a - b) ** 2 for a, b in zip(x, row, strict=True)) for row in rows]
    values = [math.exp(-square / (2 * bandwidth**2)) / (2 * math.pi * bandwidth**2) ** (d / 2) for square in squares]
    return math.log(math.fsum(values) / len(rows))


def nearest_distances(x: Sequence[float], rows: list[list[float]], n_neighbors: int) -> list[float]:
    """Distances to the nearest rows, increasing."""
    return sorted(math.dist(x, row) for row in rows)[:n_neighbors]


def deep_svdd_steps(first, last, batches, rows, *, soft, nu, warm_up, margin, lr, weight_decay):
    """Ruff 2018 on two dense layers without biases: yield (loss, centre, radius) of each step; `batches` is one list of tensors an epoch.

    Batch norm without scale and shift, leaky ReLU of slope 0.1, and Adam are written out; PyTorch gives gradients only.
    """
    import torch

    def encode(x):
        hidden = x @ first.T
        hidden = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + 1e-3).sqrt()
        return torch.where(hidden > 0, hidden, 0.1 * hidden) @ last.T

    layers = [first.requires_grad_(), last.requires_grad_()]
    moments = [[torch.zeros_like(layer), torch.zeros_like(layer)] for layer in layers]
    center = torch.tensor([math.copysign(max(abs(mean), margin), mean) for mean in encode(rows).mean(dim=0).tolist()])
    radius, n_steps = 0.0, 0
    for epoch, epoch_batches in enumerate(batches, start=1):
        seen = []
        for x in epoch_batches:
            distances = ((encode(x) - center) ** 2).sum(dim=1)
            loss = distances.mean()
            if soft:
                loss = radius**2 + sum(max(distance - radius**2, distance * 0) for distance in distances) / len(x) / nu
            yield loss.item(), center.tolist(), radius
            seen += distances.tolist()
            n_steps += 1
            for layer, moment, slope in zip(layers, moments, torch.autograd.grad(loss, layers), strict=True):
                slope = slope + weight_decay * layer.detach()
                moment[0] = 0.9 * moment[0] + 0.1 * slope
                moment[1] = 0.999 * moment[1] + 0.001 * slope**2
                step = moment[0] / (1 - 0.9**n_steps) / ((moment[1] / (1 - 0.999**n_steps)).sqrt() + 1e-8)
                layer.data -= lr * step
        if soft and epoch >= warm_up:
            radius = math.sqrt(quantile(seen, 1 - nu))


def oc_nn_loss(outputs: list[float], w: list[float], v: list[list[float]], *, r: float, nu: float) -> float:
    """Chalapathy 2018, eq. 3, of the outputs of one batch."""
    hinge = sum(max(0.0, r - output) for output in outputs) / len(outputs)
    return 0.5 * sum(weight**2 for weight in w) + 0.5 * sum(weight**2 for row in v for weight in row) + hinge / nu - r


def quantile(values: Sequence[float], share: float) -> float:
    """Quantile with linear interpolation between the two nearest values."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def connected(hashes: list[int], groups: list[int] | None) -> list[int]:
    """Return the number 0.. of each row's set of connected rows: equal hashes connect, and so do equal groups."""
    unit = list(range(len(hashes)))
    for _ in hashes:
        for i in range(len(hashes)):
            for j in range(len(hashes)):
                if hashes[i] == hashes[j] or (groups is not None and groups[i] == groups[j]):
                    unit[i] = unit[j] = min(unit[i], unit[j])
    order: dict[int, int] = {}
    return [order.setdefault(value, len(order)) for value in unit]


def pixel_auroc(masks: list[list[list[bool]]], heatmaps: list[list[list[float]]]) -> float:
    """Share of (defective, sound) pairs of pixels in the right order, ties count half; pixels weigh one over their picture's size."""
    hot, cold = [], []
    for mask, heatmap in zip(masks, heatmaps, strict=True):
        weight = 1 / (len(mask) * len(mask[0]))
        for flags, values in zip(mask, heatmap, strict=True):
            for flag, value in zip(flags, values, strict=True):
                (hot if flag else cold).append((value, weight))
    wins = math.fsum(own * other * _win(value, level) for value, own in hot for level, other in cold)
    return wins / (math.fsum(weight for _, weight in hot) * math.fsum(weight for _, weight in cold))


def aupro(masks: list[list[list[bool]]], heatmaps: list[list[list[float]]], max_fpr: float) -> float:
    """Walk through all thresholds, and through all regions at each; straight lines between the points, cut off at `max_fpr`."""
    regions = [[heatmap[i][j] for i, j in region] for mask, heatmap in zip(masks, heatmaps, strict=True) for region in _regions(mask)]
    sound = []
    for mask, heatmap in zip(masks, heatmaps, strict=True):
        weight = 1 / (len(mask) * len(mask[0]))
        sound += [(heatmap[i][j], weight) for i in range(len(mask)) for j in range(len(mask[0])) if not mask[i][j]]
    total = math.fsum(weight for _, weight in sound)
    points = [(0.0, 0.0)]
    for threshold in sorted({value for heatmap in heatmaps for line in heatmap for value in line}, reverse=True):
        found = sum(sum(value >= threshold for value in region) / len(region) for region in regions) / len(regions)
        points.append((math.fsum(weight for value, weight in sound if value >= threshold) / total, found))
    area = 0.0
    for (left, low), (right, high) in itertools.pairwise(points):
        stop = min(right, max_fpr)
        if stop > left:
            end = low + (high - low) * (stop - left) / (right - left)
            area += (stop - left) * (low + end) / 2
    return area / max_fpr


def _regions(mask: list[list[bool]]) -> list[list[tuple[int, int]]]:
    """Return the places of each region: places that are marked and touch, at a corner too, are in one."""
    waiting = {(i, j) for i, line in enumerate(mask) for j, flag in enumerate(line) if flag}
    regions = []
    while waiting:
        region = [waiting.pop()]
        for i, j in region:  # grows while it is gone through
            near = {(i + down, j + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & waiting
            waiting -= near
            region += sorted(near)
        regions.append(region)
    return regions


def transform_contrast(codes: list[list[list[float]]], centers: list[list[float]], scale: float) -> list[float]:
    """Sum over the transformations of −log p(T | mu), p ∝ exp(−scale/2 ‖mu − c‖²), of each row; codes by transformation and row."""
    sums = [0.0] * len(codes[0])
    for applied, rows in enumerate(codes):
        for row, mu in enumerate(rows):
            weights = [math.exp(-0.5 * scale * math.dist(mu, center) ** 2) for center in centers]
            sums[row] -= math.log(weights[applied] / sum(weights))
    return sums


def cosine(a, b):
    """Cosine of the angle between two vectors."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def pair_loss(codes, partners, temperature):
    """NT-Xent (Chen 2020, eq. 1), a mean over all codes: one at a time, with the sum over the others written out."""

    losses = []
    for number, code in enumerate(codes):
        others = [math.exp(cosine(code, other) / temperature) for place, other in enumerate(codes) if place != number]
        losses.append(-math.log(math.exp(cosine(code, codes[partners[number]]) / temperature) / sum(others)))
    return sum(losses) / len(losses)
