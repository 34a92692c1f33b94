"""The options of `open_source` as one record, and their refusal where they would be ignored."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.image_sizes import check_image_size, choose_spec, natural_size
from insphere.data.images import ImageSpec
from insphere.data.rows import SPLITS, Notice, RowFacts
from insphere.data.stores import AbstractStore, ImageSource, MaskImages, probe_store
from insphere.data.table_spec import TableSpec
from insphere.errors import ParameterError
from insphere.validation import check_choice

CHANNELS = ("auto", "first", "last")
"""Where the channels of an array of images are: along the second axis, along the last, or to be found by its shape."""


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
    table_spec: TableSpec | None = None
    header: bool | None = None
    channels: str = "auto"
    groups_by: str | None = None
    sized: Callable[[float, float], tuple[int, int]] | None = None
    one_hot: Sequence[str] | None = None
    category: str | None = None
    category_by: str | None = None
    jpeg_draft: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("split", self.split, SPLITS)
        check_choice("mode", self.mode, ("auto", "grey", "rgb"))
        check_choice("channels", self.channels, CHANNELS)
        if self.header not in (None, True, False):
            raise ParameterError(f"`header` must be True, False or None (found by a rule), got {self.header!r}.")
        if self.image_size is not None:
            check_image_size(self.image_size)
        if not isinstance(self.jpeg_draft, bool):
            raise ParameterError(f"`jpeg_draft` must be True or False, got {self.jpeg_draft!r}.")
        for name, given in (("columns", self.columns), ("one_hot", self.one_hot)):
            if isinstance(given, str):
                raise ParameterError(f"`{name}` must be a list of column names, got the text {given!r}; write [{given!r}].")

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, but for the folder of named data sets."""
        defaults = OpenOptions()
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "data_dir"}
        return {name: value for name, value in values.items() if value != getattr(defaults, name)}

    @property
    def remembered(self) -> TableSpec:
        """What a fitted model knows of later rows; nothing where there is none."""
        return self.table_spec or TableSpec()

    def remembered_normal(self, label: str | None, *, usual: str | None = None) -> object:
        """Return the value that means normal, as a fitted model remembers it of the labels called `label`.

        None where it remembers none, or where the options say themselves how labels are read; `usual` is what labels are called where no
        `label_column` was given.
        """
        if self.normal_label is not None or self.label_column is not None:
            return None
        return self.remembered.normal_label if (self.remembered.label_column or usual) == label else None

    @property
    def label_spec(self) -> TableSpec:
        """What a model is to remember of the labels' options."""
        return TableSpec(label_column=self.label_column, normal_label=self.normal_label)

    def told_of_anomalies(self, labels: NDArray[np.int64] | None) -> list[Notice]:
        """Return what is to be told where a fitted model is given normal rows, and labels mark some as anomalies: how many are left out."""
        n_anomalies = 0 if labels is None else int(labels.sum())
        if self.split != "train" or self.table_spec is None or labels is None or n_anomalies == 0:
            return []
        text = f"{n_anomalies} of {len(labels)} rows are labelled as anomalies and left out; the others are taken as normal."
        return [Notice("left out", n_anomalies, text)]

    def refuse(self, names: Sequence[str], kind: str) -> None:
        """Raise `ParameterError` if an option of `names` is given, which `kind` would ignore."""
        defaults = OpenOptions()
        for name in names:
            if getattr(self, name) != getattr(defaults, name):
                raise ParameterError(f"`{name}` does not apply to {kind}; leave it out.")

    def image_source(
        self,
        name: str,
        store: AbstractStore,
        facts: RowFacts,
        *,
        notices: Sequence[Notice] = (),
        doubt: str | None = None,
        masks: MaskImages | None = None,
    ) -> ImageSource:
        """Return the source of encoded images, brought to the spec asked for or to the one that their headers suggest."""
        by = self.category_by or self.remembered.category_by
        known = replace(self.label_spec, category=self.category or self.remembered.category, category_by=by)
        if self.spec is not None:
            return ImageSource(name, store, facts, self.spec, notices=notices, doubt=doubt, masks=masks, table_spec=known)
        headers = probe_store(store, name)
        spec = choose_spec(headers, image_size=self.image_size, mode=self.mode, sized=self.sized, jpeg_draft=self.jpeg_draft)
        natural = None if self.image_size is not None else natural_size(headers)
        return ImageSource(name, store, facts, spec, notices=notices, doubt=doubt, masks=masks, natural=natural, table_spec=known)
