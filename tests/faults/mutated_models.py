"""Model files that somebody changed, checksum and all: what `insphere.load` must refuse in words, or give a detector that scores.

The whole campaign: ``python tests/faults/mutated_models.py --mutants 50000``. The short one is a test.
"""

import argparse
import collections
import copy
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

import contract
import insphere
from insphere import model_file
from insphere.detectors.base import AbstractDetector
from insphere.errors import InsphereError, ModelFileError

SECONDS = 20.0
"""Time that one mutant may take, in seconds; what is refused or scored takes a hundredth."""

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 1e18, 10**18, -(10**18), 10**400, 1e-320, 1e308, -1e308, 0.5, -0.0, 64, 65_536, 2**31, 2**63,
    "", "x", "auto", "none", "standard", "\x1b]0;owned\x07", "\u202egnp", "x" * 5000, [], {}, [0], [1, 1], [[[[[]]]]], {"x": {}}, "..",
)  # fmt: skip
_DTYPES = (np.bool_, np.int8, np.int32, np.int64, np.uint8, np.uint64, np.float16, np.float32, np.float64)


def detectors(*, photos: bool) -> Iterator[tuple[AbstractDetector, NDArray[Any]]]:
    """Yield small detectors of every kind, unfitted, each with rows to fit and to score."""
    vectors, pictures = contract.blobs(60), contract.pictures(40)
    short: dict[str, Any] = {"epochs": 1, "random_state": 0}
    yield insphere.IForest(n_estimators=5, random_state=0), vectors
    yield insphere.KNN(random_state=0), vectors
    yield insphere.KDE(random_state=0), vectors
    yield insphere.OCSVM(random_state=0), vectors
    yield insphere.SVDD(random_state=0), vectors
    for kind in (insphere.CAE, insphere.DASVDD, insphere.DeepSVDD, insphere.DeepSVDDCAE, insphere.OCNN, insphere.VAE, insphere.DeepSVDDVAE):
        yield kind(**short), vectors
    yield insphere.DeepSVDDVAE(**short), pictures
    yield insphere.DeepSVDDVAE(**short, missing="impute"), np.where(np.arange(300).reshape(60, 5) % 17 == 0, np.nan, vectors)
    yield insphere.TransformSVDD(**short), vectors
    yield insphere.Hybrid(random_state=0, encoder={"name": "vae", "epochs": 1}), vectors
    if photos:
        plates = np.random.default_rng(0).integers(60, 200, size=(12, 32, 32, 1)).astype(np.uint8)
        yield insphere.PhotoSpheres(random_state=0), plates
        yield insphere.PatchKNN(random_state=0), plates


