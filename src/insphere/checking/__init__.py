"""Whether data is fit to learn from: checks of a source before anything is trained."""

from insphere.checking.checks import check_source
from insphere.checking.findings import LEVELS, CheckReport, DataFinding

__all__ = ["LEVELS", "CheckReport", "DataFinding", "check_source"]
