"""What may come into a fitted detector, as one record: shape, image specification, columns by name. It opens and checks what is given."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, ArraySource, ImageSpec, Imputer, TableSpec, open_source
from insphere.data.frames import is_frame
from insphere.data.labels import label_text
from insphere.data.many import holds_files, is_many
from insphere.data.one_hot import OneHot
from insphere.errors import DataError, ParameterError

_NO_TABLE = TableSpec()
_TEXTS = ("label_column", "normal_label", "groups", "category", "category_by")


@dataclass(frozen=True)
class InputContract:
    """What a fitted detector takes.

    Parameters
    ----------
    shape : tuple of int
        Of one row: (features,) or (height, width, channels).
    image : ImageSpec, optional
        What image files are brought to; None where rows are vectors.
    from_files : bool
        Whether the detector was fitted on image files; if not, the range of its arrays' values is known to the user alone.
    table : TableSpec
        The columns by name, and the label options that were given at the fit.
    channels_first : bool
        Whether the arrays of images that it was fitted on had their channels along the second axis; later ones of that shape are
        turned alike.
    imputer : Imputer, optional
        How missing values are filled; None: a row with one is an error.

    Examples
    --------
    >>> contract = InputContract.of(ArraySource([[0.0, 1.0]], feature_names=["volt", "ampere"]))
    >>> contract.admit(ArraySource([[1.0, 0.0]], feature_names=["ampere", "volt"])).load().X
    array([[0., 1.]])
    """

    shape: tuple[int, ...]
    image: ImageSpec | None = None
    from_files: bool = False
    table: TableSpec = _NO_TABLE
    channels_first: bool = False
    imputer: Imputer | None = None

    @classmethod
    def of(cls, source: AbstractSource) -> Self:
        """Return the contract of a detector that is fitted on `source`.

        Raises
        ------
        DataError
            If something about the source is in such doubt that a fit must not go on.
        """
        if source.doubt is not None:
            raise DataError(source.doubt)
        shape = tuple(int(size) for size in source.row_shape)
        draft = source.spec is not None and source.spec.jpeg_draft
        image = None if len(shape) == 1 else ImageSpec(shape[0], shape[1], shape[2], str(source.dtype), draft)
        return cls(shape, image, source.spec is not None, source.table_spec, bool(getattr(source, "channels_first", False)))

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Shape of one row as the model gets it: with an indicator for each feature that may be missing."""
        return self.shape if self.imputer is None else (self.shape[0] + len(self.imputer.columns),)

    @property
    def model_names(self) -> tuple[str, ...] | None:
        """Names of the features as the model gets them."""
        names = self.table.feature_names
        return names if names is None or self.imputer is None else self.imputer.names(names)

    @property
    def shape_text(self) -> str:
        """The shape as messages show it."""
        return ", ".join(map(str, self.shape))

    def open(self, X: Any, *, split: str = "all", **options: Any) -> AbstractSource:
        """Return the source of a path, an array of images or a data frame, checked and put in order.

        What the fit was told of labels, groups and columns need not be said again; `options` of `insphere.open_source` win.

        Raises
        ------
        DataError
            If the rows have other features, another image shape or another type than the training rows.
        """
        files = isinstance(X, AbstractSource | str | os.PathLike) or holds_files(X)
        array_file = isinstance(X, str | os.PathLike) and os.fspath(X).lower().endswith((".npy", ".npz"))
        if self.channels_first and (array_file or (not files and np.shape(X)[1:] == (self.shape[2], *self.shape[:2]))):
            options.setdefault("channels", "first")
        source = open_source(X, split=split, spec=self._file_spec(X) if files else None, table_spec=self.table, **options)
        return self.admit(source)

    def admit(self, source: AbstractSource, *, estimator: str = "The detector") -> AbstractSource:
        """Return the source with its features in the detector's order; `estimator` is what messages call the detector.

        Raises
        ------
        DataError
            If its rows do not fit.
        """
        if self.imputer is not None and tuple(source.row_shape) == self.model_shape:
            return source  # rows that came from here: an explanation's variants, for example
        names = self.table.feature_names
        if names is not None and isinstance(source, ArraySource) and source.feature_names is not None:
            source = source.with_features(names, aside=self.table.set_aside, one_hot=self.table.one_hot)
        if len(self.shape) == 1 == len(source.row_shape) and source.row_shape != self.shape:
            # In the words of scikit-learn, whose checks look for them.
            raise DataError(
                f"{source.name} has {source.row_shape[0]} features, but {estimator} is expecting {self.shape[0]} features as input."
            )
        if tuple(source.row_shape) != self.shape:
            got = ", ".join(map(str, source.row_shape))
            one = "; one image is `X[None]`" if source.row_shape == self.shape[1:2] else ""
            raise DataError(f"This detector takes rows of shape ({self.shape_text}), got ({got}) from {source.name}{one}.")
        if self.image is not None and str(source.dtype) != self.image.dtype:
            raise DataError(
                f"This detector was fitted on {self.image.dtype} images, got {source.dtype} from {source.name};"
                " give pixels of the same type and range."
            )
        return source if self.imputer is None or not isinstance(source, ArraySource) else source.imputed(self.imputer)

    def imputing(
        self, rows: NDArray[Any], train_index: NDArray[np.int64], calibration_index: NDArray[np.int64]
    ) -> tuple[Self, NDArray[Any], NDArray[np.int64]]:
        """Return the contract with the imputer of the rows to train on, all rows as it gives them, and those held out that it can fill."""
        imputer = Imputer.fit(rows[train_index], self.table.feature_names)
        filled = imputer.transform(rows)
        usable = np.isfinite(filled[calibration_index]).all(axis=1)
        return replace(self, imputer=imputer), filled, calibration_index[usable]

    def _file_spec(self, X: Any) -> ImageSpec | None:
        """Return what image files are brought to, or None where `X` holds no files or the detector takes vectors."""
        if self.image is None or isinstance(X, ArraySource):
            return None
        if not self.from_files and self.image.dtype != "uint8":
            raise DataError(
                f"This detector was fitted on an array of {self.image.dtype} images, whose range of values image files need not"
                " share; read them into an array in the same way and score that."
            )
        return self.image

    def to_json(self) -> dict[str, Any]:
        """Return the record as what a model file's header holds."""
        table = self.table
        return {
            "shape": list(self.shape),
            "image": None if self.image is None else self.image.to_json(),
            "from_files": self.from_files,
            "feature_names": None if table.feature_names is None else list(table.feature_names),
            "label_column": table.label_column,
            "normal_label": None if table.normal_label is None else label_text(table.normal_label),
            "groups": table.groups,
            "header": table.header,
            "one_hot": [[entry.column, list(entry.values)] for entry in table.one_hot],
            "category": table.category,
            "category_by": table.category_by,
            "channels_first": self.channels_first,
            "imputer": None if self.imputer is None else self.imputer.to_json(),
        }

    @classmethod
    def from_json(cls, header: Mapping[str, Any]) -> Self:
        """Return the record that `to_json` wrote; those of older files lack the label options.

        Raises
        ------
        ValueError
            If a part has another type or size than it must have.
        """
        shape, names, image = header["shape"], header["feature_names"], header["image"]
        if not isinstance(shape, list) or len(shape) not in (1, 3) or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"the shape of the input must be 1 or 3 whole numbers above 0, got {shape!r}")
        if (image is None) != (len(shape) == 1):
            raise ValueError("the input must have an image specification if its rows are images, and only then")
        if names is not None and (len(names) != shape[0] or not all(isinstance(name, str) for name in names)):
            raise ValueError("the input must have one name per feature")
        texts = {field: header.get(field) for field in _TEXTS}
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError(f"{', '.join(_TEXTS)} of the input must be texts")
        header_line = header.get("header")
        if header_line not in (None, True, False):
            raise ValueError("`header` of the input must be true, false or null")
        one_hot = _one_hot(header.get("one_hot", []), names or [])
        table = TableSpec(None if names is None else tuple(names), **texts, header=header_line, one_hot=one_hot)
        spec, first = None if image is None else ImageSpec(**image), bool(header.get("channels_first", False))
        imputer = header.get("imputer")
        imputer = None if imputer is None else Imputer.from_json(imputer, shape[0])
        return cls(tuple(shape), spec, bool(header["from_files"]), table, first, imputer)


