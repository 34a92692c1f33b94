"""Attacked images of the normal class as anomalies: how well detectors tell them from clean ones, over the strength of the attack."""

import dataclasses
import datetime
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from insphere.attacks.classifier import Classifier, fit_classifier, load_classifier
from insphere.attacks.fgsm import fgsm
from insphere.attacks.gradients import has_gradient, score_gradient
from insphere.benchmark.attacks.draws import draw_areas, summarise_areas
from insphere.benchmark.attacks.reports import FORMAT_VERSION, read_attack_report, to_attack_table
from insphere.benchmark.attacks.settings import ATTACKS, AttackSettings
from insphere.benchmark.attacks.table import write_attack_tables
from insphere.benchmark.run.run import PlannedRun
from insphere.benchmark.tables.expected import Expected
from insphere.data import AbstractSource, ArraySource
from insphere.data.datasets import load_dataset
from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, HealthWarning
from insphere.output_file import make_folder, replacing

Images = NDArray[np.uint8]


class AttackedRun(Protocol):
    """What is asked of a run; `insphere.benchmark.run.run.Run` has it."""

    @property
    def id(self) -> str:
        """Name, fit for a file name."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def detector(self) -> str:
        """Name of its detector in the catalog."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Arguments of the detector, without the seed."""

    @property
    def seed(self) -> int:
        """Seed of the detector."""

    @property
    def label(self) -> str:
        """What tables call the method."""

    @property
    def control(self) -> bool:
        """Whether tables mark the method as a control."""


class PlannedAttack(AttackedRun, PlannedRun, Protocol):
    """A run of a plan, as far as attacks are concerned."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What all detectors meet: the attacked network, clean images, and those of them that can be attacked.

    Attributes
    ----------
    settings : AttackSettings
    train : AbstractSource
        Training images of the normal class.
    clean : ndarray of uint8, shape (n, height, width, channels)
        Test images of the normal class.
    classifier : Classifier
    accuracy : float
        Share of all test images that the classifier gets right.
    class_number : int
        The normal class, among those of the classifier.
    correct : ndarray of int64
        Positions in `clean` of the images that the classifier gets right; only these are attacked.
    """

    settings: AttackSettings
    train: AbstractSource
    clean: Images
    classifier: Classifier
    accuracy: float
    class_number: int
    correct: NDArray[np.int64]


