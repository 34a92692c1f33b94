"""Named data sets with a normal class (``mnist:8``): a literal table, read from a local folder first, else from the Hugging Face hub."""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insphere.data.arrays import ArraySource
from insphere.data.dataset_files import Content, FoundFiles, describe_files, find_files, read_digits, read_files
from insphere.data.hub import download
from insphere.data.image_sizes import check_image_size
from insphere.data.images import ImageSpec, bring_array_to
from insphere.data.parquet_store import ParquetStore
from insphere.data.plates import PLATE_DEFECTS, PLATE_SIZE, plate_photos
from insphere.data.rows import SPLITS, AbstractSource, RowFacts
from insphere.data.stores import BytesStore, FileStore, ImageSource, MaskImages
from insphere.errors import DataError, DatasetNotFoundError, ParameterError, did_you_mean
from insphere.validation import check_choice

DATA_DIR_VARIABLE = "INSPHERE_DATA"


@dataclass(frozen=True)
class HubFiles:
    """Where the hub has a data set: repository and one Parquet file per split.

    Examples
    --------
    >>> HubFiles("ylecun/mnist", "mnist").file("test")
    'mnist/test-00000-of-00001.parquet'
    """

    repository: str
    folder: str

    def file(self, split: str) -> str:
        """Return the path of a split's file in the repository."""
        return f"{self.folder}/{split}-00000-of-00001.parquet"


