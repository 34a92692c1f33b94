"""Neural detectors that score by the distance of a row's code to a sphere."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.fields import AtLeastOne
from insphere.scores.sphere import AbstractSphere, Geometry, fit_several_spheres, fit_sphere
from insphere.seeding import generator


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractEnclosingDetector(AbstractNeuralDetector):
    """A neural detector with a sphere around its codes.

    Parameters
    ----------
    geometry : {"local", "mahalanobis", "euclidean"}
        Distance at scoring time: to the nearest training codes in the whitened code space, to the centre in units of the codes' spread,
        or to the centre as in the paper.
    n_neighbors : int
        Nearest training codes that "local" averages over.
    **shared
        See `AbstractNeuralDetector`.
    """

    scores_distances = True

    geometry: Geometry = "local"
    n_neighbors: AtLeastOne = 5

    def _enclose(self, codes: NDArray[np.float64]) -> AbstractSphere | None:
        own, several = self.objective_.final_center(), self.objective_.several_centers()
        if several is not None and self.geometry != "local":
            return fit_several_spheres(self.geometry, codes, several.double().cpu().numpy(), keep=own is not None)
        return fit_sphere(
            self.geometry,
            codes,
            None if own is None or several is not None else own.double().cpu().numpy(),
            n_neighbors=self.n_neighbors,
            rng=generator(self.seed_, "references"),
        )

    def _method_findings(self, X: NDArray[Any]) -> list[Finding]:
        if self.sphere_ is None:
            return []
        return [self._spread_finding(X), *self._centers_findings(X)]
