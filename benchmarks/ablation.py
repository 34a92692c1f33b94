"""What each ingredient adds, and what it costs.

    INSPHERE_DATA=FOLDER python benchmarks/ablation.py

Three classes of CIFAR-10, three digits of MNIST, solar modules and five tables; of each at most 2,000 normal rows to fit on and 2,000
rows to test, drawn by the seed, so that figures lie below those of full fits. From row to row one thing changes, down to the line; below
it stand other methods. "as printed": eq. 12 and 13 with alpha 1, RMSprop and the centre of Algorithm 1 (Bernoulli likelihood for
pictures, Gaussian for tables). "gentler": the defaults (small alpha, learned variance, AdamW, one cycle, preprocessing by the data)
scored by eq. 13. The three geometries measure codes of one and the same network, whose reconstruction and KL come after them, in units of
the training rows (not on CIFAR-10); the three scores of transform-svdd are of one network too. "fusion" is that of `Fusion`: of
transform-svdd and vae-svdd for pictures, of distances to near rows for tables. Each fit is one of the defaults but for what the row says;
nothing differs from set to set. Labels are used for the AUROC alone. Fit seconds are of one core, scoring included in neither; rows a
second are of scoring alone. Runs that are in the CSV already are not repeated. Writes benchmarks/reports/ablation.csv and ablation.md.
"""

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from records import circumstances, read, write
from torch import Tensor
from transformations import rows_of

import insphere
from insphere.detectors.fusion import Units
from insphere.metrics import auroc
from insphere.scores.sphere import fit_sphere
from insphere.training.variational import kl_to_standard_normal

REPORTS = Path(__file__).parent / "reports"
KINDS = {
    "CIFAR-10": ("cifar10:automobile", "cifar10:bird", "cifar10:cat"),
    "MNIST": ("mnist:3", "mnist:5", "mnist:8"),
    "solar modules": ("solar-modules.zip",),
    "tables": ("adbench/20_letter", "adbench/30_satellite", "adbench/40_vowels", "adbench/44_Wilt", "adbench/6_cardio"),
}
INGREDIENTS = (
    "as printed",
    "gentler",
    "… in units of the codes' spread (mahalanobis)",
    "… by the nearest training codes (local), the default",
    "… and by the logarithm of the reconstruction's error",
    "… and by KL",
    "… on whitened rows",
    "transformations: told apart (contrast)",
    "transformations: distance to the own sphere",
    "transformations: both, the default",
    "fusion",
    "5 nearest rows",
)
MOST_ROWS = 2000


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=[name for names in KINDS.values() for name in names])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = REPORTS / "ablation.csv"
    for seed in options.seeds:
        for name in options.sets:
            if not any((row["set"], int(row["seed"])) == (name, seed) for row in read(path)):
                write(path, [*read(path), *measured(name, seed)])
                print(name, seed, flush=True)
    (REPORTS / "ablation.md").write_text(report(read(path)), encoding="utf-8")