@dataclass(frozen=True)
class DatasetEntry:
    """One named data set.

    Parameters
    ----------
    name : str
        Name before the colon.
    summary : str
        One line for `insphere datasets`.
    classes : tuple of str
        Class names in the order of their numbers; either may follow the colon.
    spec : ImageSpec
        Size and channels that its images are brought to where none are asked for: their own, of photos a small one.
    hub : HubFiles, optional
        Where it is downloaded from; None if only a local folder will do, or the data set comes along.
    bundled : bool
        Whether it comes along or is made on the spot.
    normal_classes : tuple of str
        Classes that may be the normal one; default: all.

    Examples
    --------
    >>> DATASETS["mnist"].spec.shape
    (28, 28, 1)
    """

    name: str
    summary: str
    classes: tuple[str, ...]
    spec: ImageSpec
    hub: HubFiles | None = None
    bundled: bool = False
    normal_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the default."""
        object.__setattr__(self, "normal_classes", self.normal_classes or self.classes)


_DIGITS = tuple(str(digit) for digit in range(10))
_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_GTSRB = (
    "speed-limit-20 speed-limit-30 speed-limit-50 speed-limit-60 speed-limit-70 speed-limit-80 "
    "end-of-speed-limit-80 speed-limit-100 speed-limit-120 no-passing no-passing-for-trucks right-of-way "
    "priority-road yield stop no-vehicles no-trucks no-entry general-caution dangerous-curve-left "
    "dangerous-curve-right double-curve bumpy-road slippery-road road-narrows-right road-work traffic-signals "
    "pedestrians children bicycles ice-or-snow wild-animals end-of-all-limits turn-right-ahead turn-left-ahead "
    "ahead-only ahead-or-right ahead-or-left keep-right keep-left roundabout end-of-no-passing "
    "end-of-no-passing-for-trucks"
)

DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        "digits", "scikit-learn's bundled handwritten digits, 8x8 grey, no download", _DIGITS, ImageSpec(8, 8, 1), bundled=True
    ),
    "mnist": DatasetEntry(
        "mnist", "MNIST handwritten digits, 28x28 grey", _DIGITS, ImageSpec(28, 28, 1), HubFiles("ylecun/mnist", "mnist")
    ),
    "fashion-mnist": DatasetEntry(
        "fashion-mnist",
        "Fashion-MNIST clothes, 28x28 grey",
        _FASHION,
        ImageSpec(28, 28, 1),
        HubFiles("zalando-datasets/fashion_mnist", "fashion_mnist"),
    ),
    "cifar10": DatasetEntry(
        "cifar10", "CIFAR-10 objects, 32x32 RGB", _CIFAR10, ImageSpec(32, 32, 3), HubFiles("uoft-cs/cifar10", "plain_text")
    ),
    "gtsrb32": DatasetEntry(
        "gtsrb32", "GTSRB traffic signs at 32x32 RGB; frames of one track are near-duplicates", tuple(_GTSRB.split()), ImageSpec(32, 32, 3)
    ),
    "plates": DatasetEntry(
        "plates",
        "photos of metal plates, 800x600 RGB, some with defects; made on the spot, no download",
        ("good", *PLATE_DEFECTS),
        ImageSpec(48, 64, 3),
        bundled=True,
        normal_classes=("good",),
    ),
}


def list_datasets() -> tuple[DatasetEntry, ...]:
    """Return the named data sets.

    Examples
    --------
    >>> [entry.name for entry in list_datasets()][:2]
    ['digits', 'mnist']
    """
    return tuple(DATASETS.values())


def load_dataset(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    spec: ImageSpec | None = None,
    image_size: int | tuple[int, int] | None = None,
    mode: str = "auto",
) -> AbstractSource:
    """Return one split of a named data set with a normal class.

    Parameters
    ----------
    name : str
        Data set and normal class, by number or name: ``"mnist:8"``, ``"fashion-mnist:bag"``.
    split : {"train", "test", "all"}
        "train": the training images of the normal class (only those are decoded); "test": all test images; "all": all of both.
    data_dir : path, optional
        Folder with a folder per data set; default: the environment variable INSPHERE_DATA. If it lacks the data set, the hub is asked.
    spec : ImageSpec, optional
        What the images are brought to; default: their own size and channels.
    image_size, mode
        As `open_source`; used if `spec` is not given.

    Returns
    -------
    AbstractSource
        `labels` 0 for the normal class and 1 for every other, `types` the class names; `groups` the tracks of GTSRB's training images.

    Raises
    ------
    ParameterError
        If the data set or class is unknown.
    DatasetNotFoundError
        If it is neither in the local folder nor to be downloaded.
    DataError
        If its files are damaged.

    Notes
    -----
    The digits have no official split: of each class, every third image in scikit-learn's order is a test image. The plates are made from
    seed 0 by `insphere.data.plates`, whose `write_plates` writes them as a folder, with masks.

    Examples
    --------
    >>> source = load_dataset("digits:3", "test")
    >>> len(source), int((source.labels == 0).sum()), source.row_shape
    (596, 61, (8, 8, 1))
    """
    check_choice("split", split, SPLITS)
    entry, normal = parse_name(name)
    natural = PLATE_SIZE if spec is None and image_size is None else None
    spec = spec or _spec(entry, image_size, mode)
    parts = ("train", "test") if split == "all" else (split,)
    if entry.name == "plates":
        return _open_plates(name, parts, spec, natural)
    contents = [_read(entry, part, normal if split == "train" else None, data_dir) for part in parts]
    classes = np.concatenate([content.classes for content in contents])
    facts = RowFacts(
        labels=(classes != normal).astype(np.int64),
        types=tuple(entry.classes[number] for number in classes.tolist()),
        groups=contents[0].groups if split == "train" else None,
        parts=tuple(part for part, content in zip(parts, contents, strict=True) for _ in range(len(content.classes))),
    )
    images = [content.images for content in contents]
    if all(isinstance(part, np.ndarray) for part in images):
        X = bring_array_to(np.concatenate([np.asarray(part) for part in images]), spec)
        return ArraySource(X, name=name, labels=facts.labels, types=facts.types, groups=facts.groups, parts=facts.parts)
    if all(isinstance(part, FileStore) for part in images):
        return ImageSource(name, FileStore([path for part in images if isinstance(part, FileStore) for path in part.paths]), facts, spec)
    stores = [part for part in images if isinstance(part, ParquetStore)]
    if len(stores) < len(images):
        raise DataError(f"the training and test files of {entry.name} are of different kinds; open one split at a time.")
    return ImageSource(name, functools.reduce(ParquetStore.followed_by, stores), facts, spec)


def parse_name(name: str) -> tuple[DatasetEntry, int]:
    """Return the data set and the number of the normal class that a name such as ``"cifar10:ship"`` says.

    Raises
    ------
    ParameterError
        If either is unknown or the class is missing.

    Examples
    --------
    >>> parse_name("cifar10:ship")[1]
    8
    """
    dataset, _, label = name.partition(":")
    entry = DATASETS.get(dataset)
    if entry is None:
        own = f" Nor is there a module {dataset!r}, if a function of your own is meant." if dataset.isidentifier() else ""
        raise ParameterError(f"there is no data set {dataset!r}; there are {', '.join(DATASETS)}.{own}{did_you_mean(dataset, DATASETS)}")
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    number = -1
    if label.isascii() and label.isdigit() and int(label) < len(entry.classes):
        number = int(label)
    elif plain in entry.classes and not plain.isdigit():
        number = entry.classes.index(plain)
    if number >= 0:
        if entry.classes[number] in entry.normal_classes:
            return entry, number
        raise ParameterError(
            f"{entry.classes[number]!r} can't be the normal class of {dataset}; write {dataset}:{entry.normal_classes[0]}."
        )
    problem = f"{dataset} has no class {label!r}" if label else f"{name!r} lacks the normal class"
    raise ParameterError(
        f"{problem}; write {dataset}:CLASS with a number from 0 to {len(entry.normal_classes) - 1} or one of "
        f"{', '.join(entry.normal_classes)}.{did_you_mean(plain, entry.normal_classes)}"
    )


def local_folder(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the local folder that has a data set, None if there is none; nothing is downloaded.

    Examples
    --------
    >>> local_folder("digits") is None
    True
    """
    root = _root(data_dir)
    found = None if root is None else find_files(root, name, "train")
    return None if found is None else found.folder


