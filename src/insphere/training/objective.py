"""What the training loop asks of a method: terms to minimise, and a code for each row."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor

from insphere.nets.shared_batches import SharesBatches
from insphere.training.noise import NoiseSource


class AbstractObjective(SharesBatches, ABC):
    """A network with a loss: what is trained, as the training loop sees it.

    A concrete objective holds its networks as submodules; whatever else must be saved with the model is a parameter or a buffer.
    """

    @abstractmethod
    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the loss terms of a batch, each a scalar mean over its rows; the term ``"loss"`` is the one minimised.

        Parameters
        ----------
        x : Tensor, float32, shape (n, channels, height, width) or (n, features)
            Preprocessed rows.
        generator : torch.Generator or SeparateGenerators
            Source of any noise, to be drawn with `insphere.training.noise.standard_normal`.
        """

    @property
    def stackable(self) -> bool:
        """Whether several of these can be trained as one, see `StackedObjective`.

        So they can if `forward` draws its noise with `standard_normal`, changes buffers in place and keeps nothing beside them, and
        does not let values of tensors decide what it computes (no ``if`` on one, no ``float`` of one).
        """
        return True

    @abstractmethod
    def code(self, x: Tensor) -> Tensor:
        """Return the deterministic codes (n, latent_dim) of a batch."""

    def reconstruct(self, x: Tensor) -> Tensor | None:
        """Return the reconstruction of a batch from its deterministic codes, shaped as `x`, or None where there is no decoder."""
        return None

    def score(self, x: Tensor) -> Tensor:
        """Return the anomaly scores (n,) of a batch, higher = more anomalous, where no sphere around the codes gives them.

        A row's score depends on that row alone.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `score`: give its detector a sphere around the codes, or write it.")

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return mean and log-variance of q(z | x), each (n, latent_dim), or None where the method has no distribution over codes."""
        return None

    def final_center(self) -> Tensor | None:
        """Return the centre c* that training ended with, shape (latent_dim,), or None to take the mean of the training codes.

        Where there are `several_centers`, those that are c*, or None to take the mean of the codes nearest to each.
        """
        return None

    def several_centers(self) -> Tensor | None:
        """Return the centres that training ended with, shape (n, latent_dim), or None for a method that has one at most."""
        return None

    # What happens around the steps; it does nothing unless a method needs it. All three run without gradients, and what they change
    # must be parameters or buffers, so that a checkpoint holds it.

    def start_from(self, earlier: "AbstractObjective") -> None:
        """Take over what an earlier stage has learned, before `begin`."""
        return None

    def begin(self, x: Tensor) -> None:
        """Prepare for training with a first batch `x`, before the first step."""
        return None

    def end_epoch(self, batches: Iterator[Tensor]) -> bool:
        """Update what changes once an epoch, and return whether training should go on.

        Parameters
        ----------
        batches : iterator of Tensor
            All training rows in order, preprocessed; taken from it costs the passes that are made with them.
        """
        return True
