"""Detectors that each have one fault, and one that has none: distance to the mean of the training rows, in units of their spread."""

import sys

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin


class Sound(OutlierMixin, BaseEstimator):
    """The score is higher for normal rows, as in scikit-learn; five percent of the training rows are flagged."""

    def __init__(self, contamination=0.05, random_state=None):
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X, y=None):
        self.mean_, self.scale_ = X.mean(axis=0), X.std(axis=0) + 1e-9
        self.offset_ = np.quantile(self.score_samples(X), self.contamination)
        return self

    def score_samples(self, X):
        return -np.sqrt((((X - self.mean_) / self.scale_) ** 2).sum(axis=1))

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        return np.where(self.decision_function(X) >= 0, 1, -1)


class Constant(Sound):
    def score_samples(self, X):
        return np.zeros(len(X))


class NotANumber(Sound):
    def score_samples(self, X):
        return np.where((np.arange(len(X)) == 3) & hasattr(self, "offset_"), np.nan, super().score_samples(X))


class TooFewScores(Sound):
    def score_samples(self, X):
        return super().score_samples(X)[1:]


class Coarse(Sound):
    def score_samples(self, X):
        return np.minimum(np.round(super().score_samples(X) / 3), -1)


class NeverTrained(Sound):
    """Scores by fixed rows, whatever it is fitted on."""

    def fit(self, X, y=None):
        self.mean_, self.scale_, self.offset_ = np.full(X.shape[1], 0.3), 1.0, -3.0
        return self


class EpochsWithoutEffect(Sound):
    """Has epochs, of which none changes anything: the centre is a first guess from two rows."""

    def __init__(self, contamination=0.05, random_state=None, epochs=10):
        super().__init__(contamination, random_state)
        self.epochs = epochs


class Learning(EpochsWithoutEffect):
    """Moves its centre to the mean, a half of the way an epoch; without one, it stays far out."""

    def fit(self, X, y=None):
        self.scale_ = X.std(axis=0) + 1e-9
        start = X.mean(axis=0) + np.linspace(-8, 8, X.shape[1])
        self.mean_ = X.mean(axis=0) + (start - X.mean(axis=0)) * 0.5**self.epochs
        self.offset_ = np.quantile(self.score_samples(X), self.contamination)
        return self


class Unseeded(Sound):
    """Looks at random features, drawn from a generator that its random_state doesn't reach."""

    def fit(self, X, y=None):
        super().fit(X)
        self.scale_ = self.scale_ * np.random.default_rng().uniform(0.2, 5, X.shape[1])
        self.offset_ = np.quantile(self.score_samples(X), self.contamination)
        return self


class Dicing(Sound):
    def score_samples(self, X):
        return super().score_samples(X) + np.random.default_rng().normal(size=len(X)) * 0.1


class OfTheBatch(Sound):
    """Scales scores by those of the batch."""

    def score_samples(self, X):
        scores = super().score_samples(X)
        return scores / np.abs(scores).max()


class PredictsByTheBatch(Sound):
    """Scores stand still, but the fifth part of each batch is flagged."""

    def predict(self, X):
        scores = self.score_samples(X)
        return np.where(scores > np.quantile(scores, 0.2), 1, -1)


class NotAlone(Sound):
    def score_samples(self, X):
        if len(X) < 2:
            raise ValueError("needs two rows")
        return super().score_samples(X)


class OfTheOrder(Sound):
    """Adds a drift along the rows that starts anew every hundred."""

    def score_samples(self, X):
        return super().score_samples(X) - 0.05 * (np.arange(len(X)) > 40)


class LearnsWhileScoring(Sound):
    """Moves its mean a little towards what it scores, when that is two hundred rows, as the other rows of an audit's check are."""

    def score_samples(self, X):
        scores = super().score_samples(X)
        if len(X) == 200:
            self.mean_ = 0.9 * self.mean_ + 0.1 * X.mean(axis=0)
        return scores


class ChangesItsInput(Sound):
    def fit(self, X, y=None):
        super().fit(X)
        X -= self.mean_
        return self


class ReadsLabels(Sound):
    def fit(self, X, y=None):
        return super().fit(X if y is None else X[np.asarray(y) == 0])


class ForgetsInCopies(Sound):
    def __getstate__(self):
        return {**self.__dict__, "scale_": 1.0}


class FlagsTooMany(Sound):
    def fit(self, X, y=None):
        super().fit(X)
        self.offset_ = np.quantile(self.score_samples(X), 0.5)
        return self


class FlagsNone(Sound):
    def fit(self, X, y=None):
        super().fit(X)
        self.offset_ = -1e9
        return self


class Reversed(Sound):
    def score_samples(self, X):
        return -super().score_samples(X)


class Raises(Sound):
    def fit(self, X, y=None):
        raise RuntimeError("no memory left on the device\nand a long story")


class NoScores(BaseEstimator):
    def fit(self, X, y=None):
        return self


class LikePyOD:
    """PyOD's ways without its package: scores rise with the anomaly, labels are 0 and 1; it must be told the number of features."""

    def __init__(self, n_features, contamination=0.05):
        self.n_features, self.contamination = n_features, contamination

    def fit(self, X, y=None):
        assert X.shape[1] == self.n_features
        sys.stdout.write("epoch 1")
        self.mean_ = X.mean(axis=0)
        self.decision_scores_ = self.decision_function(X)
        self.threshold_ = np.quantile(self.decision_scores_, 1 - self.contamination)

    def decision_function(self, X):
        return np.sqrt(((X - self.mean_) ** 2).sum(axis=1))

    def predict(self, X):
        return (self.decision_function(X) > self.threshold_).astype(int)


def made():
    """Makes an estimator, as a function that is named may."""
    return Sound(contamination=0.2)


def norm(X):
    """Scores rows itself."""
    return np.sqrt((X**2).sum(axis=1))
