"""Several centres of codes: where they start, which of them a code belongs to, which of them are still of use."""

import torch
from torch import Tensor

from insphere.nets.shared_batches import SharesBatches
from insphere.scores.sphere import LEAST_SHARE

MOST_CENTERS = 100
"""Centres that there may be."""

_N_STARTS, _N_ROUNDS = 10, 50


class SeveralCenters(SharesBatches):
    """What modules with a `center` have in common where there are several of it: which are in use, by the rows that each had.

    Attributes
    ----------
    several : bool
        Whether there is more than one by design.
    center : Tensor, shape (n_centers, latent_dim); (latent_dim,) of one
    in_use : Tensor of bool, shape (n_centers,)
        Which of several have not been dropped; there only where there are several.
    rows : Tensor, shape (n_centers,)
        That each had in the current epoch, in batches; zero between epochs, and there only where there are several.
    """

    center: Tensor
    in_use: Tensor
    rows: Tensor
    several: bool

    def several_centers(self) -> Tensor | None:
        """Return those of several centres that are in use, shape (n, latent_dim); None where there is one by design."""
        return self.center.detach()[self.in_use] if self.several else None

    def _zero_centers(self, n_centers: int, latent_dim: int) -> Tensor:
        """Keep count of so many centres, and return where they are before `begin`."""
        self.several = n_centers > 1
        if not self.several:
            return torch.zeros(latent_dim)
        self.register_buffer("in_use", torch.ones(n_centers, dtype=torch.bool))
        self.register_buffer("rows", torch.zeros(n_centers))
        return torch.zeros(n_centers, latent_dim)

    def _first_centers(self, codes: Tensor) -> Tensor:
        """Return the mean of the first codes (n, latent_dim), or of several centres their k-means."""
        return k_means(codes, len(self.center)) if self.several else codes.mean(dim=0)

    def _nearest(self, codes: Tensor) -> Tensor:
        """Return which of several centres each code is nearest to: see `nearest_center`."""
        return nearest_center(codes, self.center, self.in_use)

    def _count_rows(self, nearest: Tensor) -> tuple[Tensor, Tensor]:
        """Count the rows of a batch for each of several centres; return which is whose (…, n_centers) and the share of each."""
        member = shares(nearest, len(self.center))
        share, _ = self.batch_mean(member, tuple(range(nearest.ndim)))
        with torch.no_grad():
            self.rows.add_(share)
        return member, share

    def _drop_empty(self) -> None:
        """Drop, at the end of an epoch, those of several centres that had next to no rows."""
        if self.several:
            self.in_use.copy_(still_in_use(self.in_use, self.rows))
            self.rows.zero_()


def nearest_center(codes: Tensor, centers: Tensor, in_use: Tensor) -> Tensor:
    """Return which centre each code is nearest to, int64, of the shape of `codes` without its last axis.

    Parameters
    ----------
    codes : Tensor, shape (…, latent_dim)
    centers : Tensor, shape (n_centers, latent_dim)
    in_use : Tensor of bool, shape (n_centers,)
        No code belongs to a centre that is not in use.

    Examples
    --------
    >>> nearest_center(torch.tensor([[1.0], [8.0]]), torch.tensor([[0.0], [9.0], [8.0]]), torch.tensor([True, True, False]))
    tensor([0, 1])
    """
    with torch.no_grad():
        squares = (codes.unsqueeze(-2) - centers).square().sum(dim=-1)
        return torch.where(in_use, squares, torch.inf).argmin(dim=-1)


def shares(nearest: Tensor, n_centers: int) -> Tensor:
    """Return one for the centre that a code belongs to and zero for the others, float32, with an axis of `n_centers` more.

    Examples
    --------
    >>> shares(torch.tensor([0, 2]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return (nearest.unsqueeze(-1) == torch.arange(n_centers, device=nearest.device)).float()


def still_in_use(in_use: Tensor, rows: Tensor) -> Tensor:
    """Return which centres have at least a tenth of the rows of the fullest one, of those in use so far.

    Source: Ghafoori 2020 (DMSVDD), where a sphere with few of the rows is taken away. Deviation: the tenth.

    Examples
    --------
    >>> still_in_use(torch.tensor([True, True, False]), torch.tensor([50.0, 4.0, 0.0])).tolist()
    [True, False, False]
    """
    return in_use & (rows >= LEAST_SHARE * rows.max())


def k_means(codes: Tensor, n_centers: int) -> Tensor:
    """Return the centres of the best of ten runs of k-means, shape (n_centers, latent_dim), as `codes` in type and device.

    Each run starts from rows drawn in proportion to their squared distance to those drawn before. Everything is drawn from a generator
    with a seed of its own: the same codes give the same centres.

    Parameters
    ----------
    codes : Tensor, shape (n, latent_dim)
        Fewer different ones than centres leave centres that are equal.
    n_centers : int

    Source: Lloyd 1982; the start, Arthur 2007. Deviation: none.

    Examples
    --------
    >>> k_means(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), 2).sort(dim=0).values.tolist()
    [[0.5], [10.5]]
    """
    points = codes.detach().cpu().double()
    generator = torch.Generator().manual_seed(0)
    runs = [_lloyd(points, _spread_out(points, n_centers, generator)) for _ in range(_N_STARTS)]
    return min(runs, key=lambda run: run[1])[0].to(codes)


def _spread_out(points: Tensor, n_centers: int, generator: torch.Generator) -> Tensor:
    chosen = [points[torch.randint(len(points), (1,), generator=generator)]]
    squares = torch.full((len(points),), torch.inf, dtype=points.dtype)
    for _ in range(n_centers - 1):
        squares = torch.minimum(squares, (points - chosen[-1]).square().sum(dim=1))
        weights = squares if squares.sum() > 0 else torch.ones_like(squares)
        chosen.append(points[torch.multinomial(weights, 1, generator=generator)])
    return torch.cat(chosen)


def _lloyd(points: Tensor, centers: Tensor) -> tuple[Tensor, float]:
    in_use = torch.ones(len(centers), dtype=torch.bool)
    for _ in range(_N_ROUNDS):
        member = shares(nearest_center(points, centers, in_use), len(centers)).double()
        rows = member.sum(dim=0).unsqueeze(1)
        moved = torch.where(rows > 0, member.T @ points / rows.clamp(min=1), centers)
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers, float((points.unsqueeze(1) - centers).square().sum(dim=2).amin(dim=1).sum())
