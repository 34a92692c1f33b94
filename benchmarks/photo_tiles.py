"""Small marks on large photos: what ``tiles`` of the detector `photo` brings, on made-up plates.

    python benchmarks/photo_tiles.py --seeds 0 1 2

draws metal plates of 1600 × 1200 pixels as `insphere demo --photos` does, all of them good, and puts a round spot of 8 to 14 pixels, darker
or brighter than the plate by 40 grey levels, on half of those to test with: a hundredth of a percent of the picture at most. It writes
benchmarks/reports/photo-tiles.md: AUROC over the test photos, the share of spots found and of good photos flagged at 5 % asked, the share
of the places of good photos that lie below a spot, seconds of the fit, photos a second of the scoring with heat-maps (drawing and decoding
not among them), and the size of the model file. The settings were named before anything was run.
"""

import argparse
import platform
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import insphere
from insphere.data.plates import PlateName, draw_plate
from insphere.explain.maps import at_size
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
SIZE = (1200, 1600)
SETTINGS: dict[str, Any] = {"none": None, "2x2": "2x2", "auto": "auto"}
"""Values of ``tiles``."""


def spotted(photo: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a photo with one small spot in its middle half, and the spot's mask."""
    height, width = SIZE
    row, column = rng.integers(height // 4, 3 * height // 4), rng.integers(width // 4, 3 * width // 4)
    y, x = np.ogrid[:height, :width]
    mask = (y - row) ** 2 + (x - column) ** 2 <= (rng.uniform(8, 14) / 2) ** 2
    changed = photo.astype(np.int16)
    changed[mask] += 40 if rng.random() < 0.5 else -40
    return changed.clip(0, 255).astype(np.uint8), mask


def drawn(seed: int, n_train: int, n_test: int) -> tuple[list[Any], list[Any], list[NDArray[np.bool_]]]:
    """Return photos to fit on, photos to test with (the second half of them with a spot), and the masks of the spots."""
    rng = np.random.default_rng(seed)
    train = [draw_plate(PlateName("train", "good", number), seed=seed, image_size=SIZE)[0] for number in range(n_train)]
    test = [draw_plate(PlateName("test", "good", number), seed=seed, image_size=SIZE)[0] for number in range(n_test)]
    changed = [spotted(photo, rng) for photo in test[n_test // 2 :]]
    return train, test[: n_test // 2] + [photo for photo, _ in changed], [mask for _, mask in changed]


def measured(tiles: Any, seed: int, train: list[Any], test: list[Any], masks: list[NDArray[np.bool_]]) -> dict[str, float]:
    """Return the figures of one fit."""
    detector = insphere.PhotoSpheres(random_state=seed, tiles=tiles)
    height, width = detector.wanted_size(*SIZE)

    def brought(photos: list[Any]) -> NDArray[np.uint8]:
        images = (Image.fromarray(photo) for photo in photos)
        return np.stack([np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)) for image in images])

    learned, judged = brought(train), brought(test)
    started = time.perf_counter()
    detector.fit(learned)
    fitted = time.perf_counter()
    (batch,) = detector.score_batches(judged, maps=True, batch_size=len(judged))
    scored = time.perf_counter()
    labels = np.repeat([0, 1], [len(test) - len(masks), len(masks)])
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "m.insphere")
        megabytes = (Path(folder) / "m.insphere").stat().st_size / 1e6
    inside = [at_size(heat, *SIZE)[mask].mean() for heat, mask in zip(batch.maps[labels == 1], masks, strict=True)]
    sound = batch.maps[labels == 0]
    ranks = [(sound < level).mean() for level in inside]
    return {
        "AUROC": 100 * auroc(labels, batch.anomaly_score).value,
        "found": 100 * batch.is_anomaly[labels == 1].mean(),
        "false alarms": 100 * batch.is_anomaly[labels == 0].mean(),
        "spot above sound places": 100 * float(np.mean(ranks)),
        "fit, s": fitted - started,
        "photos/s": len(judged) / (scored - fitted),
        "MB": megabytes,
    }


def main() -> None:
    """Run everything and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=60)
    parser.add_argument("--test", type=int, default=60)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for seed in options.seeds:
        photos = drawn(seed, options.train, options.test)
        for name, tiles in SETTINGS.items():
            found[name].append(measured(tiles, seed, *photos))
            print(name, seed, {key: round(value, 1) for key, value in found[name][-1].items()}, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=REPORTS).stdout.strip()
    columns = list(found["none"][0])
    lines = ["# Small marks on large photos", "", *(line.strip() for line in (__doc__ or "").splitlines()[2:] if line.strip()), ""]
    lines += [
        f"{options.train} photos to fit on, {options.test} to test with; mean ± standard deviation over {len(options.seeds)} seeds,"
        " % but for the last three.",
        "",
        "| tiles | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, rows in found.items():
        lines.append(f"| {name} | " + " | ".join(spread([row[column] for row in rows]) for column in columns) + " |")
    versions = f"insphere {insphere.__version__}, torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    lines += ["", f"{versions}; {platform.machine()}, {torch.get_num_threads()} thread, other work beside; after commit {commit}.", ""]
    (REPORTS / "photo-tiles.md").write_text("\n".join(lines), encoding="utf-8")


def spread(values: list[float]) -> str:
    """Return mean and standard deviation."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
