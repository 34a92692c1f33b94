"""The place of one model in a service: who answers under a name and version, with which queue, from which file."""

import dataclasses
from typing import Literal

from insphere.serving.batching import Batcher
from insphere.serving.models import FileVersion, ModelPlace, ServedModel


@dataclasses.dataclass(frozen=True)
class WaitingFile:
    """A model file in a served folder that has not become a model: it is being tried, or was refused and waits for a better one."""

    place: ModelPlace
    state: Literal["loading", "refused"]
    read_as: FileVersion | None


class Slot:
    """One name and version: the model that answers now, its queue, and the file it came from."""

    def __init__(self, place: ModelPlace | None, model: ServedModel, batcher: Batcher, read_as: FileVersion | None) -> None:
        self.place, self.model, self.batcher, self.read_as = place, model, batcher, read_as

    @property
    def ready(self) -> bool:
        """Whether the model scores."""
        return self.model.problem is None
