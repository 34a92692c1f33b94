"""Transformations of rows that a network may be asked to tell apart: turned, mirrored, shifted pictures; maps and masks of vectors."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from insphere.errors import ParameterError
from insphere.validation import check_choice

FamilyOfPictures = Literal["rotations", "flips", "shifts", "affine", "permutations"]
FamilyOfVectors = Literal["projections", "masks", "learned"]
Family = Literal[FamilyOfPictures, FamilyOfVectors]
"""Names of the families of transformations."""


class Transformations(nn.Module):
    """Numbered transformations of rows in the network's input; number 0 leaves rows as they are.

    Parameters
    ----------
    input_shape : sequence of int
        (height, width, channels) or (features,).
    families : sequence of str
        Names, each a `Family`.
    n_projections : int
        How many of each family of vectors.

    Raises
    ------
    ParameterError
        If a family is unknown, or not for rows of that shape.

    Examples
    --------
    >>> turns = Transformations((2, 2, 1), ["rotations"])
    >>> turns.names
    ('identity', 'turned by 90°', 'turned by 180°', 'turned by 270°')
    >>> turns(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 1).tolist()
    [[[[2.0, 4.0], [1.0, 3.0]]]]
    """

    def __init__(self, input_shape: Sequence[int], families: Sequence[str], n_projections: int = 16) -> None:
        super().__init__()
        of_pictures = len(input_shape) == 3
        members: dict[str, AbstractTransformation] = {"identity": Identity()}
        for family in families:
            check_choice("transformations", family, get_args(Family))
            suited: Mapping[str, object] = _OF_PICTURES if of_pictures else _OF_VECTORS
            if family not in suited:
                kind = "pictures" if of_pictures else "vectors"
                raise ParameterError(f"`transformations` {family!r} are not for {kind}; take {', '.join(suited)}, or 'auto'.")
            if of_pictures:
                members |= _OF_PICTURES[family](input_shape[0], input_shape[1])
            else:
                if family == "masks" and input_shape[0] == 1:
                    raise ParameterError("`transformations` 'masks' hide half of the features, and these rows have one; take projections.")
                called, make = _OF_VECTORS[family]
                members |= {f"{called} {number}": make(input_shape[0]) for number in range(1, n_projections + 1)}
        self.names = tuple(members)
        self.members = nn.ModuleList(members.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def forward(self, x: Tensor, number: int) -> Tensor:
        """Return rows (n, channels, height, width) or (n, features) under one transformation, in the same shape."""
        transformed: Tensor = self.members[number](x)
        return transformed


class AbstractTransformation(nn.Module, ABC):
    """One transformation."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed rows, in the shape of `x`."""


class Identity(AbstractTransformation):
    """Rows as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class QuarterTurns(AbstractTransformation):
    """Pictures turned counter-clockwise by a multiple of 90°."""

    def __init__(self, n_quarters: int) -> None:
        super().__init__()
        self.n_quarters = n_quarters

    def forward(self, x: Tensor) -> Tensor:
        return torch.rot90(x, self.n_quarters, (2, 3))


class Mirror(AbstractTransformation):
    """Pictures mirrored along one dimension: 2 turns them upside down, 3 exchanges left and right."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.dimension)


class Shift(AbstractTransformation):
    """Pictures shifted by whole pixels; what comes in at the border is the picture mirrored there, so that no edge gives it away."""

    def __init__(self, down: int, right: int) -> None:
        super().__init__()
        self.down, self.right = down, right

    def forward(self, x: Tensor) -> Tensor:
        return shifted(x, self.down, self.right)


class Warp(AbstractTransformation):
    """Pictures under an affine map of the plane, interpolated between pixels and mirrored at the border.

    Parameters
    ----------
    matrix : sequence of two pairs of float
        Maps places of the result, in units of half the side from the middle, to places of the picture.
    """

    def __init__(self, matrix: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.matrix = [[*row, 0.0] for row in matrix]

    def forward(self, x: Tensor) -> Tensor:
        matrix = torch.tensor(self.matrix, dtype=x.dtype, device=x.device)
        # One grid for all pictures: made for as many as there are, an exported graph would take no other number.
        grid = functional.affine_grid(matrix.unsqueeze(0), [1, *x.shape[1:]], align_corners=False)
        return functional.grid_sample(x, grid.expand(x.shape[0], -1, -1, -1), padding_mode="reflection", align_corners=False)


class Projection(AbstractTransformation):
    """A random affine map of vectors to as many features, drawn once with the weights of the network and never trained.

    Source: Bergman 2020 (GOAD), sec. 4. Deviation: uniform weights of variance 1/features, for Gaussian ones of variance 1.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.map = nn.Linear(n_features, n_features).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        # Layers are drawn uniformly within 1/sqrt(features), a third of the variance that keeps the rows' scale.
        mapped: Tensor = math.sqrt(3.0) * self.map(x)
        return mapped


class Quarters(AbstractTransformation):
    """Pictures whose four quarters stand at each other's places; of sides with an odd number of pixels the last row or column stays.

    Parameters
    ----------
    order : sequence of int
        Which quarter (0 top left, 1 top right, 2 bottom left, 3 bottom right) comes to the place of each.
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2] // 2, x.shape[3] // 2
        quarters = [x[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width] for i in (0, 1) for j in (0, 1)]
        moved = [quarters[number] for number in self.order]
        even = torch.cat([torch.cat(moved[:2], dim=3), torch.cat(moved[2:], dim=3)], dim=2)
        wide = torch.cat([even, x[:, :, : 2 * height, 2 * width :]], dim=3)
        return torch.cat([wide, x[:, :, 2 * height :]], dim=2)