def run_attack_benchmark(
    runs: Iterable[AttackedRun],
    settings: AttackSettings,
    out: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    environment: Mapping[str, Any] | None = None,
    on_report: Callable[[dict[str, Any]], None] | None = None,
) -> list[Path]:
    """Attack a classifier of all classes, have each run's detector tell attacked images from clean ones, and report one file a run.

    A detector is fitted on the training images of the normal class. Its test sets have all clean test images of that class and
    `n_attacked` attacked ones, drawn from those that the classifier gets right when clean. Three attacks, each one FGSM step:

    - ``classifier`` raises the classifier's loss, and knows nothing of detectors: the published setting.
    - ``evasion`` knows the detector as well: it raises the classifier's loss and lowers the anomaly score, both gradients scaled to the
      same mean size. A low AUROC says that who knows the detector slips past it; `fooled` says how often the classifier still errs.
    - ``false-alarm`` raises the anomaly score alone. A high AUROC at a small epsilon says that the score itself is easily moved.

    Parameters
    ----------
    runs : iterable of runs
        Their data set and class are those of `settings`.
    settings : AttackSettings
    out : path
        Folder, made if missing: for every run ``<id>.json`` and ``<id>.scores.parquet`` (clean and attacked images), and once the
        classifier and the attacked images (``.npz``). A run whose JSON exists is not done again.
    data_dir : path, optional
        As `insphere.data.load_dataset`.
    environment : mapping, optional
        What is known of the place: ``commit``, ``machine``, …; goes into the reports.
    on_report : callable, optional
        Called with every new report.

    Returns
    -------
    list of Path
        The reports, in the order of the runs. One whose detector failed says so, and is not tried again until it is deleted.

    Raises
    ------
    DataError
        If the data set is not a set of uint8 images, or fewer images than `n_attacked` can be attacked.
    DatasetNotFoundError, ModelFileError, OutputError
        If the data are missing, the stored classifier is another one, or a file cannot be written.
    """
    folder = make_folder(out)
    wanted = [(run, folder / f"{_identity(run, settings)}.json") for run in runs]
    missing = [(run, path) for run, path in wanted if not path.exists()]
    target = _prepare(settings, folder, data_dir) if missing else None
    for run, path in missing:
        report = _report(run, target, path, dict(environment or {})) if target else {}
        with replacing(path) as handle:
            handle.write((json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
        if on_report is not None:
            on_report(report)
    return [path for _, path in wanted]


def run_attack_stage(
    runs: Iterable[PlannedAttack],
    settings: AttackSettings,
    output: str | os.PathLike[str],
    *,
    expected: Expected | None = None,
    **options: Any,
) -> list[Path]:
    """Do all that a plan's section ``[attack]`` asks for, below the folder of the benchmark, and return the files for people to read.

    Parameters
    ----------
    runs : iterable of runs
        All of the plan; those that take part are chosen, see `AttackSettings.choose`.
    settings : AttackSettings
    output : path
        Reports go to ``attacks`` in it, the compact table to ``attacks.csv``, the table for people to ``tables``.
    expected : Expected, optional
        Published values.
    **options
        As `run_attack_benchmark`.

    Raises
    ------
    ParameterError, DataError, DatasetNotFoundError, ModelFileError, OutputError
        See `AttackSettings.choose` and `run_attack_benchmark`.
    """
    folder = make_folder(output)
    reports = run_attack_benchmark(settings.choose(runs), settings, folder / "attacks", **options)
    table = to_attack_table(map(read_attack_report, reports))
    with replacing(folder / "attacks.csv") as handle:
        pa_csv.write_csv(table, handle)
    return [folder / "attacks.csv", *write_attack_tables(table, folder / "tables", expected=expected)]


def _identity(run: AttackedRun, settings: AttackSettings) -> str:
    return f"{run.id}-attack-{_digest(settings)}"


def _images_name(settings: AttackSettings) -> str:
    return f"attacked-{_digest(settings)}.npz"


def _digest(settings: AttackSettings) -> str:
    # Which other methods take part says nothing about this one.
    content = {name: value for name, value in dataclasses.asdict(settings).items() if name != "methods"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _prepare(settings: AttackSettings, folder: Path, data_dir: str | os.PathLike[str] | None) -> Target:
    """Return what all detectors meet; the classifier is trained once and kept, and the attacked images are written for galleries."""
    name = f"{settings.dataset}:{settings.normal_class}"
    everything, test = (load_dataset(name, split, data_dir=data_dir) for split in ("all", "test"))
    train = load_dataset(name, "train", data_dir=data_dir)
    images, types = test.load().X, test.types
    if images.dtype != np.uint8 or types is None or test.labels is None:
        raise DataError(f"{settings.dataset} cannot be attacked: it must have uint8 images of several classes.")
    classifier = _classifier(settings, everything.take(np.arange(len(everything) - len(test))), folder)
    predicted = classifier.predict(images)
    truth = np.array([classifier.class_number(type_) for type_ in types])
    normal = test.labels == 0
    correct = np.flatnonzero(predicted[normal] == truth[normal])
    if len(correct) < settings.n_attacked:
        raise DataError(
            f"The classifier gets {len(correct)} of {int(normal.sum())} test images of {name} right, and {settings.n_attacked} are to be"
            " attacked; train it longer (`classifier_epochs`) or lower `n_attacked`."
        )
    accuracy = float(np.mean(predicted == truth))
    target = Target(settings, train, images[normal], classifier, accuracy, int(truth[normal][0]), correct)
    _write_images(target, folder / _images_name(settings))
    return target


def _classifier(settings: AttackSettings, source: AbstractSource, folder: Path) -> Classifier:
    rows, types = source.load().X, source.types or ()
    about = f"{settings.seed} {settings.classifier_epochs} {types}".encode()
    fingerprint = hashlib.sha256(about + np.ascontiguousarray(rows).tobytes()).hexdigest()
    path = folder / f"classifier-{fingerprint[:8]}.insphere"
    if path.exists():
        return load_classifier(path, fingerprint)
    classifier = fit_classifier(rows, types, seed=settings.seed, epochs=settings.classifier_epochs)
    classifier.save(path, fingerprint)
    return classifier


def _write_images(target: Target, path: Path) -> None:
    gradient = _classifier_gradient(target)
    candidates = target.clean[target.correct]
    attacked = np.stack([fgsm(candidates, gradient, epsilon) for epsilon in target.settings.epsilons])
    with replacing(path) as handle:
        np.savez_compressed(handle, clean=target.clean, attacked=attacked, epsilons=np.array(target.settings.epsilons))


def _classifier_gradient(target: Target) -> NDArray[np.float32]:
    return target.classifier.loss_gradient(target.clean[target.correct], np.full(len(target.correct), target.class_number))


def _report(run: AttackedRun, target: Target, path: Path, environment: dict[str, Any]) -> dict[str, Any]:
    settings, started = target.settings, time.perf_counter()
    fields = {"method": run.method, "detector": run.detector, "parameters": dict(run.parameters), "seed": run.seed, "label": run.label}
    fields |= {"control": run.control, "dataset": settings.dataset, "normal_class": settings.normal_class}
    report: dict[str, Any] = {
        "format_version": FORMAT_VERSION, "images": _images_name(settings),
        "run": fields, "settings": dataclasses.asdict(settings), "status": "ok", "error": None,
        "classifier_accuracy": target.accuracy, "n_clean": len(target.clean), "n_candidates": len(target.correct),
        "n_attacked": settings.n_attacked, "n_draws": settings.n_draws, "attacks": [], "false_alarm_rate": None, "health": None,
        "seconds": {}, "environment": environment, "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    try:
        detector = catalog.make(run.detector, {**run.parameters, "random_state": run.seed})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HealthWarning)  # the report says the level
            detector.fit(target.train)
        report["seconds"]["fit"] = round(time.perf_counter() - started, 4)
        versions = ", ".join(f"{name} {number}" for name, number in detector.versions_.items())
        report["environment"] = {"versions": versions, "device": str(getattr(detector, "_device", "cpu"))} | environment
        report["health"] = detector.health_.level
        report |= _measure(detector, target, path)
        report["seconds"]["attack"] = round(time.perf_counter() - started - report["seconds"]["fit"], 4)
    except Exception as error:  # whatever it is, the other runs go on, and the report says it
        report |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    return report


def _measure(detector: AbstractDetector, target: Target, path: Path) -> dict[str, Any]:
    """Return what the detector makes of every attack, and write the scores of the clean images and of those attacked the published way."""
    clean = detector.anomaly_score(ArraySource(target.clean))
    blocks, attacks = [("clean", clean)], []
    for attack, gradient in _gradients(detector, target).items():
        for epsilon in target.settings.epsilons:
            attacked = fgsm(target.clean[target.correct], gradient, epsilon)
            scores = detector.anomaly_score(ArraySource(attacked))
            fooled = float(np.mean(target.classifier.predict(attacked) != target.class_number))
            flagged = float(np.mean(scores > detector.threshold_))
            areas = draw_areas(clean, scores, target.settings, epsilon)
            attacks.append({"attack": attack, "epsilon": epsilon, "fooled": fooled, "flagged": flagged, **summarise_areas(areas)})
            if attack == ATTACKS[0]:
                blocks.append((f"epsilon {epsilon}", scores))
    kinds = [kind for kind, scores in blocks for _ in scores]
    joined = np.concatenate([scores for _, scores in blocks])
    labels = [int(kind != "clean") for kind in kinds]
    table = pa.table({"type": kinds, "label": labels, "anomaly_score": joined, "is_anomaly": joined > detector.threshold_})
    with replacing(path.with_suffix(".scores.parquet")) as handle:
        pq.write_table(table, handle)
    return {"attacks": attacks, "false_alarm_rate": float(np.mean(clean > detector.threshold_))}


def _gradients(detector: AbstractDetector, target: Target) -> dict[str, NDArray[np.float32]]:
    """Return the direction of each attack on the images that can be attacked; without a gradient of its own, of the first only."""
    of_classifier = _classifier_gradient(target)
    if not has_gradient(detector):
        return {ATTACKS[0]: of_classifier}
    of_score = score_gradient(detector, target.clean[target.correct])
    return dict(zip(ATTACKS, (of_classifier, _unit(of_classifier) - _unit(of_score), of_score), strict=True))


def _unit(gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each image's gradient with a mean size of 1, zero where it is zero."""
    size = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    scaled: NDArray[np.float32] = np.divide(gradient, size, out=np.zeros(gradient.shape), where=size > 0).astype(np.float32)
    return scaled
