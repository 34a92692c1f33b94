"""From numpy to PyTorch and back: what all neural detectors share, whatever they score by."""

import copy
import dataclasses
import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.data.preprocess import Scaling, fit_preprocess
from insphere.data.row_store import take_rows
from insphere.decision import health
from insphere.detectors.base import AbstractDetector
from insphere.detectors.file_schema import restore_preprocess
from insphere.detectors.fitting import FitContext, Fitted, Fitting, as_rows
from insphere.detectors.scoring import Rows
from insphere.detectors.telling import warn_unreadable
from insphere.errors import DataError, ModelFileError
from insphere.fields import Size
from insphere.nets.build import initialise
from insphere.nets.options import Network, default_latent_dim
from insphere.scores.sphere import AbstractSphere, filled_centers, nearest_of, restore_sphere
from insphere.seeding import derive_seed, generator
from insphere.training.device import Device, choose_precision, place, resolve_device, single_precision
from insphere.training.history import EpochRecord
from insphere.training.loop import train
from insphere.training.mapping import map_batches
from insphere.training.objective import AbstractObjective
from insphere.training.options import Training, default_epochs
from insphere.training.stacked import STACKED_PRECISION
from insphere.training.trainee import Stage, Trainee
from insphere.validation import check_integer

_HEALTH_ROWS = 2048
_CONTROL_ROWS = 2000  # training rows whose distances a network is compared with
_HEALTH_VALUES = 2**23  # of rows and of their reconstructions, which are compared in double precision


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractNeuralDetector(AbstractDetector):
    """A detector whose model is an `AbstractObjective` trained by the training loop.

    A concrete class says which objective it trains (`_make_objective`). Rows are scored by that objective's `score`, unless the class
    draws a sphere around the codes (`_enclose`); `scores_reconstructions` says that this score is the error of a reconstruction.

    Parameters
    ----------
    latent_dim : int, optional
        Dimensions of the code; None chooses by input size.
    scaling : {"auto", "none", "unit", "standard", "robust", "gcn", "gcn-unit", "whiten"}
        Preprocessing, fitted on the training rows: see `insphere.data.preprocess.fit_preprocess`.
    epochs : int, optional
        Passes over the training rows; None makes about `default_steps` steps (five hundred), between 10 and 200 epochs.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.
    network : Network or mapping, optional
        Architecture; what is not given is as in `default_network`, widths and code by input size.
    training : Training or mapping, optional
        Optimiser, learning rate, batch size, precision, early stopping; what is not given is as in `default_training`.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train and score; "auto" is the first of cuda, mps and cpu that is there.
    """

    default_network: ClassVar[Network] = Network()
    default_training: ClassVar[Training] = Training()
    default_steps: ClassVar[int] = 500
    scores_reconstructions: ClassVar[bool] = False

    latent_dim: Size | None = None
    scaling: Scaling = "auto"
    epochs: Size | None = None
    network: Network | Mapping[str, Any] | None = None
    training: Training | Mapping[str, Any] | None = None
    device: Device = "auto"

    # What a concrete detector implements, or may.

    @abstractmethod
    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> AbstractObjective:
        """Return the untrained objective; its weights are drawn afterwards."""

    def _stages_before(self, input_shape: Sequence[int], latent_dim: int, network: Network, n_epochs: int) -> list[Stage]:
        """Return what is trained before the objective, which then starts from the last of them; their weights are drawn afterwards."""
        return []

    def _enclose(self, codes: NDArray[np.float64]) -> AbstractSphere | None:
        """Return the sphere around the training codes that rows are scored by, or None where the objective scores them."""
        return None

    def _method_findings(self, X: NDArray[Any]) -> list[health.Finding]:
        """Return what is to be said of the method after training on the rows, beside what `_network_findings` says of all."""
        return []

    # Fitting.

    def _record_defaults(self) -> dict[str, Any]:
        return super()._record_defaults() | {"training": self.default_training, "network": self.default_network}

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._options, self._network = self._record("training"), self._record("network")
        self._device = resolve_device(self.device)

    def _memory_limit(self) -> int | None:
        options: Training = self._options
        return options.memory_limit

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> Fitted:
        trainee = self._trainee(X)
        self.history_ = train(
            trainee,
            device=self._device,
            fingerprint=self._fit_fingerprint(trainee.stages[-1].n_epochs),
            checkpoint=context.checkpoint,
            resume=context.resume,
            on_epoch=context.on_epoch,
        )
        return self._after_training(X)

    # Before and after training: where several detectors are trained as one, `insphere.detectors.batched` calls these two itself.

    def _trainee(self, X: NDArray[Any]) -> Trainee:
        """Fit the preprocessing on the rows, less those that early stopping holds out, and return what is to be trained."""
        options: Training = self._options
        validation_rows = None
        if options.patience is not None:
            order = generator(self.seed_, "validation split").permutation(len(X))
            n_validation = max(1, round(options.validation_fraction * len(X)))
            validation_rows, X = take_rows(X, np.sort(order[:n_validation])), take_rows(X, np.sort(order[n_validation:]))
        self.preprocess_ = fit_preprocess(X, self.scaling)
        n_steps = options.batches_per_epoch(len(X))
        stages = self._make_stages(default_epochs(n_steps, self.default_steps) if self.epochs is None else int(self.epochs))
        self.objective_ = stages[-1].objective
        return Trainee(stages, X, self.preprocess_.apply, self.seed_, validation_rows)

    def _obstacle_to_stacking(self) -> str | None:
        """Return why detectors of this kind cannot be trained as one, or None where they can."""
        convolutional, row_values = len(self.input_shape_) == 3, math.prod(self.input_shape_)
        for stage in self._make_stages(1):
            if not stage.objective.stackable:
                return "its loss keeps values between steps that a batched model has no place for"
            precision = choose_precision(stage.options.precision, self._device, row_values=row_values, convolutional=convolutional)
            if precision != STACKED_PRECISION:
                return "it trains in bfloat16, and a batched model only in float32: give training={'precision': '32'}"
        return None

    def _after_training(self, X: NDArray[Any]) -> Fitted:
        """Draw the sphere around the codes of the rows; return their scores and what is to be said of the model's health."""
        codes = self._codes(X)
        self.sphere_ = self._enclose(codes)
        scores = self._score(X) if self.sphere_ is None else self.sphere_.training_distance(codes)
        return scores, self._network_findings(X) + self._method_findings(X)

    def _make_stages(self, n_epochs: int) -> list[Stage]:
        """Return all that is trained, with weights drawn."""
        shape: tuple[Sequence[int], int, Network] = (self.input_shape_, self._latent_dim(), self._network)
        # Layers draw their first weights from PyTorch's global state as they are built: leave it as it was, and draw again.
        with single_precision(), torch.random.fork_rng(devices=[]):
            stages = [*self._stages_before(*shape, n_epochs), Stage(self._make_objective(*shape), self._options, n_epochs)]
        initialise(stages[-1].objective, derive_seed(self.seed_, "weights"))
        for stage in stages[:-1]:
            initialise(stage.objective, derive_seed(self.seed_, f"weights of {stage.name}"))
        return stages

    def _latent_dim(self) -> int:
        return default_latent_dim(self.input_shape_) if self.latent_dim is None else int(self.latent_dim)

    # Scoring.

    def codes(self, X: Rows) -> NDArray[np.float64]:
        """Return the code of each row: its place in the space in which the method works, for use as features.

        Parameters
        ----------
        X : array, source or path
            As for `anomaly_score`.

        Returns
        -------
        ndarray of float64, shape (n, latent_dim)
            NaN, and one warning, for rows of a file source that cannot be read. A row's code depends on that row alone.

        Raises
        ------
        DataError
            If the rows do not fit the detector.
        """
        source = self.open(X)
        codes = np.full((len(source), self._latent_dim()), np.nan)
        errors: dict[int, str] = {}
        for batch in source.batches(_HEALTH_ROWS):
            if len(batch.X):
                codes[batch.index] = self._codes(as_rows(batch.X))
            errors |= batch.errors
        warn_unreadable(errors, len(source), "have NaN for a code")
        return codes

    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        if self.sphere_ is None:
            return self._map(self.objective_.score, X).astype(np.float64)
        return self.sphere_.distance(self._codes(X))

    def _codes(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return self._map(self.objective_.code, X).astype(np.float64)

    def _map(self, function: Callable[[Tensor], Tensor], X: NDArray[Any]) -> NDArray[np.float32]:
        return map_batches(function, X, self.preprocess_.apply, device=next(self.objective_.parameters()).device)

    # Health.

    def _conclude(self, fitting: Fitting, fitted: Fitted) -> None:
        scores, findings = fitted
        super()._conclude(fitting, (scores, [*findings, *self._comparison(fitting, scores, findings)]))

    def _comparison(self, fitting: Fitting, scores: NDArray[np.float64], findings: list[health.Finding]) -> list[health.Finding]:
        """Say how outliers made of held-out rows are told from them, beside what nearest neighbours say.

        Nothing where too few rows are held out, or health is critical already and there are no scores worth comparing.
        """
        # Here, as only fits need them, and they bring much along, SciPy's statistics above all.
        from insphere.decision.outlier_probe import LEAST_ROWS, MOST_ROWS, check_outliers, probe_outliers
        from insphere.detectors.classical import KNN

        held_out = fitting.calibration_index
        sound = all(finding.level != "critical" for finding in [health.check_scores(scores), *findings])
        if fitting.folds is not None or len(held_out) < LEAST_ROWS or not sound:
            return []
        rng = generator(self.seed_, "outliers made of held-out rows")
        rows = take_rows(fitting.rows, np.sort(rng.permutation(held_out)[:MOST_ROWS]))[:]  # an array, wherever the rows are
        control = KNN(random_state=self.seed_)
        control.seed_ = self.seed_
        control._fit_model(take_rows(fitting.rows, np.sort(rng.permutation(fitting.train_index)[:_CONTROL_ROWS]))[:], FitContext())
        try:
            return [check_outliers(probe_outliers(rows, self._score, control._score, rng))]
        except DataError:  # a score is not finite: to compare is no reason to refuse a fit
            return []

    def _network_findings(self, X: NDArray[Any]) -> list[health.Finding]:
        """Return what can be said of the networks after training, on at most 2048 training rows."""
        rows = _some(X)
        mu, logvar = self._posterior(rows)
        batch_mode = copy.deepcopy(self.objective_).train()
        batch_codes = self._map(batch_mode.code, rows).astype(np.float64)
        center = mu.mean(axis=0)
        distances = (np.linalg.norm(batch_codes - center, axis=1), np.linalg.norm(mu - center, axis=1))
        findings = health.check_codes(mu, logvar, scored_by_code=self.sphere_ is not None)
        rows = rows[: max(1, _HEALTH_VALUES // rows[0].size)]
        reconstruction = self._map(lambda x: _or_empty(self.objective_.reconstruct(x), x), rows)
        if reconstruction.size:
            inputs = self._map(lambda x: x, rows)
            findings.append(health.check_reconstruction(inputs, reconstruction, decides=self.scores_reconstructions))
        return [*findings, health.check_mode_shift(*distances)]

    def _spread_finding(self, X: NDArray[Any]) -> health.Finding:
        """Compare the codes' spread with that of the same network before its first step, weights drawn again from the same seed."""
        rows = _some(X)
        fresh = self._make_stages(1)[-1].objective.to(self._device).train()
        now, start = (codes.std(axis=0) for codes in (self._codes(rows), self._map(fresh.code, rows).astype(np.float64)))
        return health.check_spread(float(np.linalg.norm(now)), float(np.linalg.norm(start)), of="codes")

    def _centers_findings(self, X: NDArray[Any]) -> list[health.Finding]:
        """Tell how many rows each of several centres has; nothing where the method has one at most."""
        centers = self.objective_.several_centers()
        if centers is None:
            return []
        codes = self._codes(_some(X))
        filled = filled_centers(centers.double().cpu().numpy(), codes)
        return [health.check_centers(np.bincount(nearest_of(filled, codes), minlength=len(filled)), self._record("reading").n_centers)]

    def _posterior(self, rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return the codes' means and, where the method has a distribution over codes, their log-variances."""

        def mean_and_logvar(x: Tensor) -> Tensor:
            both = self.objective_.posterior(x)
            return self.objective_.code(x) if both is None else torch.cat(both, dim=1)

        codes = self._map(mean_and_logvar, rows).astype(np.float64)
        if codes.shape[1] == self._latent_dim():
            return codes, None
        mu, logvar = np.split(codes, 2, axis=1)
        return mu, logvar

    # Saving.

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays = {f"network/{name}": value.detach().cpu().numpy() for name, value in self.objective_.state_dict().items()}
        arrays |= {f"preprocess/{name}": array for name, array in self.preprocess_.arrays().items()}
        header = {
            "latent_dim": self._latent_dim(),
            "scaling": self.preprocess_.scaling,
            "history": [record.to_json() for record in self.history_],
            "geometry": None if self.sphere_ is None else self.sphere_.kind,
        }
        if self.sphere_ is not None:
            arrays |= {f"sphere/{name}": array for name, array in self.sphere_.arrays().items()}
        return header, arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        latent_dim = check_integer("latent_dim", header["latent_dim"], at_least=1, at_most=100_000)
        self.preprocess_ = restore_preprocess(header, arrays, self.input_shape_)
        self.history_ = [EpochRecord.from_json(record) for record in header["history"]]
        # On the meta device nothing is allocated: the sizes of the file's arrays, not numbers in its header, decide about memory.
        with single_precision(), torch.device("meta"):
            objective = self._make_objective(self.input_shape_, latent_dim, self._network)
        weights = {name: torch.from_numpy(array.copy()) for name, array in below(arrays, "network/").items()}
        try:
            objective.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise ModelFileError(f"The stored weights do not fit the stored architecture: {error}") from error
        place(objective, self._device, convolutional=len(self.input_shape_) == 3)
        self.objective_ = objective.eval()
        self.sphere_ = None if header["geometry"] is None else restore_sphere(header["geometry"], below(arrays, "sphere/"))
        if self.sphere_ is not None and self.sphere_.center.shape != (latent_dim,):
            raise ModelFileError("The stored sphere does not fit the stored network; save the detector again.")

    def _fit_fingerprint(self, n_epochs: int) -> str:
        parameters = {name: value for name, value in self._parameters_to_json().items() if name != "random_state"}
        identity = [version("insphere"), self.name, self.data_["fingerprint"], self.seed_, n_epochs, parameters]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _some(X: NDArray[Any]) -> NDArray[Any]:
    return X[:: max(1, len(X) // _HEALTH_ROWS)][:_HEALTH_ROWS]


def _or_empty(values: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty((len(x), 0)) if values is None else values


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
