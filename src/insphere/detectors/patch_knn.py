"""The control of the photo detector: a memory of normal patches under the same frozen network, as users of such memories know it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from insphere.decision.calibration import fold_rows
from insphere.decision.health import Finding
from insphere.detectors.fitting import FitContext
from insphere.detectors.photo_base import CHUNK, AbstractPhotoDetector, Array, Maps, below, check_pictures
from insphere.fields import AtLeastOne, Share
from insphere.scores.patches import PatchMemory
from insphere.scores.places import highest_mean
from insphere.seeding import generator

_ENLARGED = 2
_WHOLE = "texture"


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class PatchKNN(AbstractPhotoDetector):
    """Distance of a picture's patches to the nearest normal patches that are remembered; the score is the mean of the farthest ones.

    Parameters
    ----------
    n_references : int
        Patches to remember, at least 1.
    top_share : float
        Share of the places, in (0, 1], whose mean is the score; the same as that of `PhotoSpheres`, and better here than the maximum.
    backbone, side, tiles, roi, device, target_fpr, trim, calibration, random_state
        See `AbstractPhotoDetector` and `AbstractDetector`.

    Source: PatchCore (Roth 2022). Deviation: see `PatchMemory`; the network is a smaller one; the mean of the farthest for the farthest.
    """

    name: ClassVar[str] = "patch-knn"

    n_references: AtLeastOne = 3000
    top_share: Share = 0.01

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        check_pictures(X, self.name, from_files=self.input_.from_files)
        self.features_ = self._see_with(_WHOLE, *self._laid_out(X.shape[1:3], _ENLARGED))
        places, _, mapped = self._fitting_features(X, generator(self.seed_, "pictures of the memory"), context.on_rows)
        self.memory_ = PatchMemory.fit(places, self.n_references, generator(self.seed_, "patches"))
        # A picture's own patches would be its nearest: each half is scored by the memory of the other.
        halves = fold_rows(len(X), 2, units=context.units, rng=generator(self.seed_, "halves"))[mapped]
        scores = np.empty(len(mapped))
        for half in range(2):
            others = places[halves != half] if (halves != half).any() else places
            memory = PatchMemory.fit(others, self.n_references, generator(self.seed_, f"patches without half {half}"))
            scores[halves == half] = highest_mean(memory.distance(places[halves == half]), self._share())
        text = f"{len(self.memory_.references)} patches of {len(mapped)} pictures are remembered."
        every = scores if len(mapped) == len(X) else self._with_others(X, mapped, scores)
        return every, [Finding("patches", "ok", float(len(self.memory_.references)), text)]

    def _with_others(self, X: NDArray[Any], mapped: NDArray[np.int64], scores: Array) -> Array:
        """Return the scores of all training pictures: those that gave no patches are scored as new ones are."""
        every = np.empty(len(X))
        every[mapped] = scores
        others = np.setdiff1d(np.arange(len(X)), mapped)
        every[others] = self._score(X[others])
        return every

    def _share(self) -> float:
        return self.top_share / self.features_.n_tiles

    def _score(self, X: NDArray[Any]) -> Array:
        return self._score_maps(X)[0]

    def _score_maps(self, X: NDArray[Any]) -> tuple[Array, Maps]:
        check_pictures(X, self.name, from_files=self.input_.from_files)
        maps = np.empty((len(X), *self.features_.grid), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            part = slice(start, start + CHUNK)
            maps[part] = self.memory_.distance(self.features_.parted(self._flat(self.features_, X[part]))[0])
        return highest_mean(maps, self._share()), maps

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays = {f"memory/{name}": array for name, array in self.memory_.arrays().items()}
        return {
            "size": list(self.features_.size),
            "tiles": list(self.features_.tiles),
            "network": dict(self.network_),
        }, self._network_arrays() | arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._restore_network(_WHOLE, header["size"], header, arrays)
        self.memory_ = PatchMemory.restore(below(arrays, "memory/"), self.features_.n_values)
