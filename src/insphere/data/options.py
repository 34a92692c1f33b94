"""The options of `open_source` as one record, and their refusal where they would be ignored."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from insphere.data.images import ImageSpec, check_image_size, choose_spec
from insphere.data.stores import AbstractStore, probe_store
from insphere.errors import DataError, ParameterError
from insphere.validation import check_choice

SPLITS = ("train", "test", "all")


@dataclass(frozen=True)
class OpenOptions:
    """What `open_source` was asked for; see there.

    Raises
    ------
    ParameterError
        If a value breaks its rule.

    Examples
    --------
    >>> OpenOptions(split="train").split
    'train'
    """

    split: str = "all"
    spec: ImageSpec | None = None
    image_size: int | tuple[int, int] | None = None
    mode: str = "auto"
    label_column: str | None = None
    normal_label: object = None
    columns: Sequence[str] | None = None
    data_dir: str | os.PathLike[str] | None = None
    groups: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("split", self.split, SPLITS)
        check_choice("mode", self.mode, ("auto", "grey", "rgb"))
        if self.image_size is not None:
            check_image_size(self.image_size)
        if isinstance(self.columns, str):
            raise ParameterError(f"`columns` must be a list of column names, got the text {self.columns!r}; write [{self.columns!r}].")

    def refuse(self, names: Sequence[str], kind: str) -> None:
        """Raise `ParameterError` if an option of `names` is given, which `kind` would ignore."""
        defaults = OpenOptions()
        for name in names:
            if getattr(self, name) != getattr(defaults, name):
                raise ParameterError(f"`{name}` does not apply to {kind}; leave it out.")

    def spec_for(self, store: AbstractStore, name: str) -> ImageSpec:
        """Return the spec asked for, or the one that the images' headers suggest."""
        return self.spec or choose_spec(probe_store(store, name), image_size=self.image_size, mode=self.mode)


def split_positions(
    split: str, n_rows: int, labels: Sequence[int] | None, parts: Sequence[str] | None, *, name: str, remedy: str
) -> list[int]:
    """Return the positions of the rows that a split has.

    "train": the rows of the training part, or all if there are no parts, without those known to be anomalies. "test": the rows of
    the test part, or all.

    Raises
    ------
    DataError
        If the split has no row; the message ends with `remedy`.

    Examples
    --------
    >>> split_positions("train", 3, [0, 1, 0], None, name="table.csv", remedy="")
    [0, 2]
    """
    positions = [row for row in range(n_rows) if split == "all" or parts is None or parts[row] == split]
    if split == "train" and labels is not None:
        positions = [row for row in positions if labels[row] == 0]
    if not positions:
        kind = "no normal rows to train on" if split == "train" else f"no rows in the split {split!r}"
        raise DataError(f"{name} has {kind}{remedy}.")
    return positions