def saved_models(folder: Path, *, photos: bool) -> list[tuple[model_file.ModelFile, NDArray[Any]]]:
    """Return header and arrays of each detector, fitted, and rows for it."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for detector, X in detectors(photos=photos):
            detector.fit(X).save(folder / "whole.insphere")
            found.append((model_file.read(folder / "whole.insphere", "detector"), X[:3]))
    return found


def mutant(whole: model_file.ModelFile, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, NDArray[Any]], str]:
    """Return header and arrays with one to three changes, and what was changed."""
    header, arrays, done = copy.deepcopy(whole.header), dict(whole.arrays), []
    for _ in range(int(rng.integers(1, 4))):
        if arrays and rng.random() < 0.5:
            done.append(_change_array(arrays, rng))
        else:
            done.append(_change_header(header, rng))
    return header, arrays, "; ".join(done)


def _places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*where, key)
        yield from _places(entry, (*where, key))


def _change_header(header: dict[str, Any], rng: np.random.Generator) -> str:
    places = list(_places(header))
    if not places:
        return "nothing left"
    *way, last = places[int(rng.integers(len(places)))]
    holder: Any = header
    for key in way:
        holder = holder[key]
    how = rng.random()
    value = _VALUES[int(rng.integers(len(_VALUES)))]
    if how < 0.15:
        del holder[last]
        return f"without {way}{last!r}"
    if how < 0.4 and type(holder[last]) in (int, float):
        value = holder[last] * [-1, 0, 2, 10, 1000, 10**9][int(rng.integers(6))]
        value = None if isinstance(value, float) and not np.isfinite(value) else value
    elif how < 0.5:
        other = places[int(rng.integers(len(places)))]
        value = header
        for key in other:
            value = (
                value[key] if isinstance(value, dict | list) and (key in value if isinstance(value, dict) else key < len(value)) else None
            )
        value = copy.deepcopy(value)
    holder[last] = value
    return f"{way}{last!r} = {str(value)[:60]!r}" if not isinstance(value, int) or abs(value) < 2**64 else f"{way}{last!r} = huge"


def _change_array(arrays: dict[str, NDArray[Any]], rng: np.random.Generator) -> str:
    name = sorted(arrays)[int(rng.integers(len(arrays)))]
    array, how = arrays[name], int(rng.integers(9))
    if how == 0:
        del arrays[name]
        return f"without {name}"
    if how == 1:
        array = array[..., :-1] if array.ndim else array.reshape(1)
    elif how == 2:
        array = array.T if array.ndim > 1 else array[None]
    elif how == 3:
        array = np.zeros((0,) * array.ndim, array.dtype)
    elif how == 4:
        with np.errstate(all="ignore"):
            array = array.astype(_DTYPES[int(rng.integers(len(_DTYPES)))])
    elif how == 5:
        array = np.zeros_like(array)
    elif how == 6 and array.size:
        array = array.copy()
        extreme: list[Any] = [True]
        if array.dtype.kind == "f":
            extreme = [np.nan, np.inf, np.finfo(array.dtype).max, np.finfo(array.dtype).min, 0]
        elif array.dtype.kind in "iu":
            extreme = [np.iinfo(array.dtype).max, np.iinfo(array.dtype).min, 0, 1]
        array.flat[int(rng.integers(array.size))] = extreme[int(rng.integers(len(extreme)))]
    elif how == 7 and array.size:
        with np.errstate(all="ignore"):
            array = (array.astype(np.float64) * [-1, 1000, 1e30][int(rng.integers(3))]).astype(array.dtype)
    else:
        array = np.repeat(array, 2, axis=0) if array.ndim else array
    arrays[name] = np.ascontiguousarray(array) if array.ndim else array
    return f"{name}: change {how}"


class TooSlowError(Exception):
    """A mutant took longer than `SECONDS`."""


def _too_slow(number: int, frame: types.FrameType | None) -> None:
    raise TooSlowError


def outcome(path: Path, rows: NDArray[Any]) -> tuple[str, str]:
    """Return "refused", "scored" or what went wrong ("traceback", "refused late", "slow"), and the text of it."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        try:
            detector = insphere.load(path)
        except ModelFileError as error:
            return "refused", str(error)
        except InsphereError as error:
            return "traceback", f"not a ModelFileError: {error}"
        try:
            detector.describe()
            if detector.input_.shape == rows.shape[1:]:
                scores = detector.anomaly_score(rows)
                if not np.isfinite(scores).all():
                    return "refused late", "scores that are not finite"
        except InsphereError as error:
            return "refused late", str(error)
        return "scored", ""
    except TooSlowError:
        return "slow", ""
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def campaign(n_mutants: int, seed: int, *, photos: bool) -> tuple[collections.Counter[str], list[str], float]:
    """Load mutants of every detector; return how many ended how, a line for each that ended badly, and the seconds of the slowest."""
    rng, counts, bad, slowest = np.random.default_rng(seed), collections.Counter[str](), [], 0.0
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            models, path = saved_models(Path(folder), photos=photos), Path(folder, "mutant.insphere")
            for number in range(n_mutants):
                whole, rows = models[number % len(models)]
                header, arrays, what = mutant(whole, rng)
                model_file.write(path, "detector", header, arrays)
                start = time.perf_counter()
                end, text = outcome(path, rows)
                slowest = max(slowest, time.perf_counter() - start)
                counts[end] += 1
                if end not in ("refused", "scored"):
                    bad.append(f"{end}: {whole.header['detector']}, {what}: {text}")
    finally:
        signal.signal(signal.SIGALRM, before)
    return counts, bad, slowest


def main() -> None:
    """Run the campaign and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-photos", action="store_true")
    given = parser.parse_args()
    start = time.perf_counter()
    counts, bad, slowest = campaign(given.mutants, given.seed, photos=not given.no_photos)
    for line in bad[:60]:
        sys.stdout.write(f"{line}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {"seconds": round(time.perf_counter() - start), "slowest_seconds": round(slowest, 2), "peak_mib": round(peak)}
    sys.stdout.write(json.dumps({**counts, **facts}) + "\n")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