def _one_hot(stored: Any, names: Sequence[str]) -> tuple[OneHot, ...]:
    """Return the columns of words that a file's header holds."""
    problem = "`one_hot` of the input must be pairs of a column and its values, whose indicators are features"
    try:
        found = tuple(OneHot(column, tuple(values)) for column, values in stored)
    except (TypeError, ValueError) as error:
        raise ValueError(problem) from error
    texts = [text for entry in found for text in (entry.column, *entry.values)]
    if not all(isinstance(text, str) for text in texts) or not {name for entry in found for name in entry.names} <= set(names):
        raise ValueError(problem)
    return found


def is_plain_table(X: Any) -> bool:
    """Return whether `X` is rows of numbers without names or options: an array or lists with at most two axes.

    What is neither, a generator or a dict say, is none: `open_source` says what to give instead.
    """
    if isinstance(X, AbstractSource | str | os.PathLike | np.ma.MaskedArray) or is_frame(X) or is_many(X):
        return False
    if isinstance(X, list | tuple):
        return not any(isinstance(row, Mapping | np.ma.MaskedArray) for row in X)
    return bool(np.ndim(X) <= 2) if hasattr(X, "shape") else hasattr(X, "__array__")


def keeping_missing(source: AbstractSource, features: Collection[int] | None = None) -> AbstractSource:
    """Return the source with missing features, all or those given, as NaN instead of as errors, for a detector that fills them.

    Raises
    ------
    ParameterError
        If the rows are images.
    """
    if source.is_image or not isinstance(source, ArraySource):
        raise ParameterError(f'`missing="impute"` is for rows of features, and {source.name} has images; leave it out.')
    return source.keeping_missing(features)
