"""What detectors of photos share: pictures checked and sized, a frozen network, its features, and their place in the model file."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.decision.units import row_hashes
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import Fitting
from insphere.detectors.regions import check_region, region_at
from insphere.detectors.scoring import Rows
from insphere.detectors.tiling import MOST, Tiles, check_tiles, side_for, tiles_for
from insphere.errors import DataError, ModelFileError, ParameterError
from insphere.fields import Checked
from insphere.nets.backbones import Description, Named, build, check_backbone, named_description, read_backbone
from insphere.nets.feature_cache import FeatureCache, key_of
from insphere.nets.photo_features import PhotoFeatures
from insphere.training.device import Device, resolve_device
from insphere.training.mapping import map_batches
from insphere.validation import Within, check_integer

Array = NDArray[np.float64]
Maps = NDArray[np.float32]

STEP = 16
"""Pixels that sides are multiples of, so that blocks of places come out even."""

CHUNK = 32
"""Pictures whose features are in memory at a time."""

SMALL = 64
"""Pixels that the longer side of small pictures has at most: they are enlarged most."""

_LEAST_SIDE = 64
_KEPT = "region/kept"
_MIXING = "mixing/"
_MAP_BYTES = 2**29  # of features at places that are kept for fitting; of more pictures a random choice is


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractPhotoDetector(AbstractDetector):
    """A detector of photos that looks at them with a frozen network.

    Parameters
    ----------
    backbone : {"efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "scratch"} or path or hf:NAME
        The frozen network. The first three were trained on ImageNet; their weights come with a package. "scratch" needs nothing: filters
        given by formulas, see `OrientedEnergies`. A path is a safetensors file with an EfficientNet-Lite or a ResNet, see
        `insphere.nets.weight_files`. ``hf:NAME`` is a vision backbone of `transformers` (ConvNeXt, DINOv2, ...) from a folder, or what
        `hf download NAME` has put on this machine: nothing is downloaded. Whatever it is, its weights go into the model file.
    side : int
        Pixels: pictures are brought to the area of a square of this side, with their own aspect, but made no more than twice as large
        (up to fourfold where they have 64 pixels at most); at least 64.
    tiles : {"auto"} or (int, int) or RxC, optional
        Rows and columns of overlapping windows that large pictures are cut into, so that small marks are not lost: the network sees each
        window at about `side` pixels, and one map, one vector of the whole and one decision are made of all. "auto" chooses by the size of
        the pictures, about four by four windows at most. By default pictures are not cut.
    roi : path or sequence of four floats, optional
        Region of interest: what lies outside it is not looked at. An image file whose pixels are above 127 inside; or (top, left, bottom,
        right) as shares of height and width, each in [0, 1]. All pictures are taken the same way, so that one region fits all.
    device : {"auto", "cpu", "cuda", "mps"}
        Where the network computes.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Attributes
    ----------
    n_cached_, n_computed_ : int
        Pictures of the last fit whose features were in the cache on disk (`insphere.nets.feature_cache`), and those that it has now.
    """

    cross_below: ClassVar[int] = 400
    has_maps: ClassVar[bool] = True
    takes_vectors: ClassVar[bool] = False

    backbone: Named | Annotated[Any, Checked(check_backbone, "a .safetensors file or hf:NAME")] = "efficientnet-lite0"
    side: Annotated[int, Within(at_least=_LEAST_SIDE)] = 320
    tiles: Literal["auto"] | Annotated[Any, Checked(check_tiles, "(rows, columns) of 1 to 8 or RxC")] | None = None
    roi: Annotated[Any, Checked(check_region, "path or sequence of four floats, optional")] = None
    device: Device = "auto"

    def wanted_size(self, height: float, width: float) -> tuple[int, int]:
        """Return the size that large pictures are brought to; small ones stay as they are, and are enlarged inside the model."""
        self._check_parameters()
        side = side_for(self.tiles, height, width, self.side)
        if height * width <= side**2:
            return max(1, round(height)), max(1, round(width))
        scale = side / math.sqrt(height * width)
        return _stepped(height * scale), _stepped(width * scale)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._device = resolve_device(self.device)

    def _collapse_advice(self) -> str:
        return "All pictures look alike to the network: check that they are not blank, and that they are not much smaller than 24 pixels."

    def _prepare(self, X: Rows, y: Any = None, groups: Any = None, categories: Any = None) -> Fitting:
        self._memo: dict[int, Maps] | None = None
        self._network_read: tuple[Description, dict[str, Tensor]] | None = None
        self._cache = FeatureCache.of_user()
        self._cache_key: tuple[PhotoFeatures, bytes] | None = None
        fitting = super()._prepare(X, y, groups, categories)
        if fitting.folds is not None:  # models of folds see the same pictures again: their features are computed once
            self._memo = {}
        return fitting

    def _conclude(self, fitting: Fitting, fitted: Any) -> None:
        super()._conclude(fitting, fitted)
        self.n_cached_, self.n_computed_ = (0, 0) if self._cache is None else (self._cache.n_found, self._cache.n_computed)
        self._forget()

    def _forget(self) -> None:
        """Let go of what only a fit needs: what is scored later is not kept, in memory or on disk."""
        self._memo = self._network_read = self._cache = self._cache_key = None

    # Features.

    def _laid_out(self, size: tuple[int, ...], factor: int) -> tuple[tuple[int, int], Tiles]:
        """Return the size that pictures of a size have inside the model, see `inner_size`, and into how many windows they are cut."""
        height, width = size[:2]
        tiles = tiles_for(self.tiles, height, width, self.side)
        inner = inner_size((height, width), factor, side_for(self.tiles, height, width, self.side))
        if tiles != (1, 1) and min(inner[0] / tiles[0], inner[1] / tiles[1]) < _LEAST_SIDE:
            raise ParameterError(
                f"`tiles` {tiles[0]}x{tiles[1]} cuts pictures of {inner[0]} × {inner[1]} pixels into windows below {_LEAST_SIDE} pixels;"
                " take fewer windows, or larger pictures (--image-size)."
            )
        return inner, tiles

    def _see_with(self, whole: str, size: tuple[int, int], tiles: Tiles = (1, 1)) -> PhotoFeatures:
        """Return the features of pictures at `size` under the network that the user names."""
        description, weights = self._read_network() if self._network_read is None else self._network_read
        self._network_read = description, weights
        self.network_ = description
        return self._placed(PhotoFeatures(build(description, whole, weights), size, whole, region_at(self.roi, *size), tiles=tiles))

    def _read_network(self) -> tuple[Description, dict[str, Tensor]]:
        return read_backbone(self.backbone)

    def _placed(self, features: PhotoFeatures) -> PhotoFeatures:
        return features.requires_grad_(False).eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _flat(self, features: PhotoFeatures, X: NDArray[Any]) -> Maps:
        """Return the features of pictures, one vector each; a picture's depend on it alone."""
        if self._memo is None or features is not self.features_:
            return self._kept_flat(features, X)
        memo, keys = self._memo, row_hashes(X).tolist()
        new = [row for row, key in enumerate(keys) if key not in memo]
        if new:
            found = self._kept_flat(features, X[new])
            memo |= {keys[row]: values for row, values in zip(new, found, strict=True)}
        return np.stack([memo[key] for key in keys])

    def _kept_flat(self, features: PhotoFeatures, X: NDArray[Any]) -> Maps:
        """Return the same from the cache on disk, as far as a fit is going on and there is one."""

        def compute(rows: NDArray[Any]) -> Maps:
            return map_batches(features.flat, rows, as_it_is, device=self._device, each_alone=True)

        if self._cache is None:
            return compute(X)
        if self._cache_key is None or self._cache_key[0] is not features:
            self._cache_key = features, key_of(features, self._device)
        return self._cache.through(self._cache_key[1], X, compute)

    def _fitting_features(
        self, X: NDArray[Any], rng: np.random.Generator, on_rows: Callable[[int, int], None] | None
    ) -> tuple[Maps, Maps, NDArray[np.int64]]:
        """Return the vectors at places of some pictures, the vectors of the whole of all, and which pictures the former are of."""
        features = self.features_
        n_most = max(2, _MAP_BYTES // (4 * math.prod(features.grid) * features.n_values))
        mapped = np.sort(rng.permutation(len(X))[:n_most])
        places = np.empty((len(mapped), *features.grid, features.n_values), dtype=np.float32)
        whole = np.empty((len(X), features.n_whole), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            at_places, whole[start : start + CHUNK] = features.parted(self._flat(features, X[start : start + CHUNK]))
            inside = (mapped >= start) & (mapped < start + CHUNK)
            places[inside] = at_places[mapped[inside] - start]
            if on_rows is not None:
                on_rows(min(start + CHUNK, len(X)), len(X))
        return places, whole, mapped

    # The file.

    def _network_arrays(self) -> dict[str, NDArray[Any]]:
        features = self.features_
        tensors = {f"network/{name}": value for name, value in features.network.weights().items()}
        tensors |= {f"{_MIXING}{name}": value for name, value in features.mixing.items()}
        kept = {} if features.kept is None else {_KEPT: features.kept.cpu().numpy()}
        return kept | {name: value.detach().cpu().contiguous().numpy().astype(np.float16) for name, value in tensors.items()}

    def _restore_network(
        self, whole: str, size: Any, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[tuple[int, int], Tiles]:
        """Rebuild the features from a model file; return the size of pictures inside the model, and their windows."""
        rows, columns = (check_integer("tiles", n, at_least=1, at_most=MOST) for n in header.get("tiles", (1, 1)))
        height, width = (check_integer("size", side, at_least=1, at_most=2**14) for side in size)
        weights, mixing = (
            {name: torch.from_numpy(array.copy()) for name, array in below(arrays, prefix).items()} for prefix in ("network/", _MIXING)
        )
        kept = arrays.get(_KEPT)
        if kept is not None and (kept.shape != (height, width) or kept.dtype != np.bool_):
            raise ModelFileError(f"The stored region of interest, {kept.dtype} of shape {kept.shape}, does not fit pictures of {size}.")
        self.network_ = header["network"] if "network" in header else named_description(self.backbone)  # which files of 0.1 lack
        try:
            self.features_ = self._placed(
                PhotoFeatures(build(self.network_, whole, weights), (height, width), whole, kept, mixing, (rows, columns))
            )
        except RuntimeError as error:
            raise ModelFileError(f"The stored weights do not fit the stored architecture: {error}") from error
        self._forget()
        return (height, width), (rows, columns)


def inner_size(size: tuple[int, ...], factor: int, side: float) -> tuple[int, int]:
    """Return what pictures are brought to inside the model, in steps of 16 pixels.

    Those whose longer side has 64 pixels at most are enlarged by `factor`; larger ones to the area of a square of `side` pixels, at most
    by two. None is made smaller.

    Examples
    --------
    >>> inner_size((40, 24), 2, 320), inner_size((32, 32), 4, 320), inner_size((225, 225), 2, 320), inner_size((640, 640), 2, 320)
    ((80, 48), (128, 128), (320, 320), (640, 640))
    """
    longer = max(size)
    enlarged = max(1.0, min(2.0, side / math.sqrt(size[0] * size[1])))
    times = max(factor, _LEAST_SIDE / longer) if longer <= SMALL else enlarged
    height, width = (max(2 * STEP, round(side * times / STEP) * STEP) for side in size)
    return height, width


def check_pictures(X: NDArray[Any], name: str, *, from_files: bool) -> None:
    """Raise `DataError` unless rows are pictures of one or three channels with pixels 0..255: black ones among them, 0..1 ones not."""
    if X.ndim != 4:
        raise DataError(f"The detector {name} takes pictures, and these rows are vectors; take vae-svdd, knn or another one for them.")
    if X.shape[3] not in (1, 3):
        raise DataError(f"The detector {name} takes pictures with 1 or 3 channels, got {X.shape[3]}; give three of them, or one.")
    if X.dtype != np.uint8 and not from_files and len(X) and (_in_unit_range(X) or X.min() < 0 or X.max() > 255):
        raise DataError(
            f"The detector {name} takes pixels 0..255, as image files have them, got {X.dtype} values from {X.min():.4g} to {X.max():.4g};"
            " bring them to 0..255, for example `(255 * X).astype('uint8')`."
        )


def _in_unit_range(X: NDArray[Any]) -> bool:
    return bool(X.max() <= 1 and ((X > 0) & (X < 1)).any())


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def as_it_is(rows: Tensor) -> Tensor:
    """Return what is given: photos are not scaled before the network sees them."""
    return rows


def at_once(size: tuple[int, int], tiles: Tiles, side: int) -> tuple[int, int]:
    """Return the size at which the network sees a picture of a size inside the model at once, though it is cut into windows otherwise."""
    scale = 1.0 if tiles == (1, 1) else side / math.sqrt(size[0] * size[1])
    return size if scale >= 1 else (_stepped(size[0] * scale), _stepped(size[1] * scale))


def _stepped(side: float) -> int:
    return max(_LEAST_SIDE, round(side / STEP) * STEP)
