"""Photos of three products in one model: spheres in common, or each product its own, beside a model for each.

    OMP_NUM_THREADS=1 INSPHERE_DATA=FOLDER python benchmarks/products.py

Castings, pills and magnetic tiles are brought to 128 × 128 pixels; at most 120 normal pictures of each, drawn by the seed, are fitted to,
and 200 others of each scored. "a model each" is the detector `photo` fitted to one product alone; "common" and "own" are one model of all
three, told which picture is of which (`categories`), with spheres="common" and "own"; "auto" is the default, which chooses without labels.
"two cameras" are the castings again, parted at random: what looks alike. False alarms are those among the normal pictures that were
scored, at 5 % asked, each product at its own threshold. Nothing was chosen by these figures, but settings of `photo` were chosen on these
sets. Runs that are in the CSV already are not repeated. Writes benchmarks/reports/products.csv and products.md.
"""

import argparse
import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import circumstances, heading, origin, read, write
from transformations import spread

import insphere
from insphere.metrics import auroc
from insphere.seeding import generator

REPORTS = Path(__file__).parent / "reports"
PRODUCTS = ("castings", "pills", "magnetic-tiles")
WAYS = ("a model each", "common", "own", "auto")
SIDE, N_TRAIN, N_TEST = 128, 120, 200

Part = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = REPORTS / "products.csv"
    for seed in options.seeds:
        for group in ("three products", "two cameras"):
            for way in WAYS:
                if not any((row["group"], row["way"], int(row["seed"])) == (group, way, seed) for row in read(path)):
                    rows = [{"group": group, "way": way, "seed": seed} | row | circumstances() for row in run(group, way, seed)]
                    write(path, [*read(path), *rows])
                    print(*(f"{row['group']}, {row['way']}, {row['product']}: {row['auroc']}" for row in rows), sep="\n", flush=True)
    (REPORTS / "products.md").write_text(report(read(path)), encoding="utf-8")


def run(group: str, way: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield AUROC and false alarms of each product by one way."""
    parts = parts_of(group, seed)
    if way == "a model each":
        models = {name: insphere.PhotoSpheres(random_state=seed).fit(train) for name, (train, _, _) in parts.items()}
    else:
        names = [name for name, (train, _, _) in parts.items() for _ in train]
        every = np.concatenate([train for train, _, _ in parts.values()])
        models = dict.fromkeys(parts, insphere.PhotoSpheres(random_state=seed, spheres=way).fit(every, categories=names))
    for name, (_, test, labels) in parts.items():
        known = None if way == "a model each" else [name] * len(test)
        batches = list(models[name].score_batches(test, categories=known))
        scores, flagged = (np.concatenate([getattr(batch, column) for batch in batches]) for column in ("anomaly_score", "is_anomaly"))
        yield {
            "product": name,
            "auroc": round(100 * auroc(labels, scores).value, 2),
            "false_alarms": round(100 * float(flagged[~labels].mean()), 1),
            "n_spheres": len(models[name].spheres_),
            "look_for": models[name].settled_.look_for,
            "n_train": len(parts[name][0]),
            "n_normal": int((~labels).sum()),
        }


def parts_of(group: str, seed: int) -> dict[str, Part]:
    """Return training pictures, test pictures and which of these are anomalous, of each product or camera."""
    rng = generator(seed, "pictures of products")
    if group == "three products":
        return {name: drawn(name, rng, 1)[0] for name in PRODUCTS}
    return dict(zip(("left", "right"), drawn("castings", rng, 2), strict=True))


def drawn(name: str, rng: np.random.Generator, n_parts: int) -> list[Part]:
    """Return pictures of a set in random order, in parts of which no two share one."""
    train, test, labels = pictures(name)
    of_train, of_test = rng.permutation(len(train))[: n_parts * N_TRAIN], rng.permutation(len(test))[: n_parts * N_TEST]
    return [(train[of_train[n::n_parts]], test[of_test[n::n_parts]], labels[of_test[n::n_parts]]) for n in range(n_parts)]


@functools.cache
def pictures(name: str) -> Part:
    """Return the training pictures, the test pictures and which of these are anomalous, in colour."""
    path = Path(os.environ["INSPHERE_DATA"]) / f"{name}.zip"
    train, test = (insphere.open_source(path, split=part, image_size=(SIDE, SIDE)) for part in ("train", "test"))
    colour = [np.repeat(source.load().X, 3 // source.row_shape[2], axis=3) for source in (train, test)]
    return colour[0], colour[1], np.asarray(test.labels, dtype=bool)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        *heading("Several products in one model", __doc__),
        "AUROC and false alarms in %, means over seeds, ± their standard deviation.",
        "",
        "| pictures | product | spheres | AUROC | false alarms | sets of spheres | looked for |",
        "|" + "---|" * 7,
    ]
    for group, product, way in dict.fromkeys((row["group"], row["product"], row["way"]) for row in rows):
        own = [row for row in rows if (row["group"], row["product"], row["way"]) == (group, product, way)]
        numbers, sought = (", ".join(dict.fromkeys(str(row[column]) for row in own)) for column in ("n_spheres", "look_for"))
        cells = " | ".join(spread([row[column] for row in own]) for column in ("auroc", "false_alarms"))
        lines.append(f"| {group} | {product} | {way} | {cells} | {numbers} | {sought} |")
    for group, way in dict.fromkeys((row["group"], row["way"]) for row in rows):
        own = [row for row in rows if (row["group"], row["way"]) == (group, way)]
        means = (f"**{np.mean([float(row[column]) for row in own]):.1f}**" for column in ("auroc", "false_alarms"))
        lines.append(f"| **{group}** | **mean** | {way} | {' | '.join(means)} | | |")
    lines += ["", origin(rows, "products.py"), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
