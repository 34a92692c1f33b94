"""A hybrid: codes of a neural detector, then a shallow detector on the codes (Zhou 2021, introduction, refs. 22–27)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding
from insphere.detectors.base import AbstractDetector
from insphere.detectors.file_schema import stored
from insphere.detectors.fitting import FitContext
from insphere.detectors.inputs import InputContract
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.parts import make_part
from insphere.detectors.shallow import AbstractShallowDetector, Array, below
from insphere.seeding import derive_seed, resolve_seed
from insphere.validation import check_number


@dataclasses.dataclass(eq=False, repr=False)
class Hybrid(AbstractDetector):
    """A shallow detector on the codes that a neural detector learns: two stages, each blind to the other.

    Parameters
    ----------
    encoder : str, mapping or neural detector
        Whose codes to take: a name in the catalog, a mapping with that ``name`` and parameters, or an unfitted detector.
    detector : str, mapping or shallow detector
        What scores the codes, likewise. Its scaling "auto" means none here, see Notes.
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1).
    trim : float
        Share of the training rows, the most suspicious ones, that are left out, in [0, 0.5): see `AbstractDetector`.
    calibration : Calibration or mapping, optional
    random_state : int, RandomState, Generator or None
        Seed of the held-out split and of the parts that have none of their own.

    Attributes
    ----------
    encoder_, detector_ : AbstractDetector
        The fitted parts. They neither hold out rows nor decide: their own `target_fpr`, `trim` and `calibration` are not used.
    history_ : list of EpochRecord
        Of the encoder's training.

    Notes
    -----
    All codes are divided by one number, so that kernel scales mean the same for every encoder. Dividing each dimension by its own
    spread would raise the noise in dimensions that the encoder does not use to the level of the others.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> detector = Hybrid({"name": "cae", "epochs": 20}, "knn", random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "hybrid"

    encoder: str | Mapping[str, Any] | AbstractNeuralDetector = "vae-svdd"
    detector: str | Mapping[str, Any] | AbstractShallowDetector = "knn"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self.encoder_ = make_part("encoder", self.encoder, AbstractNeuralDetector, "neural")  # type: ignore[type-abstract]
        self.detector_ = make_part("detector", self.detector, AbstractShallowDetector, "shallow")  # type: ignore[type-abstract]
        if self.detector_.scaling == "auto":
            self.detector_.set_params(scaling="none")
        for part in (self.encoder_, self.detector_):
            part._check_parameters()

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        self._seed_parts()
        self.encoder_.data_ = self.data_  # whose fingerprint says whether a checkpoint is of these rows
        _, findings = self.encoder_._fit_model(X, context)
        self.history_ = self.encoder_.history_
        codes = self.encoder_._codes(X)
        self.center_ = codes.mean(axis=0)
        self.scale_ = float(np.sqrt(codes.var(axis=0).mean())) or 1.0
        scores, own_findings = self.detector_._fit_model(self._inputs(codes), FitContext(units=context.units))
        return scores, findings + own_findings

    def _score(self, X: NDArray[Any]) -> Array:
        return self.detector_._score(self._inputs(self.encoder_._codes(X)))

    def _inputs(self, codes: Array) -> Array:
        return np.asarray((codes - self.center_) / self.scale_)

    def _seed_parts(self) -> None:
        self.encoder_.input_ = self.input_
        for role, part in (("encoder", self.encoder_), ("detector", self.detector_)):
            own = part.random_state
            part.seed_ = derive_seed(self.seed_, role) % 2**31 if own is None else resolve_seed(own)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        header: dict[str, Any] = {"scale": self.scale_}
        arrays: dict[str, NDArray[Any]] = {"center": self.center_}
        for role, part in (("encoder", self.encoder_), ("detector", self.detector_)):
            header[role], own = part._state()
            arrays |= {f"{role}/{name}": array for name, array in own.items()}
        header["history"] = header["encoder"].pop("history")  # where all detectors have it
        return header, arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._seed_parts()
        self.encoder_._restore(header["encoder"] | {"history": header["history"]}, below(arrays, "encoder/"))
        self.history_ = self.encoder_.history_
        self.center_ = stored(arrays, "center", (header["encoder"]["latent_dim"],))
        self.scale_ = check_number("scale", header["scale"], above=0)
        self.detector_.input_ = InputContract(self.center_.shape)
        self.detector_._restore(header["detector"], below(arrays, "detector/"))

    def _parameters_to_json(self) -> dict[str, Any]:
        # The parts as they were built: a mapping that gives the same parts again.
        parts = {"encoder": self.encoder_, "detector": self.detector_}
        return super()._parameters_to_json() | {role: {"name": part.name} | part._parameters_to_json() for role, part in parts.items()}
