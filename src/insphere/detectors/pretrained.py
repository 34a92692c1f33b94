"""Neural detectors whose encoder starts as that of a trained autoencoder."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from insphere.detectors.cae import CAEObjective
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.errors import ParameterError
from insphere.fields import Declared, Size, as_record
from insphere.nets.options import Network
from insphere.training.options import Training
from insphere.training.trainee import Stage
from insphere.validation import plain


@dataclasses.dataclass(frozen=True)
class Pretraining(Declared):
    """How the autoencoder is trained whose encoder the method starts from.

    Parameters
    ----------
    epochs : int, optional
        Passes over the training rows; None takes as many as the method itself.
    training : Training or mapping, optional
        What differs from `AbstractPretrainedDetector.default_pretraining`.

    Examples
    --------
    >>> Pretraining(epochs=350).epochs
    350
    """

    epochs: Size | None = None
    training: Training | Mapping[str, Any] | None = None


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractPretrainedDetector(AbstractNeuralDetector):
    """A neural detector that first trains the autoencoder `CAE` and takes over its encoder.

    Parameters
    ----------
    pretrain : bool, Pretraining or mapping
        Whether to, and how: True is ``Pretraining()``.
    **shared
        See `AbstractNeuralDetector`.
    """

    default_pretraining: ClassVar[Training] = Training()

    pretrain: bool | Pretraining | Mapping[str, Any] = True

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._pretraining = as_record("pretrain", None if isinstance(plain(self.pretrain), bool) else self.pretrain, Pretraining)
        # Rows are held out for both or for neither, so that what one holds out the other has not seen.
        default = dataclasses.replace(
            self.default_pretraining,
            batch_size=self._options.batch_size,
            patience=self._options.patience,
            validation_fraction=self._options.validation_fraction,
        )
        self._pretraining_options = as_record("pretrain.training", self._pretraining.training, Training, default)
        if self._pretraining_options.patience is not None and self._options.patience is None:
            raise ParameterError("`pretrain.training.patience` needs `training.patience`: rows are held out for both or for neither.")

    def _stages_before(self, input_shape: Sequence[int], latent_dim: int, network: Network, n_epochs: int) -> list[Stage]:
        if plain(self.pretrain) is False:
            return []
        objective = CAEObjective(input_shape, latent_dim, network)
        return [Stage(objective, self._pretraining_options, self._pretraining.epochs or n_epochs, "pretraining")]
