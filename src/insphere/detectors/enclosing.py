"""Neural detectors that score by the distance of a row's code to a sphere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import FitContext
from insphere.detectors.health import Finding
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.sphere import GEOMETRIES, AbstractSphere, fit_sphere, restore_sphere
from insphere.seeding import generator
from insphere.validation import check_choice, check_integer


class AbstractEnclosingDetector(AbstractNeuralDetector):
    """A neural detector with a sphere around its codes; a concrete class adds `geometry` and `n_neighbors` to its parameters."""

    geometry: str
    n_neighbors: int

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("geometry", self.geometry, GEOMETRIES)
        check_integer("n_neighbors", self.n_neighbors, at_least=1)

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[NDArray[np.float64], list[Finding]]:
        self._train(X, context)
        codes = self._codes(X)
        center = self.objective_.final_center()
        self.sphere_: AbstractSphere = fit_sphere(
            self.geometry,
            codes,
            None if center is None else center.double().cpu().numpy(),
            n_neighbors=self.n_neighbors,
            rng=generator(self.seed_, "references"),
        )
        return self.sphere_.training_distance(codes), self._network_findings(X)

    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return self.sphere_.distance(self._codes(X))

    def _codes(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return self._map(self.objective_.code, X).astype(np.float64)

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        header, arrays = self._network_state()
        sphere = {f"sphere/{name}": array for name, array in self.sphere_.arrays().items()}
        return header | {"geometry": self.sphere_.kind}, arrays | sphere

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._restore_network(header, arrays)
        stored = {name.removeprefix("sphere/"): array for name, array in arrays.items() if name.startswith("sphere/")}
        self.sphere_ = restore_sphere(header["geometry"], stored)
