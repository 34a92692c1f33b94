"""The spheres of photos as modules that PyTorch can differentiate and export: the formulas of `places` and `whitened`, once more."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from insphere.scores.patches import PatchMemory
from insphere.scores.pictures import PictureSpheres
from insphere.scores.places import PlaceSpheres
from insphere.scores.whitened import WhitenedSphere


class PlaceGraph(nn.Module):
    """`PlaceSpheres.distance` as a module.

    Examples
    --------
    >>> import numpy as np
    >>> from insphere.scores.places import PlaceMoments
    >>> places = np.random.default_rng(0).normal(size=(50, 3, 5, 2)).astype(np.float32)
    >>> spheres = PlaceSpheres.fit(PlaceMoments.of(places))
    >>> bool(np.allclose(PlaceGraph(spheres)(torch.from_numpy(places)), spheres.distance(places), rtol=1e-5))
    True
    """

    def __init__(self, spheres: PlaceSpheres) -> None:
        super().__init__()
        (self.height, self.width, self.d), self.block = spheres.center.shape, spheres.block
        self.scale: Tensor
        self.center: Tensor
        self.whitening: Tensor
        self.register_buffer("scale", torch.from_numpy(spheres.scale.copy()))
        self.register_buffer("center", torch.from_numpy(spheres.center.copy()))
        self.register_buffer("whitening", torch.from_numpy(spheres.whitening.copy()))

    def forward(self, places: Tensor) -> Tensor:
        """Map vectors at places (n, height, width, d) to distances (n, height, width), float32."""
        side = self.block
        rows, columns = -(-self.height // side), -(-self.width // side)
        away = places / self.scale - self.center
        away = functional.pad(away, (0, 0, 0, columns * side - self.width, 0, rows * side - self.height))
        blocks = away.reshape(-1, rows, side, columns, side, self.d).transpose(2, 3)
        lengths = norm(blocks.reshape(-1, rows * columns, side * side, self.d) @ self.whitening.float())
        whole = lengths.reshape(-1, rows, columns, side, side).transpose(2, 3).reshape(-1, rows * side, columns * side)
        return whole[:, : self.height, : self.width]


class WhitenedGraph(nn.Module):
    """`WhitenedSphere.distance` as a module."""

    def __init__(self, sphere: WhitenedSphere) -> None:
        super().__init__()
        self.center: Tensor
        self.scale: Tensor
        self.whitening: Tensor
        self.register_buffer("center", torch.from_numpy(sphere.center.copy()))
        self.register_buffer("scale", torch.from_numpy(sphere.scale.copy()))
        self.register_buffer("whitening", torch.from_numpy(sphere.whitening.copy()))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (n, d) to distances (n,), float64."""
        return norm((((vectors - self.center) / self.scale) @ self.whitening.float().T).double())


class PictureGraph(nn.Module):
    """`PictureSpheres` as a module: score and map of pictures by the spheres of one product."""

    def __init__(self, spheres: PictureSpheres) -> None:
        super().__init__()
        self.places, self.whole, self.units = PlaceGraph(spheres.places), WhitenedGraph(spheres.whole), spheres.units

    def forward(self, places: Tensor, vectors: Tensor, n_highest: int, look_for: str) -> tuple[Tensor, Tensor]:
        """Map vectors at places and of the whole to scores, float64, shape (n,), and maps, float32."""
        units, heat = self.units, self.places(places)
        of_whole = (torch.log(self.whole(vectors).clamp(min=1e-12)) - units.whole_mean) / units.whole_spread
        if look_for == "objects":
            return of_whole, heat
        highest = torch.topk(heat.flatten(1), n_highest, dim=1).values.double().mean(dim=1)
        of_map = (torch.log(highest.clamp(min=1e-12)) - units.map_mean) / units.map_spread
        return (of_map + 2 * of_whole) / 3, heat


class PatchGraph(nn.Module):
    """`PatchMemory.distance` as a module."""

    def __init__(self, memory: PatchMemory) -> None:
        super().__init__()
        self.scale: Tensor
        self.references: Tensor
        self.squares: Tensor
        self.register_buffer("scale", torch.from_numpy(memory.scale.copy()))
        self.register_buffer("references", torch.from_numpy(memory.references.copy()))
        self.register_buffer("squares", torch.from_numpy((memory.references**2).sum(axis=1)))

    def forward(self, places: Tensor) -> Tensor:
        """Map vectors at places (n, height, width, d) to distances (n, height, width), float32."""
        rows = places / self.scale
        nearest = (self.squares - 2 * rows @ self.references.T).amin(dim=-1) + (rows * rows).sum(dim=-1)
        return torch.sqrt(nearest.clamp(min=1e-24))


def norm(vectors: Tensor) -> Tensor:
    """Return the length of each vector along the last axis; its slope at zero is zero, not undefined."""
    return torch.sqrt((vectors * vectors).sum(dim=-1).clamp(min=1e-24))
