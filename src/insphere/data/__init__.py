"""Sources of rows: what a user points at, named data sets, and the one-class split."""

from insphere.data.datasets import DATASETS, DatasetEntry, list_datasets, load_dataset, local_folder
from insphere.data.images import MAX_PIXELS, ImageHeader, ImageSpec, decode, probe
from insphere.data.imputation import Imputer
from insphere.data.protocol import Split, one_class_split
from insphere.data.rows import AbstractSource, Notice, RowFacts, Rows
from insphere.data.sources import ArraySource, ImageSource, folder, open_source
from insphere.data.table_spec import TableSpec

__all__ = [
    "DATASETS",
    "MAX_PIXELS",
    "AbstractSource",
    "ArraySource",
    "DatasetEntry",
    "ImageHeader",
    "ImageSource",
    "ImageSpec",
    "Imputer",
    "Notice",
    "RowFacts",
    "Rows",
    "Split",
    "TableSpec",
    "decode",
    "folder",
    "list_datasets",
    "load_dataset",
    "local_folder",
    "one_class_split",
    "open_source",
    "probe",
]
