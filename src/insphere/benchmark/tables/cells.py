"""A table of results, computed: what it is made of, and what every rendering of it reads."""

import dataclasses
from collections.abc import Mapping

from insphere.benchmark.tables.measured import Measured

MEAN = "mean"
"""Name of the row of means over the classes."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One method of a table.

    Examples
    --------
    >>> Column("knn", "5-NN", control=True).heading
    '5-NN (control)'
    """

    method: str
    label: str
    control: bool = False

    @property
    def heading(self) -> str:
        """What stands above the column."""
        return f"{self.label} (control)" if self.control else self.label


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number of a table, with what it rests on and what it is compared with. AUROC in percent, differences in points.

    Attributes
    ----------
    n_seeds, n_failed, n_planned : int
        Seeds that gave a value, those that failed, and those that were to be run. In the row of means, seeds that have a value in every
        class.
    mean : float or None
        Mean over seeds; None where there is none, and in the row of means where a class has none.
    deviation : float or None
        Standard deviation over seeds (n - 1); None for fewer than two.
    expected : float or None
        Published value.
    verdict : str
        See `judge`.
    n_missing_classes : int
        Of the row of means: classes without a value.
    runs : tuple of Measured
        What it was computed from.
    """

    n_seeds: int
    n_failed: int
    n_planned: int
    mean: float | None
    deviation: float | None
    expected: float | None
    verdict: str
    n_missing_classes: int = 0
    runs: tuple[Measured, ...] = dataclasses.field(default=(), repr=False)

    @property
    def difference(self) -> float | None:
        """Our mean minus the published value, in points; None where either is missing."""
        return None if self.mean is None or self.expected is None else self.mean - self.expected


@dataclasses.dataclass(frozen=True)
class Frame:
    """A table, computed: what all renderings read.

    Attributes
    ----------
    name, title, dataset : str
    columns : tuple of Column
    rows : tuple of str
        Normal classes, and `MEAN` at the end.
    cells : Mapping[tuple[str, str], Cell]
        By row and method; every pair is there.
    notes : tuple of str
        What the numbers are, what they rest on, where they were measured.
    """

    name: str
    title: str
    dataset: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    notes: tuple[str, ...]
