"""What a table is read as: which columns are features, by name, and what the others mean."""

import re
from dataclasses import dataclass

from insphere.data.labels import label_text
from insphere.data.one_hot import OneHot

_GENERATED = re.compile(r"f\d+$")


@dataclass(frozen=True)
class TableSpec:
    """What a table is read as, and a fitted model reads later tables as: the counterpart of an `ImageSpec`.

    Parameters
    ----------
    feature_names : tuple of str, optional
        Columns that are features, in the order of the model's input. None: all columns, by position.
    label_column, groups, category : str, optional
    normal_label : object, optional
    header : bool, optional
        As `insphere.open_source`.
    one_hot : tuple of OneHot
        Columns of words, whose indicators are among the features.
    category_by : str, optional
        Of image files, as `insphere.open_source`.

    Examples
    --------
    >>> TableSpec(("volt", "ampere"), label_column="state").set_aside
    ('state',)
    """

    feature_names: tuple[str, ...] | None = None
    label_column: str | None = None
    normal_label: object = None
    groups: str | None = None
    header: bool | None = None
    one_hot: tuple[OneHot, ...] = ()
    category: str | None = None
    category_by: str | None = None

    @property
    def set_aside(self) -> tuple[str, ...]:
        """Columns that are known not to be features: the label, the groups and the category."""
        return tuple(column for column in (self.label_column, self.groups, self.category) if column is not None)

    @property
    def normal_text(self) -> str | None:
        """The value that marks normal rows, as labels are compared."""
        return None if self.normal_label is None else label_text(self.normal_label)

    @property
    def is_generated(self) -> bool:
        """Whether the names are those that columns without names are called: f0, f1, f2, ..."""
        return bool(self.feature_names) and all(_GENERATED.match(name) for name in self.feature_names or ())
