"""What a table is read as: which columns are features, by name, and what the others mean."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TableSpec:
    """What a table is read as, and a fitted model reads later tables as: the counterpart of an `ImageSpec`.

    Parameters
    ----------
    feature_names : tuple of str, optional
        Columns that are features, in the order of the model's input. None: all columns, by position.
    label_column, groups : str, optional
    normal_label : object, optional
        As `insphere.open_source`.

    Examples
    --------
    >>> TableSpec(("volt", "ampere"), label_column="state").label_column
    'state'
    """

    feature_names: tuple[str, ...] | None = None
    label_column: str | None = None
    normal_label: object = None
    groups: str | None = None

    @property
    def set_aside(self) -> tuple[str, ...]:
        """Columns that are known not to be features: the label and the groups."""
        return tuple(column for column in (self.label_column, self.groups) if column is not None)