class Mask(AbstractTransformation):
    """Vectors of which one half of the features, drawn once with the weights of the network, is hidden: 0, the mean of standardised ones.

    Source: a part of the features told by the others, Shenkar 2022 (ICL). Deviation: random halves for windows of neighbouring features,
    and codes within a sphere for pairs of codes.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.drawn = nn.Linear(n_features, 1, bias=False).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        order = self.drawn.weight[0]
        return x * (order > order.median()).to(x.dtype)


class Learned(AbstractTransformation):
    """Vectors whose features are weakened, each by a factor in (0, 1) that a small network reads from the whole vector.

    It is trained with the network that tells it from the others, by the same loss.

    Source: Qiu 2021 (NeuTraL AD), sec. 4.1, multiplicative transformations. Deviation: told by distances to learned centres, not to the
    code of the untransformed row, as everything here is; factors below 1 keep it from making all rows alike.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        width = max(8, n_features)
        self.factors = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_features), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weakened: Tensor = x * self.factors(x)
        return weakened


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """Return pictures (n, channels, height, width) moved by whole pixels, mirrored at the border.

    Examples
    --------
    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, 1).tolist()
    [[[[2.0, 1.0, 2.0]]]]
    """
    height, width = x.shape[2:]
    down, right = (max(1 - side, min(side - 1, step)) for side, step in ((height, down), (width, right)))
    padded = functional.pad(x, (max(0, right), max(0, -right), max(0, down), max(0, -down)), mode="reflect")
    top, left = max(0, -down), max(0, -right)
    return padded[:, :, top : top + height, left : left + width]


def _rotations(height: int, width: int) -> dict[str, AbstractTransformation]:
    """Return the quarter turns that keep the picture's shape."""
    quarters = (1, 2, 3) if height == width else (2,)
    return {f"turned by {90 * n}°": QuarterTurns(n) for n in quarters}


def _flips(height: int, width: int) -> dict[str, AbstractTransformation]:
    return {"mirrored left to right": Mirror(3), "mirrored top to bottom": Mirror(2)}


def _shifts(height: int, width: int) -> dict[str, AbstractTransformation]:
    """Return shifts by a quarter of the sides in eight directions."""
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
    sizes = max(1, height // 4), max(1, width // 4)
    return {_direction(*step): Shift(step[0] * sizes[0], step[1] * sizes[1]) for step in steps}


def _direction(down: int, right: int) -> str:
    words = [("up", "", "down")[down + 1], ("left", "", "right")[right + 1]]
    return "shifted " + " and ".join(word for word in words if word)


def _affine(height: int, width: int) -> dict[str, AbstractTransformation]:
    """Return turns by 30°, shears and stretches."""
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    return {name: Warp(matrix) for name, matrix in _warps(cosine, sine)}


def _warps(cosine: float, sine: float) -> Iterator[tuple[str, list[list[float]]]]:
    yield "turned by 30°", [[cosine, sine], [-sine, cosine]]
    yield "turned by -30°", [[cosine, -sine], [sine, cosine]]
    yield "sheared to the left", [[1.0, 0.4], [0.0, 1.0]]
    yield "sheared to the right", [[1.0, -0.4], [0.0, 1.0]]
    yield "sheared upwards", [[1.0, 0.0], [0.4, 1.0]]
    yield "sheared downwards", [[1.0, 0.0], [-0.4, 1.0]]
    yield "narrowed", [[1.4, 0.0], [0.0, 1.0]]
    yield "flattened", [[1.0, 0.0], [0.0, 1.4]]
    yield "widened", [[0.75, 0.0], [0.0, 1.0]]
    yield "heightened", [[1.0, 0.0], [0.0, 0.75]]


def _permutations(height: int, width: int) -> dict[str, AbstractTransformation]:
    """Return the orders of the quarters in which none stays where it was and none alone changes."""
    return {
        "halves exchanged left to right": Quarters((1, 0, 3, 2)),
        "halves exchanged top to bottom": Quarters((2, 3, 0, 1)),
        "quarters exchanged crosswise": Quarters((3, 2, 1, 0)),
        "quarters moved clockwise": Quarters((2, 0, 3, 1)),
        "quarters moved counter-clockwise": Quarters((1, 3, 0, 2)),
    }


_OF_PICTURES: Mapping[str, Callable[[int, int], dict[str, AbstractTransformation]]] = {
    "rotations": _rotations,
    "flips": _flips,
    "shifts": _shifts,
    "affine": _affine,
    "permutations": _permutations,
}

_OF_VECTORS: Mapping[str, tuple[str, Callable[[int], AbstractTransformation]]] = {
    "projections": ("affine map", Projection),
    "masks": ("mask", Mask),
    "learned": ("learned map", Learned),
}