def measured(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each ingredient on a data set."""
    train, test, labels = rows_of(name, seed)
    rng = np.random.default_rng(seed)
    train = train[np.sort(rng.permutation(len(train))[:MOST_ROWS])]
    tested = np.sort(rng.permutation(len(test))[:MOST_ROWS])
    test, labels = test[tested], labels[tested]
    pictures = train.ndim == 4

    def row(ingredient: str, scores: NDArray[np.float64], fit_seconds: float, rows_per_second: float) -> dict[str, Any]:
        value = round(100 * auroc(labels, scores).value, 2)
        own = {"auroc": value, "fit_seconds": round(fit_seconds, 1), "rows_per_second": round(rows_per_second)}
        return {"set": name, "seed": seed, "ingredient": ingredient, **own, "n_train": len(train), "n_test": len(test), **circumstances()}

    made = iter(INGREDIENTS)
    printed, seconds = fitted(as_printed(seed, pictures=pictures), train)
    yield row(next(made), *timed(printed.anomaly_score, test, seconds))
    ours, seconds = fitted(insphere.DeepSVDDVAE(random_state=seed), train)
    codes = ours.codes(train)
    for geometry in ("euclidean", "mahalanobis", "local"):
        sphere = fit_sphere(geometry, codes, None, n_neighbors=ours.n_neighbors, rng=np.random.default_rng(seed))
        yield row(next(made), *timed(lambda X, sphere=sphere: sphere.distance(ours.codes(X)), test, seconds))
    known = terms_of(ours, train[ours.training_index_])
    known[:, 0] = ours.training_scores_  # none of which is its own neighbour
    units = [Units.of(column, distances=number < 2) for number, column in enumerate(known.T)]
    for n_terms in (2, 3):
        yield row(next(made), *timed(lambda X, n=n_terms: fused(units[:n], terms_of(ours, X)), test, seconds))
    whitened, whitened_seconds = fitted(insphere.DeepSVDDVAE(scaling="whiten", random_state=seed), train)
    yield row(next(made), *timed(whitened.anomaly_score, test, whitened_seconds))
    turned, turned_seconds = fitted(insphere.TransformSVDD(random_state=seed), train)
    both, _, rate = timed(turned.anomaly_score, test, turned_seconds)
    terms = turned._map(turned.objective_.terms, test).astype(np.float64)
    for scores in (terms[:, 0], terms[:, 1], both):
        yield row(next(made), scores, turned_seconds, rate)
    if pictures:
        fused = np.mean([in_units(detector, test) for detector in (turned, ours)], axis=0)
        own_rate = timed(ours.anomaly_score, test, seconds)[2]
        yield row(next(made), fused, seconds + turned_seconds, 1 / (1 / rate + 1 / own_rate))
    else:
        fusion, fusion_seconds = fitted(insphere.Fusion(random_state=seed), train)
        yield row(next(made), *timed(fusion.anomaly_score, test, fusion_seconds))
    near, near_seconds = fitted(insphere.KNN(random_state=seed), train)
    yield row(next(made), *timed(near.anomaly_score, test, near_seconds))


def terms_of(detector: insphere.DeepSVDDVAE, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance, the reconstruction's squared error and KL of each row, shape (n, 3)."""
    objective = detector.objective_

    def terms(x: Tensor) -> Tensor:
        error = (x - objective.reconstruct(x)).square().flatten(1).sum(dim=1)
        return torch.stack([error, kl_to_standard_normal(*objective.posterior(x))], dim=1)

    return np.column_stack([detector.anomaly_score(X), detector._map(terms, X)]).astype(np.float64)


def fused(units: Sequence[Units | None], terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of as many terms as there are units, in these."""
    return np.mean([unit(terms[:, column]) for column, unit in enumerate(units) if unit is not None], axis=0)


def as_printed(seed: int, *, pictures: bool) -> insphere.DeepSVDDVAE:
    """Return the detector that eq. 12, eq. 13 and Algorithm 1 describe; what they leave open is as in ``papers/vae-svdd-2021``."""
    reading = {"final_center": "last", "likelihood": "bernoulli" if pictures else "gaussian"}
    training = {"optimizer": "rmsprop", "lr": 1e-3, "schedule": "constant"}
    scaling = "unit" if pictures else "standard"
    return insphere.DeepSVDDVAE(1.0, geometry="euclidean", scaling=scaling, reading=reading, training=training, random_state=seed)


def fitted(detector: Any, train: NDArray[Any]) -> tuple[Any, float]:
    """Return the fitted detector and the seconds of one core that its fit took."""
    started = time.process_time()
    detector.fit(train)
    return detector, time.process_time() - started


def timed(score: Any, test: NDArray[Any], fit_seconds: float) -> tuple[NDArray[np.float64], float, float]:
    """Return scores, the fit's seconds as they came, and rows scored a second of one core."""
    started = time.process_time()
    scores = score(test)
    return scores, fit_seconds, len(test) / max(time.process_time() - started, 1e-6)


def in_units(detector: Any, test: NDArray[Any]) -> NDArray[np.float64]:
    """Return scores in units of the training rows, as a fusion has them; zero where these are all alike."""
    units = Units.of(detector.training_scores_, distances=detector.scores_distances)
    return np.zeros(len(test)) if units is None else units(detector.anomaly_score(test))


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        "| " + " | ".join(["ingredient", *(f"{kind}: AUROC | fit, s | rows/s" for kind in KINDS)]) + " |",
        "|---" * (1 + 3 * len(KINDS)) + "|",
    ]
    for ingredient in INGREDIENTS:
        cells = [cell for names in KINDS.values() for cell in summary(rows, names, ingredient)]
        lines.append(f"| {ingredient} | {' | '.join(cells)} |")
    names = [name for of_kind in KINDS.values() for name in of_kind]
    each = [
        "| ingredient | " + " | ".join(name.removesuffix(".zip").removeprefix("adbench/") for name in names) + " |",
        "|---" * (1 + len(names)) + "|",
    ]
    for ingredient in INGREDIENTS:
        each.append(f"| {ingredient} | {' | '.join(summary(rows, (name,), ingredient)[0] for name in names)} |")
    seeds = ", ".join(sorted({str(row["seed"]) for row in rows}))
    commits = ", ".join(sorted({str(row["commit"]) for row in rows}))
    parts = [
        "# What each ingredient adds",
        *[part.strip() for part in (__doc__ or "").split("\n\n")[1:]],
        "Mean AUROC in % over the sets of a kind (and over seeds); mean seconds of one core; rows a second by one core.",
        "\n".join(lines),
        "Set by set:",
        "\n".join(each),
        f"Seeds {seeds}; commits {commits}; {rows[0]['versions']}; {rows[0]['machine']}, other work beside. Written by"
        " `benchmarks/ablation.py`; do not edit.",
    ]
    return "\n\n".join(parts) + "\n"


def summary(rows: list[dict[str, Any]], names: tuple[str, ...], ingredient: str) -> tuple[str, str, str]:
    """Return the cells of an ingredient on some sets: AUROC, fit seconds, rows a second; empty where nothing was measured."""
    own = [row for row in rows if row["set"] in names and row["ingredient"] == ingredient]
    if not own:
        return "", "", ""
    score, fit = (np.mean([float(row[name]) for row in own]) for name in ("auroc", "fit_seconds"))
    rates = [float(row["rows_per_second"]) for row in own if row["rows_per_second"]]
    return f"{score:.1f}", f"{fit:.1f}" if fit < 10 else f"{fit:.0f}", f"{np.mean(rates):,.0f}" if rates else ""


if __name__ == "__main__":
    main()
