"""What a user points at (array, file, folder, glob, zip, table, named data set) to one kind of object."""

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from insphere.data.archives import open_zip
from insphere.data.array_files import open_array_file
from insphere.data.arrays import ArraySource
from insphere.data.csv_files import open_csv
from insphere.data.datasets import DATASETS, load_dataset
from insphere.data.folders import LOOKED_FOR, open_folder, open_glob, open_image_file
from insphere.data.frames import frame_content, is_frame
from insphere.data.images import IMAGE_SUFFIXES, ImageSpec
from insphere.data.many import is_many, open_many, refuse_other_kinds
from insphere.data.options import OpenOptions
from insphere.data.own_sets import own_set, target_of
from insphere.data.parquet_files import open_parquet, partitioned_files
from insphere.data.rows import AbstractSource, RowFacts, Rows
from insphere.data.stores import ImageSource
from insphere.data.table_spec import TableSpec
from insphere.data.tables import open_table
from insphere.errors import DataError, did_you_mean

__all__ = ["AbstractSource", "ArraySource", "ImageSource", "RowFacts", "Rows", "folder", "open_source"]

_FILE_KINDS = ".npy, .npz, .csv, .parquet, .zip, an image"

_CATEGORY = ("category", "category_by")


def open_source(
    source: Any,
    *,
    split: str = "all",
    spec: ImageSpec | None = None,
    image_size: int | tuple[int, int] | None = None,
    mode: str = "auto",
    label_column: str | None = None,
    normal_label: object = None,
    columns: list[str] | tuple[str, ...] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    groups: str | None = None,
    table_spec: TableSpec | None = None,
    header: bool | None = None,
    channels: str = "auto",
    groups_by: str | None = None,
    sized: Callable[[float, float], tuple[int, int]] | None = None,
    one_hot: list[str] | tuple[str, ...] | None = None,
    category: str | None = None,
    category_by: str | None = None,
    jpeg_draft: bool = False,
) -> AbstractSource:
    """Return the rows that `source` points at.

    Parameters
    ----------
    source : AbstractSource, array-like, str or path
        Of an opened source, the rows of `split` (image files brought to `spec` if one is given); it takes no other option. A text is a
        path or glob (``"photos/*.png"``), a named data set (``"mnist:8"``), or a function of others, ``module:function``, which returns
        anything that is taken here. Paths: .npy, .npz (`X` and optional `y`, 1 = anomaly),
        .csv, .parquet, .zip, an image, or a folder of images (flat; ``train/good`` with ``test/<defect>``; ``good`` next to
        ``<defect>``; in any letters, at any depth) or of Parquet shards. Lists and data sets of image paths, Pillow images or arrays:
        see `insphere.data.many.open_many`.
    split : {"train", "test", "all"}
        "train": the normal rows to fit on; "test": the rows to evaluate on, all if the source does not keep them apart; "all": everything.
    spec : ImageSpec, optional
        What image files are brought to, for example by a fitted model. Without it, it is chosen from the images' headers.
    image_size : int or (int, int), optional
        Pixels: side of a square, or (height, width). Default: the common or median size, longer side at most 64.
    mode : {"auto", "grey", "rgb"}
        Channels of image files; "auto" is grey if every image is.
    label_column : str, optional
        Column of a table with labels (or array of an .npz file): 0 normal and 1 anomaly, unless `normal_label` is given.
    normal_label : object, optional
        Value of the label (or name of the folder) that marks normal rows; all others are anomalies.
    columns : list of str, optional
        Columns of a table to use; default: all but labels and groups.
    data_dir : path, optional
        Folder of the named data sets; default: the environment variable INSPHERE_DATA.
    groups : str, optional
        Column of a table whose equal values mark near-duplicate rows.
    table_spec : TableSpec, optional
        What a table is read as, for example by a fitted model: its features are matched by name, further columns left aside, and
        labels and groups read where it has their columns. The options above win.
    header : bool, optional
        Whether the first line of a CSV file has the names of the columns. Default: found by a rule; see `open_csv`.
    channels : {"auto", "first", "last"}
        Where the channels of an array of images are. "first" turns (n, channels, height, width), as PyTorch has it, round; "auto" is
        last, and refuses what looks like channels first.
    groups_by : str, optional
        Of image files: a regular expression that finds the group of near-duplicates in a path (``"(?P<group>[^_]+)_"``), or "folder".
    sized : callable, optional
        Where no size is asked for: gives height and width to bring image files to from their common or median height and width, for
        example as a detector wants them.
    one_hot : list of str, optional
        Columns of a table that hold words, or numbers that only name kinds. Each of their values becomes a feature that is 1 where the
        row has it and else 0 (``colour=red``), at most a hundred a column. A fitted model keeps the values; a new one has a 0 in all of
        them, and that is told. An empty cell is a missing value.
    category : str, optional
        Column of a table that says which camera, product or shift a row is from, each of which is to have a calibration of its own. (Not
        `groups`, whose rows depend on each other.)
    category_by : str, optional
        Of image files: a regular expression that finds the category in a path (``"(?P<category>cam[0-9]+)"``), or "folder": the nearest
        folder above an image whose name does not mean normal, defect, training or test.
    jpeg_draft : bool
        Whether JPEG files are decoded at a fraction of their size where that is enough: faster for large photos, with pixels that differ
        a little; see `ImageSpec`. Where a `spec` is given, that says it.

    Returns
    -------
    AbstractSource
        Rows, lazily read where the source is larger than memory may be.

    Raises
    ------
    DataError
        If there is nothing to read, or it cannot be read as a whole. Single unreadable rows are reported by the source instead.
    ParameterError
        If an option breaks its rule or does not apply to the source.
    DatasetNotFoundError
        If a named data set is not to be had.

    Examples
    --------
    >>> open_source([[1.0, 2.0], [3.0, 4.0]]).row_shape
    (2,)
    >>> len(open_source("digits:3", split="train"))
    122
    """
    options = OpenOptions(
        split,
        spec,
        image_size,
        mode,
        label_column,
        normal_label,
        columns,
        data_dir,
        groups,
        table_spec,
        header,
        channels,
        groups_by,
        sized,
        one_hot,
        category,
        category_by,
        jpeg_draft,
    )
    if isinstance(source, AbstractSource):
        return _narrowed(source, options)
    if isinstance(source, str | os.PathLike):
        return _open_path(os.path.expanduser(os.fspath(source)), options)
    if is_frame(source):
        return open_table(frame_content(source), options)
    refuse_other_kinds(source)
    if not hasattr(source, "shape") and hasattr(source, "__len__") and len(source) == 0:
        raise DataError(f"The {type(source).__name__} is empty; give at least one path, image or row of numbers.")
    if is_many(source):
        return open_many(source, options)
    options.refuse(
        (
            "image_size",
            "mode",
            "label_column",
            "normal_label",
            "columns",
            "groups",
            "header",
            "groups_by",
            "one_hot",
            "jpeg_draft",
            *_CATEGORY,
        ),
        "an array",
    )
    return ArraySource(source, channels=options.channels)


