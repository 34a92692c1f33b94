"""Files of named data sets: Hugging Face Parquet, MNIST's idx files, GTSRB's official archives, scikit-learn's digits."""

import csv
import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.image_tables import image_column, read_image_table
from insphere.data.parquet_store import ParquetStore
from insphere.data.stores import FileStore
from insphere.data.tables import read_or_refuse, read_schema
from insphere.errors import DataError

_IDX_STEMS = {"train": "train", "test": "t10k"}
_IDX_SETS = ("mnist", "fashion-mnist")
_MAX_IDX_BYTES = 2**30
_GTSRB_FOLDERS = ("gtsrb32", "gtsrb32/GTSRB", "gtsrb", "gtsrb/GTSRB", "GTSRB")


@dataclass(frozen=True)
class FoundFiles:
    """Files of one split of a data set: `kind` ("parquet", "idx" or "gtsrb") says how they are read."""

    kind: str
    folder: Path
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Content:
    """One split as read: images (an array, or where encoded ones lie), class number of each, group of each if known."""

    images: NDArray[np.uint8] | ParquetStore | FileStore
    classes: NDArray[np.int64]
    groups: tuple[str, ...] | None = None


def describe_files(name: str, part: str) -> str:
    """Return which files are looked for, for messages."""
    choices = [f"{name}/{part}-*.parquet"]
    if name in _IDX_SETS:
        choices.append(f"{name}/{_IDX_STEMS[part]}-images-idx3-ubyte[.gz]")
    if name == "gtsrb32":
        choices.append("gtsrb32/Final_Training/Images" if part == "train" else "gtsrb32/Final_Test/Images with GT-final_test.csv")
    return ", ".join(choices)


def find_files(root: Path, name: str, part: str) -> FoundFiles | None:
    """Return the files of one split of a data set under `root`, None if there are none."""
    folder = root / name
    shards = sorted(folder.glob(f"{part}-*.parquet")) or sorted(folder.glob(f"data/{part}-*.parquet"))
    if shards:
        return FoundFiles("parquet", folder, tuple(shards))
    if name in _IDX_SETS:
        pair = [_idx_file(folder, f"{_IDX_STEMS[part]}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        if pair[0] is not None and pair[1] is not None:
            return FoundFiles("idx", folder, (pair[0], pair[1]))
    if name == "gtsrb32":
        for place in _GTSRB_FOLDERS:
            files = _gtsrb_files(root / place, part)
            if files:
                return FoundFiles("gtsrb", root / place, files)
    return None


def read_files(found: FoundFiles, part: str, only: int | None) -> Content:
    """Read one split; with `only`, the images of that class alone.

    Raises
    ------
    DataError
        If a file is damaged or has not the columns of its kind.
    """
    if found.kind == "parquet":
        return _read_parquet(found.files, part, only)
    if found.kind == "idx":
        return _read_idx_pair(found.files, only)
    return _read_gtsrb(found, part, only)


def read_digits(part: str, only: int | None) -> Content:
    """Return scikit-learn's digits as uint8 (0..16 scaled to 0..255); of each class every third image is a test image."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    X = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    rank = np.empty(len(classes), dtype=np.int64)
    for number in range(10):
        rows = np.flatnonzero(classes == number)
        rank[rows] = np.arange(len(rows))
    chosen = (rank % 3 == 2) == (part == "test")
    if only is not None:
        chosen &= classes == only
    return Content(X[chosen], classes[chosen].astype(np.int64))


def _read_parquet(files: Sequence[Path], part: str, only: int | None) -> Content:
    schema = read_schema(files[0])
    image = image_column(schema)
    if image is None or "label" not in schema.names:
        raise DataError(f"{files[0].name} must have a column with images and one named 'label'; its columns are {', '.join(schema.names)}.")
    has_track = "track" in schema.names and part == "train"
    columns = ["label", "track"] if has_track else ["label"]
    read = read_image_table(files, image, columns)
    classes = read.columns["label"].astype(np.int64)
    rows = np.arange(len(classes)) if only is None else np.flatnonzero(classes == only)
    groups = None
    if has_track:
        # Tracks are counted from zero in every class, so the class belongs to the name.
        groups = tuple(
            f"{number}-{track}" for number, track in zip(classes[rows].tolist(), read.columns["track"][rows].tolist(), strict=True)
        )
    return Content(read.store.take(rows), classes[rows], groups)


def _idx_file(folder: Path, stem: str) -> Path | None:
    names = [f"{stem}{suffix}" for suffix in ("", ".gz")]
    names += [name.replace("-idx", ".idx") for name in names]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_idx_pair(files: Sequence[Path], only: int | None) -> Content:
    images, classes = (read_or_refuse(file, lambda path: read_idx(path)) for file in files)
    if images.ndim != 3 or classes.ndim != 1 or len(images) != len(classes):
        raise DataError(f"{files[0].name} has shape {images.shape} and {files[1].name} {classes.shape}; they do not belong together.")
    classes = classes.astype(np.int64)
    if only is not None:
        images, classes = images[classes == only], classes[classes == only]
    return Content(images[:, :, :, np.newaxis], classes)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the uint8 array in an idx file, plain or gzipped.

    Raises
    ------
    DataError
        If its header or length is wrong.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 4:
            raise DataError(f"{path.name} is not an idx file of bytes; download it again.")
        header = file.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise DataError(f"{path.name} is truncated; download it again.")
        shape = struct.unpack(f">{magic[3]}I", header)
        n_bytes = int(np.prod(shape, dtype=object))
        # One byte more than stated is asked for, so that a file that is too long shows.
        data = file.read(n_bytes + 1) if n_bytes <= _MAX_IDX_BYTES else b""
    if len(data) != n_bytes:
        raise DataError(f"{path.name} should hold {n_bytes:,} bytes for its shape {shape} but does not; download it again.")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _gtsrb_files(folder: Path, part: str) -> tuple[Path, ...]:
    """Return the CSV files that list the images."""
    if part == "train":
        return tuple(sorted((folder / "Final_Training" / "Images").glob("*/GT-*.csv")))
    places = (folder, folder / "Final_Test", folder / "Final_Test" / "Images")
    return tuple(place / "GT-final_test.csv" for place in places if (place / "GT-final_test.csv").is_file())[:1]


def _read_gtsrb(found: FoundFiles, part: str, only: int | None) -> Content:
    """Read the lists; images are whole files, not cropped to the sign (the lists' Roi columns are not used)."""
    paths: list[Path] = []
    classes: list[int] = []
    for listing in found.files:
        if part == "train" and only is not None and listing.parent.name != f"{only:05d}":
            continue
        place = listing.parent if part == "train" else found.folder / "Final_Test" / "Images"
        for name, number in read_or_refuse(listing, _read_listing):
            if only is None or number == only:
                paths.append(place / name)
                classes.append(number)
    if not paths:
        raise DataError(f"{found.folder} lists no images of the class {only}; unpack GTSRB_Final_Training_Images.zip again.")
    # "00003_00017.ppm" is frame 17 of track 3.
    groups = tuple(f"{number}-{path.name.split('_')[0]}" for path, number in zip(paths, classes, strict=True)) if part == "train" else None
    return Content(FileStore(paths), np.array(classes, dtype=np.int64), groups)


def _read_listing(path: Path) -> list[tuple[str, int]]:
    rows: list[tuple[str, int]] = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter=";"):
            name: Any = row.get("Filename")
            if not name or not row.get("ClassId") or Path(name).name != name:
                raise DataError(f"{path.name} must have the columns Filename and ClassId, separated by ';', and plain file names.")
            rows.append((name, int(row["ClassId"])))
    return rows
