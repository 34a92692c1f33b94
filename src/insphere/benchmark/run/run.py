"""One run of a benchmark: which rows, which detector with which parameters, which seed. Its name follows from its content."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from insphere.errors import DataError

_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9.]+")
_LONGEST_PART = 48  # three parts, seed, digest and suffixes stay below the 255 bytes of a file name


class PlannedRun(Protocol):
    """What is asked of a planned run; `Run` has it."""

    @property
    def dataset(self) -> str:
        """Data set."""

    @property
    def normal_class(self) -> str:
        """Class whose rows are normal."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def seed(self) -> int:
        """Seed."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What is computed once and reported in one file.

    Parameters
    ----------
    dataset : str
        Name of the data set in the plan.
    normal_class : str
        Class whose rows are normal.
    method : str
        Name of the method in the plan.
    detector : str
        Name of its detector in the catalog.
    parameters : mapping
        Arguments of the detector; nested options are mappings. The seed is not among them.
    seed : int
        Seed of the detector and, where the data are not split already, of the split.
    source : mapping
        How rows are opened where `dataset` is not a named data set of its own: ``{"source": "parts.csv", "label_column": "state"}``.
    label : str
        What tables and figures call the method; it does not belong to the run's identity.
    control : bool
        Whether tables mark the method as a control; neither does this.

    Examples
    --------
    >>> Run("digits", "8", "forest", "iforest", {"n_estimators": 50}, seed=0).id
    'digits-8-forest-s0-86a9f594'
    """

    dataset: str
    normal_class: str
    method: str
    detector: str
    parameters: Mapping[str, Any]
    seed: int
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    label: str = ""
    control: bool = False

    @property
    def id(self) -> str:
        """The run's name, fit for a file name: readable parts and eight digits of a digest of all that decides the result."""
        identity = {name: value for name, value in self.to_json().items() if name not in ("label", "control")}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]
        parts = (_NOT_IN_FILE_NAMES.sub("-", part)[:_LONGEST_PART] for part in (self.dataset, self.normal_class, self.method))
        return f"{'-'.join(parts)}-s{self.seed}-{digest}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Run":
        """Return the run that `to_json` described.

        Raises
        ------
        DataError
            If fields are missing or unknown.
        """
        try:
            return cls(**record)
        except TypeError as error:
            raise DataError(f"This is not a run of a benchmark: {error}.") from error
