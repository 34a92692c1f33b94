"""A small detector with heat-maps: every place of an image has its own mean and spread, and the image scores as its strangest place."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import FitContext

CLASS = "places:Places"
"""What names the class where a detector is asked for."""


@dataclasses.dataclass(eq=False, repr=False)
class Places(AbstractDetector):
    """Distance of each pixel from its mean in the training images, in units of the spread; the score is the largest."""

    name = "places"
    quick = True
    has_maps = True

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[NDArray[np.float64], list[Finding]]:
        grey = X.astype(np.float64).mean(axis=3)
        self.mean_, self.spread_ = grey.mean(axis=0), grey.std(axis=0) + 1.0
        return self._score(X), []

    def _score_maps(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        maps = np.abs(X.astype(np.float64).mean(axis=3) - self.mean_) / self.spread_
        return maps.max(axis=(1, 2)), maps.astype(np.float32)

    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return self._score_maps(X)[0]

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"mean": self.mean_, "spread": self.spread_}

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.mean_, self.spread_ = arrays["mean"], arrays["spread"]