def _narrowed(source: AbstractSource, options: OpenOptions) -> AbstractSource:
    """Return the rows of an opened source that the options ask for; nothing that is asked for is dropped."""
    subject = f"{source.name}, which is opened already"
    told_before = ("label_column", "normal_label", "columns", "one_hot", "groups", "groups_by", "header", "channels", *_CATEGORY)
    fixed = ("image_size", "mode", "data_dir", "jpeg_draft", *told_before)
    options.refuse(fixed, subject)
    found = source.part(options.split)
    if options.spec is not None and found.spec is not None and found.spec != options.spec:
        return found.brought_to(options.spec)
    return found


def folder(path: str | os.PathLike[str], **options: Any) -> AbstractSource:
    """Return the images (or Parquet shards) in a folder as a source.

    Parameters
    ----------
    path : path
        The folder.
    **options
        As `open_source`.

    Raises
    ------
    DataError
        If it is not a folder, and as `open_source`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     _ = Path(place, "1.pgm").write_bytes(b"P5 3 2 255 " + bytes(6))
    ...     folder(place).row_shape
    (2, 3, 1)
    """
    if not os.path.isdir(os.path.expanduser(path)):
        raise DataError(f"{os.fspath(path)} is not a folder; give the path of an existing one.")
    return open_source(path, **options)


def _open_path(text: str, options: OpenOptions) -> AbstractSource:
    path = Path(text)
    suffix = "" if os.path.isdir(text) else path.suffix.lower()
    if suffix and suffix not in (*IMAGE_SUFFIXES, ".zip") and not glob.has_magic(text):
        options.refuse(("groups_by", "category_by"), "what is not a set of image files")
    if suffix in (".npy", ".npz"):
        options.refuse(("jpeg_draft",), "what holds no image files")
    if suffix not in (".npy", ".npz"):
        options.refuse(("channels",), "what is not an array")
    if suffix != ".csv":
        options.refuse(("header",), "what is not a CSV file")
    if os.path.isdir(text):
        return _open_directory(path, options)
    if os.path.isfile(text):
        return _open_file(path, options)
    check_there(text)
    return open_glob(text, options) if glob.has_magic(text) else _open_dataset(text, options)


def check_there(source: str) -> None:
    """Raise `DataError` if a text names nothing that can be opened: no file or folder, no pattern, no data set; nothing is read.

    Examples
    --------
    >>> check_there("digits:3")
    """
    text = os.path.expanduser(source)
    if os.path.isfile(text) or os.path.isdir(text):
        return
    if os.path.exists(text):
        raise DataError(f"{text} is neither a file nor a folder; give the path of one.")
    is_set = text.partition(":")[0] in DATASETS or target_of(text) is not None or (":" in text and not any(mark in text for mark in "/\\."))
    if not glob.has_magic(text) and not is_set:
        raise DataError(
            f"{text} does not exist; give a file ({_FILE_KINDS}), a folder, a glob or a data set such as 'digits:3'."
            f"{did_you_mean(text, DATASETS)}"
        )


def _open_directory(path: Path, options: OpenOptions) -> AbstractSource:
    images = open_folder(path, options)
    if images is not None:
        return images
    shards = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet")) or partitioned_files(path)
    if shards:
        return open_parquet(path.name, shards, options)
    raise DataError(
        f"the folder {path} has no image and no Parquet file, in no folder below it either; looked for {LOOKED_FOR} and .parquet."
    )


def _open_file(path: Path, options: OpenOptions) -> AbstractSource:
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return open_array_file(path, options)
    if suffix == ".zip":
        return open_zip(path, options)
    if suffix == ".csv":
        return open_csv(path, options)
    if suffix == ".parquet":
        return open_parquet(path.name, [path], options)
    if suffix in IMAGE_SUFFIXES:
        return open_image_file(path, options)
    raise DataError(f"{path.name} has the suffix {suffix!r}, which is not read; give {_FILE_KINDS}, or a folder.")


def _open_dataset(text: str, options: OpenOptions) -> AbstractSource:
    target = None if text.partition(":")[0] in DATASETS else target_of(text)
    if target is not None:
        return open_source(own_set(target), **options.given())
    options.refuse(("label_column", "normal_label", "columns", "groups", "jpeg_draft", *_CATEGORY), "a named data set")
    return load_dataset(text, options.split, data_dir=options.data_dir, spec=options.spec, image_size=options.image_size, mode=options.mode)
