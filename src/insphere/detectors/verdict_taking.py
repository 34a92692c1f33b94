"""How a fitted detector takes what people say of rows that it scored."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from insphere.decision import health
from insphere.decision.decision import Decision
from insphere.decision.health import HealthReport
from insphere.decision.verdicts import Verdict, VerdictJournal


class VerdictTaking:
    """The methods of a fitted detector by which verdicts come into its file and its decision."""

    name: ClassVar[str]
    created_: str
    decision_: Decision
    health_: HealthReport
    data_: dict[str, Any]
    verdicts_: VerdictJournal

    @property
    def draw_key(self) -> str:
        """What rows are drawn by, besides their content: see `insphere.decision.verdicts.draw_number`."""
        return str(self.data_["fingerprint"])

    @property
    def fit_key(self) -> str:
        """What tells this fit from others on the same rows, whose scores cannot be compared with its own; a recalibration keeps it."""
        told = [self.name, self.created_, _of_the_fit(self._parameters_to_json())]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    @abstractmethod
    def _parameters_to_json(self) -> dict[str, Any]:
        """Return the parameters as what JSON can hold."""

    def take_verdicts(self, verdicts: Iterable[Verdict]) -> Self:
        """Note what people said of rows; the decision stays as it is until `recalibrate_by_verdicts`.

        Raises
        ------
        DataError
            If there are more than a model keeps.
        """
        self.verdicts_ = self.verdicts_.with_verdicts(verdicts)
        return self

    def recalibrate_by_verdicts(self, *, only: bool = False) -> Self:
        """Let the scores of rows that were drawn at random and found normal enter the calibration; the change is noted in its history.

        Parameters
        ----------
        only : bool
            Whether they take the place of the scores that are there, as after a change of the line, instead of standing beside them.

        Raises
        ------
        DataError
            If there is no such row.
        """
        self.decision_ = self.verdicts_.calibrated(self.decision_, only=only)
        self.verdicts_ = self.verdicts_.all_used()
        self.health_ = self.health_.replaced(health.check_calibration(self.decision_), health.check_categories(self.decision_))
        return self


def _of_the_fit(parameters: Any) -> Any:
    """Return parameters without what may change after the fit: where it is computed, and what share may be flagged."""
    if not isinstance(parameters, dict):
        return parameters
    return {name: _of_the_fit(value) for name, value in parameters.items() if name not in ("device", "target_fpr")}
