"""From numpy to PyTorch and back: what all neural detectors share, whatever they score by."""

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.data.preprocess import SCALINGS, Preprocess, fit_preprocess
from insphere.detectors import health
from insphere.detectors.base import AbstractDetector, FitContext
from insphere.errors import ModelFileError
from insphere.nets.build import initialise
from insphere.nets.options import Network, default_latent_dim
from insphere.seeding import derive_seed, generator
from insphere.training.device import place, resolve_device
from insphere.training.history import EpochRecord
from insphere.training.loop import map_batches, train
from insphere.training.objective import AbstractObjective
from insphere.training.options import Training, default_epochs
from insphere.validation import as_record, check_choice, check_integer

_HEALTH_ROWS = 2048


class AbstractNeuralDetector(AbstractDetector):
    """A detector whose model is an `AbstractObjective` trained by the training loop.

    A concrete class has the parameters `latent_dim`, `scaling`, `epochs`, `network`, `training`, `device` beside those of
    `AbstractDetector`, and says which objective it trains (`_make_objective`).
    """

    latent_dim: int | None
    scaling: str
    epochs: int | None
    network: Network | Mapping[str, Any] | None
    training: Training | Mapping[str, Any] | None
    device: str

    @abstractmethod
    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> AbstractObjective:
        """Return the untrained objective; its weights are drawn afterwards."""

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._options = as_record("training", self.training, Training)
        self._network = as_record("network", self.network, Network)
        self._device = resolve_device(self.device)
        check_choice("scaling", self.scaling, SCALINGS)
        for name, value in (("epochs", self.epochs), ("latent_dim", self.latent_dim)):
            if value is not None:
                check_integer(name, value, at_least=1, at_most=100_000)

    def _train(self, X: NDArray[Any], context: FitContext) -> None:
        """Fit preprocessing and networks on the rows, less those that early stopping holds out."""
        options: Training = self._options
        validation_rows = None
        if options.patience is not None:
            order = generator(self.seed_, "validation split").permutation(len(X))
            n_validation = max(1, round(options.validation_fraction * len(X)))
            validation_rows, X = X[np.sort(order[:n_validation])], X[np.sort(order[n_validation:])]
        self.preprocess_ = fit_preprocess(X, self.scaling)
        latent_dim = default_latent_dim(self.input_shape_) if self.latent_dim is None else self.latent_dim
        # Layers draw their first weights from PyTorch's global state as they are built: leave it as it was, and draw anew.
        with torch.random.fork_rng(devices=[]):
            self.objective_ = self._make_objective(self.input_shape_, latent_dim, self._network)
        initialise(self.objective_, derive_seed(self.seed_, "weights"))
        n_epochs = default_epochs(options.batches_per_epoch(len(X))) if self.epochs is None else self.epochs
        self.history_: list[EpochRecord] = train(
            self.objective_,
            X,
            self.preprocess_.apply,
            options,
            n_epochs=n_epochs,
            seed=self.seed_,
            device=self._device,
            validation_rows=validation_rows,
            fingerprint=self._fit_fingerprint(n_epochs),
            checkpoint=context.checkpoint,
            resume=context.resume,
            on_epoch=context.on_epoch,
        )

    def _map(self, function: Callable[[Tensor], Tensor], X: NDArray[Any]) -> NDArray[np.float32]:
        return map_batches(function, X, self.preprocess_.apply, device=next(self.objective_.parameters()).device)

    def _network_findings(self, X: NDArray[Any]) -> list[health.Finding]:
        """Return what can be said of the networks after training, on at most 2048 training rows."""
        rows = X[:: max(1, len(X) // _HEALTH_ROWS)][:_HEALTH_ROWS]

        def posterior(x: Tensor) -> Tensor:
            both = self.objective_.posterior(x)
            return self.objective_.code(x) if both is None else torch.cat(both, dim=1)

        codes = self._map(posterior, rows).astype(np.float64)
        mu, logvar = codes, None
        if codes.shape[1] != self._map(self.objective_.code, rows[:1]).shape[1]:
            mu, logvar = np.split(codes, 2, axis=1)
        inputs = self._map(lambda x: x, rows)
        batch_mode = copy.deepcopy(self.objective_).train()
        batch_codes = self._map(batch_mode.code, rows).astype(np.float64)
        center = mu.mean(axis=0)
        distances = (np.linalg.norm(batch_codes - center, axis=1), np.linalg.norm(mu - center, axis=1))
        return [
            *health.check_codes(mu, logvar),
            health.check_reconstruction(inputs, self._map(self.objective_.reconstruct, rows)),
            health.check_mode_shift(*distances),
        ]

    def _fit_fingerprint(self, n_epochs: int) -> str:
        parameters = {name: value for name, value in self._parameters_to_json().items() if name != "random_state"}
        identity = [version("insphere"), self.data_["fingerprint"], self.seed_, n_epochs, parameters]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _network_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what `_restore_network` needs."""
        weights = {f"network/{name}": value.detach().cpu().numpy() for name, value in self.objective_.state_dict().items()}
        scaling = {"preprocess/offset": self.preprocess_.offset, "preprocess/scale": self.preprocess_.scale}
        header = {
            "latent_dim": default_latent_dim(self.input_shape_) if self.latent_dim is None else self.latent_dim,
            "scaling": self.preprocess_.scaling,
            "history": [record.to_json() for record in self.history_],
        }
        return header, weights | scaling

    def _restore_network(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.preprocess_ = Preprocess(header["scaling"], arrays["preprocess/offset"], arrays["preprocess/scale"])
        self.history_ = [EpochRecord.from_json(record) for record in header["history"]]
        # On the meta device nothing is allocated: the sizes of the file's arrays, not numbers in its header, decide about memory.
        with torch.device("meta"):
            objective = self._make_objective(self.input_shape_, header["latent_dim"], self._network)
        weights = {
            name.removeprefix("network/"): torch.from_numpy(array.copy()) for name, array in arrays.items() if name.startswith("network/")
        }
        try:
            objective.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise ModelFileError(f"The stored weights do not fit the stored architecture: {error}") from error
        place(objective, self._device, convolutional=len(self.input_shape_) == 3)
        self.objective_ = objective.eval()
