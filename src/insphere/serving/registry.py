"""The models that a service answers with: found by name and version, loaded aside and swapped when their files change."""

import logging
import queue
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.errors import InsphereError, ModelFileError, ParameterError, did_you_mean
from insphere.serving.answers import Refusal
from insphere.serving.batching import Batcher
from insphere.serving.metrics import Metrics
from insphere.serving.models import ModelFolder, ModelPlace, ServedModel, Signature, Sources, signature, split_label
from insphere.serving.settings import Settings
from insphere.serving.slot import Slot

_log = logging.getLogger("insphere.serving")


class Registry:
    """All models of a service.

    Parameters
    ----------
    models : sequence of ModelPlace and ModelFolder, or mapping of ``NAME`` or ``NAME@VERSION`` to a fitted detector or path
    settings : Settings
    metrics : Metrics

    Raises
    ------
    ModelFileError
        If a file cannot be loaded: a service does not start with a model missing.
    ParameterError
        If there is no model, or two have one name and version.
    """

    def __init__(self, models: Sources, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._slots: dict[str, dict[str, Slot]] = {}
        self._folders = [] if isinstance(models, Mapping) else [found for found in models if isinstance(found, ModelFolder)]
        self._refused: dict[Path, Signature | None] = {}
        self._reloading = threading.Lock()
        for place, source in _entries(models):
            if place.version in self._slots.get(place.name, {}):
                raise ParameterError(f"Two models are called {place.name}@{place.version}; tell them apart with NAME@VERSION=PATH.")
            self._add(place, source)
        if not self._slots:
            raise ParameterError("Name at least one model to serve.")

    def slots(self) -> Iterator[Slot]:
        """Yield the slots, by name and version."""
        for name in self.names:
            versions = self._slots[name]
            yield from (versions[version] for version in sorted(versions, key=_version_order))

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._slots)

    @property
    def ready(self) -> bool:
        """Whether every model scores."""
        return all(slot.ready for slot in self.slots())

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, the newest last.

        Raises
        ------
        Refusal
            404 if there is no such model.
        """
        return sorted(self._named(name), key=_version_order)

    def find(self, name: str | None, version: str | None = None) -> Slot:
        """Return the slot of a model: its newest version where none is named, and the only model where none is named.

        Raises
        ------
        Refusal
            404 if there is no such model or version, or none is named among several.
        """
        if name is None:
            if len(self._slots) > 1:
                raise Refusal(404, f"Several models are served; name one: /models/NAME/score, NAME being {' or '.join(self.names)}.")
            name = self.names[0]
        versions = self._named(name)
        if version is None:
            return versions[max(versions, key=_version_order)]
        if version not in versions:
            listed = ", ".join(self.versions(name))
            raise Refusal(404, f"Model {name} has no version {_shown(version)}; it has {listed}.")
        return versions[version]

    def _named(self, name: str) -> dict[str, Slot]:
        if name not in self._slots:
            listed = ", ".join(self.names)
            raise Refusal(404, f"There is no model {_shown(name)}; served are {listed}.{did_you_mean(name[:100], self._slots)}")
        return self._slots[name]

    def _add(self, place: ModelPlace, source: AbstractDetector | None) -> None:
        read_as = None if source is not None else signature(place.path)
        model = self._make(place, catalog.load(place.path) if source is None else source)
        batcher = Batcher(
            max_batch_rows=self._settings.max_batch_rows,
            max_queue_rows=self._settings.max_queue_rows,
            max_wait_ms=self._settings.max_wait_ms,
            on_batch=self._metrics.batch_observer(place.name, place.version),
        )
        slot = Slot(place if source is None else None, model, batcher, read_as)
        # New dictionaries, because requests read the old ones meanwhile.
        self._slots = self._slots | {place.name: self._slots.get(place.name, {}) | {place.version: slot}}
        facts = {"model": place.name, "version": place.version}
        if model.problem is None:
            _log.info("model loaded", extra={"facts": facts})
        else:
            _log.error("model not ready", extra={"facts": facts | {"problem": model.problem}})

    def _make(self, place: ModelPlace, detector: AbstractDetector) -> ServedModel:
        return ServedModel(place.name, place.version, detector, max_rows=self._settings.max_rows)

    # Reloading.

    def reload(self, *, force: bool = False) -> None:
        """Load the models whose files have changed (with `force`, all) and let each answer once it is sound; else the old one stays.

        New files in served folders become models; a model whose file is gone stays. Safe to call from any thread; scoring goes on.
        """
        with self._reloading:
            for slot in list(self.slots()):
                self._reload(slot, force=force)
            for folder in self._folders:
                self._look_into(folder)

    def _reload(self, slot: Slot, *, force: bool) -> None:
        place = slot.place
        if place is None or (signature(place.path) == slot.read_as and not force):
            return
        # Remembered whether the file is good or not, so that a bad one is tried, and complained of, once.
        slot.read_as = signature(place.path)
        try:
            model = self._make(place, catalog.load(place.path))
            if model.problem is not None:
                raise ModelFileError(model.problem)
        # Whatever a file does to its reader, the old model must go on answering.
        except Exception as error:
            self._complain(place, error, "model file changed and is refused; the model loaded before goes on")
            return
        slot.model = model
        self._metrics.reloaded(place.name, place.version, "loaded")
        _log.info("model reloaded", extra={"facts": {"model": place.name, "version": place.version}})

    def _look_into(self, folder: ModelFolder) -> None:
        try:
            places = folder.places()
        except (ParameterError, OSError) as error:
            _log.warning("folder of models not read", extra={"facts": {"problem": str(error)}})
            return
        for place in places:
            read_as = signature(place.path)
            if place.version in self._slots.get(place.name, {}) or self._refused.get(place.path, ()) == read_as:
                continue
            try:
                self._add(place, None)
            except Exception as error:
                self._refused[place.path] = read_as
                self._complain(place, error, "new model file is refused")
            else:
                self._metrics.reloaded(place.name, place.version, "loaded")

    def _complain(self, place: ModelPlace, error: Exception, text: str) -> None:
        self._metrics.reloaded(place.name, place.version, "refused")
        problem = str(error) if isinstance(error, InsphereError) else type(error).__name__
        facts: dict[str, Any] = {"model": place.name, "version": place.version, "problem": problem}
        _log.error(text, extra={"facts": facts})

    def close(self) -> None:
        """Answer what waits, then end the scoring threads."""
        for slot in self.slots():
            slot.batcher.close(self._settings.stop_seconds)


class Watcher:
    """A thread that looks at the model files every few seconds.

    Parameters
    ----------
    registry : Registry
    seconds : float
        Between two looks; 0 looks only when asked.
    """

    def __init__(self, registry: Registry, seconds: float) -> None:
        self._registry, self._seconds = registry, seconds
        # A queue of this kind, because a signal handler may put into it whatever the program is at.
        self._wishes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._watch, name="insphere reload", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Load all models again, changed or not: what SIGHUP means."""
        self._wishes.put("reload")

    def stop(self) -> None:
        """End the thread, after the look that it is at."""
        if self._thread is not None:
            self._wishes.put("stop")
            self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                wish = self._wishes.get(timeout=self._seconds or None)
            except queue.Empty:
                wish = "look"
            if wish == "stop":
                return
            try:
                self._registry.reload(force=wish == "reload")
            # A look that fails (no memory, a disk that is gone) must not be the last.
            except Exception:
                _log.exception("reload failed")


def _entries(models: Sources) -> Iterator[tuple[ModelPlace, AbstractDetector | None]]:
    """Yield the place of each model, and the detector where it is given as such."""
    if isinstance(models, Mapping):
        for label, source in models.items():
            if isinstance(source, AbstractDetector):
                yield ModelPlace(*split_label(label), Path()), source
            else:
                yield ModelPlace(*split_label(label), Path(source)), None
        return
    for found in models:
        yield from ((place, None) for place in (found.places() if isinstance(found, ModelFolder) else [found]))


def _version_order(version: str) -> list[tuple[int, int, str]]:
    """Order versions as people do: 9 before 10, 1.9 before 1.10.

    >>> sorted(["10", "9", "1.10", "1.9"], key=_version_order)
    ['1.9', '1.10', '9', '10']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"[._-]", version)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
