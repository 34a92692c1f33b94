"""What a fitted detector shows of its two records, and scikit-learn's view of its scores: the only place where their sign turns."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import ImageSpec
from insphere.decision.calibration import ConformalCalibration
from insphere.decision.decision import Decision
from insphere.detectors.inputs import InputContract


class FittedViews(ABC):
    """Attributes of a fitted detector that are read from ``decision_`` and ``input_``, where each fact stands once."""

    decision_: Decision
    input_: InputContract

    @abstractmethod
    def anomaly_score(self, X: Any) -> NDArray[np.float64]:
        """Return the anomaly score of each row, float64, shape (n,), higher = more anomalous."""

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return ``-anomaly_score(X)``: scikit-learn's convention, higher = more normal."""
        return -self.anomaly_score(X)

    @abstractmethod
    def _judged(self, X: Any, categories: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return score, p-value and threshold of each row, NaN where it has none."""

    def decision_function(self, X: Any, *, categories: Any = None) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for anomalies.

        With categories, the threshold is that of the row's own one.
        """
        if categories is None and getattr(getattr(self, "decision_", None), "categories", None) is None:
            samples: NDArray[np.float64] = self.score_samples(X) - self.offset_
            return samples
        scores, _, thresholds = self._judged(X, categories)
        return np.asarray(thresholds - scores)

    def predict(self, X: Any, *, categories: Any = None) -> NDArray[np.int64]:
        """Return +1 for normal rows and -1 for anomalies; an unreadable row counts as an anomaly.

        `categories` says which camera, product or shift each row is from, where the detector is calibrated by category.
        """
        return np.where(self.decision_function(X, categories=categories) >= 0, 1, -1)

    @property
    def threshold_(self) -> float:
        """Scores above it are anomalies; `decision_` says what it comes from."""
        return self.decision_.threshold

    @property
    def offset_(self) -> float:
        """Minus the threshold: scikit-learn's convention for scores of which higher is more normal."""
        return -self.decision_.threshold

    @property
    def radius_(self) -> float:
        """The paper's R*: quantile of the training scores."""
        return self.decision_.radius

    @property
    def conformal_(self) -> ConformalCalibration:
        """Scores of normal rows that the model was not fitted on."""
        return self.decision_.calibration

    @property
    def input_shape_(self) -> tuple[int, ...]:
        """Shape of one row as the model gets it: (features,), with one more for each that may be missing, or (height, width, channels)."""
        return self.input_.model_shape

    @property
    def image_spec_(self) -> ImageSpec | None:
        """What image files are brought to; None for vectors."""
        return self.input_.image

    @property
    def from_files_(self) -> bool:
        """Whether the detector was fitted on image files."""
        return self.input_.from_files

    @property
    def feature_names_(self) -> list[str] | None:
        """Names of the features, in the order of the model's input; None where they had none."""
        names = self.input_.model_names
        return None if names is None else list(names)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the features as scikit-learn has them; there where the features had names."""
        names = self.input_.table.feature_names
        if names is None:
            raise AttributeError("The detector was fitted on features without names, so it has no `feature_names_in_`.")
        return np.array(names, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Number of features; there where rows are vectors."""
        if self.input_.image is not None:
            raise AttributeError("The detector was fitted on images, so it has no `n_features_in_`.")
        return self.input_.shape[0]
