"""The place of one model in a service: who answers under a name and version, with which queue, from which file."""

from insphere.serving.batching import Batcher
from insphere.serving.models import ModelPlace, ServedModel, Signature


class Slot:
    """One name and version: the model that answers now, its queue, and the file it came from."""

    def __init__(self, place: ModelPlace | None, model: ServedModel, batcher: Batcher, read_as: Signature | None) -> None:
        self.place, self.model, self.batcher, self.read_as = place, model, batcher, read_as

    @property
    def ready(self) -> bool:
        """Whether the model scores."""
        return self.model.problem is None
