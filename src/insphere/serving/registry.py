"""The models that a service answers with: found by name and version, loaded aside and swapped when their files change."""

import dataclasses
import logging
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.errors import InsphereError, ModelFileError, ParameterError, did_you_mean
from insphere.serving.answers import Refusal, busy
from insphere.serving.batching import Batcher
from insphere.serving.metrics import Metrics
from insphere.serving.models import FileVersion, ModelFolder, ModelPlace, ServedModel, Sources, file_version, split_label
from insphere.serving.settings import Settings
from insphere.serving.slot import Slot, WaitingFile
from insphere.serving.trial import Trials, Verdict

_STAYS = "model file changed and is refused; the model loaded before goes on"
_STOP_SECONDS = 5.0

_log = logging.getLogger("insphere.serving")


class Registry:
    """All models of a service.

    Models named one by one are loaded at once; those of folders by the first `reload`, so that one that is slow keeps none waiting. Each
    file is tried in a process of its own first (`Trials`).

    Parameters
    ----------
    models : sequence of ModelPlace and ModelFolder, or mapping of ``NAME`` or ``NAME@VERSION`` to a fitted detector or path
    settings : Settings
    metrics : Metrics

    Raises
    ------
    ModelFileError
        If a file that was named cannot be loaded: a service does not start with such a model missing.
    ParameterError
        If there is no model, or two have one name and version.
    """

    def __init__(self, models: Sources, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._slots: dict[str, dict[str, Slot]] = {}
        self._waiting: dict[Path, WaitingFile] = {}
        self._folders = [] if isinstance(models, Mapping) else [found for found in models if isinstance(found, ModelFolder)]
        self._reloading = threading.Lock()
        self._key = settings.require_signature
        self._trials = Trials(settings.load_seconds, self._key)
        entries = list(_entries(models))
        in_folders = [place for folder in self._folders for place in folder.places()]
        _check_names([*(place for place, _ in entries), *in_folders])
        self._waiting = {place.path: WaitingFile(place, "loading", None) for place in in_folders}
        for place, detector in entries:
            if detector is not None:
                self._add(place, self._served(place, detector), None, from_file=False)
        self._load_named([place for place, detector in entries if detector is None])
        if not self._slots and not self._waiting:
            raise ParameterError("Name at least one model to serve.")
        self._starting = bool(self._waiting)

    def slots(self) -> Iterator[Slot]:
        """Yield the slots, by name and version."""
        for name in self.names:
            versions = self._slots[name]
            yield from (versions[version] for version in sorted(versions, key=_version_order))

    def waiting(self) -> list[WaitingFile]:
        """Return the files of folders that no model answers from: being tried, or refused; by name and version."""
        return sorted(self._waiting.values(), key=lambda file: (file.place.name, _version_order(file.place.version)))

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._slots)

    @property
    def starting(self) -> bool:
        """Whether files that were there at the start are still to be tried."""
        return self._starting

    @property
    def ready(self) -> bool:
        """Whether models score, all of them, and those there at the start have been loaded or refused."""
        return not self._starting and bool(self._slots) and all(slot.ready for slot in self.slots())

    def counts(self) -> dict[str, int]:
        """Return how many models are ready, unsound, loading and refused."""
        ready = [slot.ready for slot in self.slots()]
        states = [file.state for file in self.waiting()]
        found = {"ready": sum(ready), "unsound": len(ready) - sum(ready)}
        return found | {state: states.count(state) for state in ("loading", "refused")}

    def waits(self, name: str, version: str | None) -> bool:
        """Return whether no model answers under a name and version, and a file for it is being tried or was refused."""
        known = self._slots.get(name, {})
        if known and (version is None or version in known):
            return False
        return any(file.place.name == name and version in (None, file.place.version) for file in self.waiting())

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
            404 if there is no such model or version, or none is named among several; 503 if its file is being tried, or was refused.
        """
        if name is None:
            names = sorted({*self._slots, *(file.place.name for file in self.waiting())})
            if len(names) > 1:
                raise Refusal(404, f"Several models are served; name one: /models/NAME/score, NAME being {' or '.join(names)}.")
            name = names[0]
        if self.waits(name, version):
            raise busy("This model's file is being tried, or was refused (the log says why); try again later.", 5)
        versions = self._named(name)
        if version is None:
            return versions[max(versions, key=_version_order)]
        if version not in versions:
            listed = ", ".join(self.versions(name))
            raise Refusal(404, f"Model {name} has no version {_shown(version)}; it has {listed}.")
        return versions[version]

    def _named(self, name: str) -> dict[str, Slot]:
        if name not in self._slots:
            if self.waits(name, None):
                raise busy("This model's file is being tried, or was refused (the log says why); try again later.", 5)
            listed = ", ".join(self.names)
            raise Refusal(404, f"There is no model {_shown(name)}; served are {listed}.{did_you_mean(name[:100], self._slots)}")
        return self._slots[name]

    # Loading.

    def _load_named(self, places: list[ModelPlace]) -> None:
        for place in places:
            if not place.path.exists():
                catalog.read(place.path, require_signature=self._key)  # which says so
        read_as = {place: file_version(place.path) for place in places}
        for verdict in self._trials.of(places):
            place = verdict.place
            if verdict.problem is not None:
                raise ModelFileError(f"Model {place.name}@{place.version} is refused. {verdict.problem}")
            self._add(place, self._opened(verdict), read_as[place])

    def _opened(self, verdict: Verdict) -> ServedModel:
        """Return the model of a file that has been tried, made of the very content that was."""
        place = verdict.place
        saved = catalog.read(place.path, require_signature=self._key)
        if verdict.digest not in ("", saved.digest):
            raise ModelFileError("The model file changed while it was tried; it is tried again once it changes no more.")
        return self._served(place, catalog.restore(saved, place.path))

    def _served(self, place: ModelPlace, detector: AbstractDetector) -> ServedModel:
        limits = self._settings
        model = ServedModel(place.name, place.version, detector, max_rows=limits.max_rows, fdr=limits.fdr, fdr_window=limits.fdr_window)
        if model.problem is None:
            model.warm_up()
        return model

    def _add(self, place: ModelPlace, model: ServedModel, read_as: FileVersion | None, *, from_file: bool = True) -> None:
        batcher = Batcher(
            max_batch_rows=self._settings.max_batch_rows,
            max_queue_rows=self._settings.max_queue_rows,
            max_wait_ms=self._settings.max_wait_ms,
            on_batch=self._metrics.batch_observer(place.name, place.version),
        )
        slot = Slot(place if from_file else None, model, batcher, read_as)
        # New dictionaries, because requests read the old ones meanwhile.
        self._slots = self._slots | {place.name: self._slots.get(place.name, {}) | {place.version: slot}}
        facts = {"model": place.name, "version": place.version}
        if model.problem is None:
            _log.info("model loaded", extra={"facts": facts})
        else:
            _log.error("model not ready", extra={"facts": facts | {"problem": model.problem}})

    # Reloading.

    def reload(self, *, force: bool = False) -> None:
        """Load the models whose files have changed (with `force`, all) and let each answer once it is sound; else the old one stays.

        New files in served folders become models; a model whose file is gone stays. Safe to call from any thread; scoring goes on.
        """
        with self._reloading:
            due = {place: slot for slot in self.slots() if (place := slot.place) is not None and self._is_due(slot, force=force)}
            new = [place for folder in self._folders for place in self._new_in(folder, force=force)]
            for verdict in self._trials.of([*due, *new]):
                slot = due.get(verdict.place)
                if slot is None:
                    self._take(verdict)
                else:
                    self._replace(slot, verdict)
            self._starting = False

    def _is_due(self, slot: Slot, *, force: bool) -> bool:
        place = slot.place
        found = None if place is None else file_version(place.path)
        if place is None or (found == slot.read_as and not force):
            return False
        # Remembered whether the file is good or not, so that a bad one is tried, and complained of, once.
        slot.read_as = found
        if found is None:
            self._complain(place, ModelFileError("The file is gone."), _STAYS)
        return found is not None

    def _replace(self, slot: Slot, verdict: Verdict) -> None:
        place = verdict.place
        try:
            if verdict.problem is not None:
                raise verdict.problem
            model = self._opened(verdict)
            if model.problem is not None:
                raise ModelFileError(model.problem)
        # Whatever a file does to its reader, the old model must go on answering.
        except Exception as error:
            self._complain(place, error, _STAYS)
            return
        slot.model = model
        self._metrics.reloaded(place.name, place.version, "loaded")
        _log.info("model reloaded", extra={"facts": {"model": place.name, "version": place.version}})

    def _new_in(self, folder: ModelFolder, *, force: bool) -> list[ModelPlace]:
        """Return the files of a folder that are to be tried, after forgetting those that are gone."""
        try:
            places = folder.places()
        except (ParameterError, OSError) as error:
            _log.warning("folder of models not read", extra={"facts": {"problem": str(error)}})
            return []
        here = {place.path for place in places}
        kept = {path: file for path, file in self._waiting.items() if path in here or path.parent != folder.path}
        due = []
        for place in places:
            if place.version in self._slots.get(place.name, {}):
                continue
            found, known = file_version(place.path), kept.get(place.path)
            if force or known is None or known.read_as != found:
                kept[place.path] = WaitingFile(place, "loading", found)
                due.append(place)
        self._waiting = kept
        return due

    def _take(self, verdict: Verdict) -> None:
        """Let the model of a new file answer, or keep the file as refused."""
        place = verdict.place
        file = self._waiting[place.path]
        try:
            if verdict.problem is not None:
                raise verdict.problem
            self._add(place, self._opened(verdict), file.read_as)
        except Exception as error:
            self._waiting = self._waiting | {place.path: dataclasses.replace(file, state="refused")}
            self._complain(place, error, "new model file is refused")
            return
        self._waiting = {path: other for path, other in self._waiting.items() if path != place.path}
        self._metrics.reloaded(place.name, place.version, "loaded")

    def _complain(self, place: ModelPlace, error: Exception, text: str) -> None:
        self._metrics.reloaded(place.name, place.version, "refused")
        problem = str(error) if isinstance(error, InsphereError) else type(error).__name__
        facts: dict[str, Any] = {"model": place.name, "version": place.version, "problem": problem}
        _log.error(text, extra={"facts": facts})

    def stop_trying(self) -> None:
        """End the trial that runs, and try no other file."""
        self._trials.stop()

    def close(self) -> None:
        """Answer what waits, then end the scoring threads."""
        self._trials.stop()
        end = time.monotonic() + self._settings.stop_seconds
        for slot in self.slots():
            slot.batcher.close(0)
        for slot in self.slots():
            slot.batcher.close(max(0.0, end - time.monotonic()))


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
        """End the thread, and the trial that it waits for."""
        if self._thread is not None:
            self._wishes.put("stop")
            self._registry.stop_trying()
            # A file that has been tried is loaded as fast as it was then; whatever happens, the service must end.
            self._thread.join(_STOP_SECONDS)

    def _watch(self) -> None:
        if self._registry.starting:
            self._wishes.put("look")
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
    yield from ((found, None) for found in models if isinstance(found, ModelPlace))


def _check_names(places: Iterable[ModelPlace]) -> None:
    seen = set()
    for place in places:
        if (place.name, place.version) in seen:
            raise ParameterError(f"Two models are called {place.name}@{place.version}; tell them apart with NAME@VERSION=PATH.")
        seen.add((place.name, place.version))


def _version_order(version: str) -> list[tuple[int, int, str]]:
    """Order versions as people do: 9 before 10, 1.9 before 1.10.

    >>> sorted(["10", "9", "1.10", "1.9"], key=_version_order)
    ['1.9', '1.10', '9', '10']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"[._-]", version)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