def _root(data_dir: str | os.PathLike[str] | None) -> Path | None:
    root = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or None
    return None if root is None else Path(root).expanduser()


def _spec(entry: DatasetEntry, image_size: int | tuple[int, int] | None, mode: str) -> ImageSpec:
    check_choice("mode", mode, ("auto", "grey", "rgb"))
    height, width = (entry.spec.height, entry.spec.width) if image_size is None else check_image_size(image_size)
    return ImageSpec(height, width, {"grey": 1, "rgb": 3}.get(mode, entry.spec.channels))


def _open_plates(name: str, parts: tuple[str, ...], spec: ImageSpec, natural: tuple[float, float] | None) -> ImageSource:
    """Return the photos of the plates with their masks; those to train on are all good."""
    plates = [plate for part in parts for plate in plate_photos(part)]
    names = [plate.name for plate in plates]
    masks = [(plate.name.mask, plate.mask) for plate in plates if plate.name.mask is not None]
    facts = RowFacts(
        ids=tuple(of.photo for of in names),
        labels=np.array([of.mask is not None for of in names], dtype=np.int64),
        types=tuple(of.kind for of in names),
        parts=tuple(of.part for of in names),
        masks=tuple(of.mask for of in names),
    )
    drawn = MaskImages(BytesStore([mask for _, mask in masks]), {path: place for place, (path, _) in enumerate(masks)})
    return ImageSource(name, BytesStore([plate.photo for plate in plates]), facts, spec, masks=drawn, natural=natural)


def _read(entry: DatasetEntry, part: str, only: int | None, data_dir: str | os.PathLike[str] | None) -> Content:
    if entry.name == "digits":
        return read_digits(part, only)
    root = _root(data_dir)
    found = None if root is None else find_files(root, entry.name, part)
    if found is not None:
        return read_files(found, part, only)
    looked_for = (
        f"the environment variable {DATA_DIR_VARIABLE} is not set"
        if root is None
        else f"{root} does not exist"
        if not root.is_dir()
        else f"{root} has none of {describe_files(entry.name, part)}"
    )
    remedy = f"Put it there and name the folder with {DATA_DIR_VARIABLE}, `data_dir` or `--data-dir`"
    if entry.hub is None:
        raise DatasetNotFoundError(
            f"{entry.name} is not found: {looked_for}, and it is not on the hub. {remedy}: unpack the official archives "
            "GTSRB_Final_Training_Images.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip into its folder gtsrb32."
        )
    file = download(entry.hub.repository, entry.hub.file(part), subject=entry.name, looked_for=looked_for, remedy=remedy)
    return read_files(FoundFiles("parquet", file.parent, (file,)), part, only)
