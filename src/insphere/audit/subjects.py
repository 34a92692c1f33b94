"""Anybody's detector behind one face: how it is made, fitted, asked for scores and for decisions, and what its signs mean."""

import contextlib
import copy
import inspect
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.errors import MissingDependencyError, ParameterError
from insphere.extensions import imported
from insphere.runtime.sessions import session as graph_session
from insphere.signatures import check_file, required_key
from insphere.validation import check_choice

FloatArray = NDArray[np.float64]

HIGHER = ("auto", "anomalous", "normal")
"""What a higher score means; "auto" finds out by the family of the detector."""

SEEDS = ("random_state", "random_seed", "seed")
EPOCHS = ("epochs", "epoch_num", "n_epochs", "num_epochs", "max_epochs")
RATES = ("training__lr", "lr", "learning_rate")
STATED = ("target_fpr", "contamination", "nu")
"""Parameters by which detectors state the share of normal rows that they flag, or of training rows, which are normal here."""

_SCORE_OUTPUTS = ("anomaly_score", "scores", "score", "score_samples", "decision_function")
_STANDING_STILL = 1e-30  # a learning rate with which no weight changes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let nothing of what a detector says, or warns of, onto the streams: progress of others would be in our report."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Scorer:
    """A fitted detector, a function or a graph that gives scores, higher = more anomalous, and decisions where it has some.

    Parameters
    ----------
    model : object
        What was fitted.
    score : callable
        Gives a score for each row.
    decide : callable, optional
        Gives True for each row that is an anomaly.

    Examples
    --------
    >>> Scorer("norm", lambda X: (X**2).sum(axis=1)).scores(np.eye(2))
    array([1., 1.])
    """

    def __init__(
        self,
        model: Any,
        score: Callable[[NDArray[Any]], Any],
        decide: Callable[[NDArray[Any]], NDArray[np.bool_]] | None = None,
    ) -> None:
        self.model = model
        self._score = score
        self._decide = decide

    @property
    def decides(self) -> bool:
        """Whether there are decisions."""
        return self._decide is not None

    def scores(self, X: NDArray[Any]) -> FloatArray:
        """Return the scores of rows, float64, as many as it gives."""
        with quiet():
            return np.asarray(self._score(X), dtype=np.float64).reshape(-1)

    def flags(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which rows it calls anomalies."""
        if self._decide is None:
            raise ParameterError("this detector makes no decisions; ask `decides` first.")
        with quiet():
            return np.asarray(self._decide(X)).reshape(-1)


class Subject:
    """What is audited.

    Parameters
    ----------
    name : str
    make : callable, optional
        Returns an unfitted estimator for parameters; None where the subject is fitted already.
    fitted : Scorer, optional
        The subject where it is fitted already.
    higher : {"auto", "anomalous", "normal"}
    parameters : mapping, optional
        What the user set.
    images : bool
        Whether it takes images as they are; others get each as one row of numbers.

    Attributes
    ----------
    remarks : list of str
        What was taken to mean something, or set, by the audit.

    Examples
    --------
    >>> subject = subject_of("sklearn.ensemble:IsolationForest")
    >>> subject.trains, subject.stated
    (True, None)
    """

    def __init__(
        self,
        name: str,
        *,
        make: Callable[..., Any] | None = None,
        fitted: Scorer | None = None,
        higher: str = "auto",
        parameters: Mapping[str, Any] | None = None,
        images: bool = False,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.name, self.images, self.higher = name, images, higher
        self.remarks = list(remarks)
        self._make, self._fitted, self._parameters = make, fitted, dict(parameters or {})

    @property
    def trains(self) -> bool:
        """Whether the subject can be fitted."""
        return self._make is not None

    @property
    def fitted(self) -> Scorer:
        """The subject that is fitted already."""
        if self._fitted is None:
            raise ParameterError(f"{self.name} is not fitted.")
        return self._fitted

    @property
    def stated(self) -> float | None:
        """The share of normal rows that it says it flags; None where it doesn't say."""
        model = self.estimator() if self.trains else self.fitted.model
        if isinstance(model, AbstractDetector) and not self.trains:
            return model.decision_.promised_fpr
        known = parameters_of(model)
        for name in STATED:
            if isinstance(known.get(name), float) and 0 < known[name] < 1:
                return float(known[name])
        return None

    def estimator(self, n_features: int | None = None, **more: Any) -> Any:
        """Return the estimator, unfitted; a class that must be told the number of features is."""
        if self._make is None:
            raise ParameterError(f"{self.name} cannot be fitted.")
        chosen = self._parameters
        if "n_features" in required(self._make) and "n_features" not in chosen:
            chosen = chosen | {"n_features": 1 if n_features is None else n_features}
        # Through the constructor where it can be: some draw from their seed there.
        plain = {name: value for name, value in more.items() if takes(self._make, name)}
        with quiet():
            made = self._make(**(chosen | plain))
            for name, value in more.items():
                if name not in plain:
                    _set(made, name, value)
        return made

    def seeded(self, seed: int) -> dict[str, int]:
        """Return the parameter that takes a seed, with this one, where there is one and the user has not set it."""
        known = parameters_of(self.estimator())
        return next(({name: seed} for name in SEEDS if name in known and name not in self._parameters), {})

    def standing_still(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the ways to have it fitted without learning: what to call each, and the parameters to set."""
        known = parameters_of(self.estimator())
        epochs = next((name for name in EPOCHS if name in known), None)
        rate = next((name for name in RATES if name in known), None)
        ways = []
        if rate is not None and epochs is not None:
            ways.append((f"{rate.replace('__', '.')} {_STANDING_STILL:g}", {rate: _STANDING_STILL, epochs: 1}))
        if epochs is not None:
            ways.append((f"{epochs} 0", {epochs: 0}))
        return ways

    def fit(self, X: NDArray[Any], y: Any = None, **more: Any) -> Scorer:
        """Return the subject fitted on rows, with further parameters set."""
        model = self.estimator(n_features=int(np.prod(X.shape[1:])), **more)
        with quiet():
            # Some return nothing from `fit`, against all custom; the estimator is fitted all the same.
            model.fit(X) if y is None else model.fit(X, y)
        return self.scorer(model)

    def scorer(self, model: Any) -> Scorer:
        """Return a fitted estimator, or a copy of one, as what is asked for scores."""
        if isinstance(model, AbstractDetector):
            return Scorer(model, model.anomaly_score, lambda X: model.predict(X) == -1)
        name = next((name for name in ("anomaly_score", "decision_function", "score_samples") if callable(getattr(model, name, None))), "")
        if not name:
            raise ParameterError(
                f"{self.name} has none of the methods anomaly_score, decision_function and score_samples once it is fitted, so it cannot be"
                " asked for scores of new rows. (Of scikit-learn's LocalOutlierFactor: --set novelty=true.)"
            )
        ours = name == "anomaly_score"
        sign = self._sign(model, name)
        score = getattr(model, name)
        predict = getattr(model, "predict", None)
        codes = 1 if is_pyod(model) or ours else -1

        def decide(X: NDArray[Any]) -> NDArray[np.bool_]:
            answers = np.asarray(predict(X)).reshape(-1) if callable(predict) else np.zeros(0)
            flagged: NDArray[np.bool_] = (answers == -1) if (answers == -1).any() else answers == codes
            return flagged

        return Scorer(model, lambda X: sign * np.asarray(score(X), dtype=np.float64), decide if callable(predict) else None)

    def _sign(self, model: Any, method: str) -> int:
        if self.higher != "auto":
            return 1 if self.higher == "anomalous" else -1
        if method == "anomaly_score" or is_pyod(model):
            self._remark("a higher score is more anomalous, as in PyOD" if is_pyod(model) else "a higher anomaly_score is more anomalous")
            return 1
        if not isinstance(model, OutlierMixin):
            self._remark(f"a higher {method} is taken to be more normal, as in scikit-learn (--higher says otherwise)")
        else:
            self._remark(f"a higher {method} is more normal, as in scikit-learn")
        return -1

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


def subject_of(
    subject: Any,
    parameters: Mapping[str, Any] | None = None,
    *,
    higher: str = "auto",
    images: bool | None = None,
    require_signature: str | os.PathLike[str] | None = None,
) -> Subject:
    """Return what the user names as a subject.

    Parameters
    ----------
    subject : str, path, class, estimator or callable
        ``module:Class`` (or a function that makes an estimator, an estimator, or a function that scores rows), the name of one of
        insphere's detectors, the path of a model file or of an ONNX graph; or such an object itself.
    parameters : mapping, optional
        For the constructor.
    higher : {"auto", "anomalous", "normal"}
    images : bool, optional
        Whether images are handed on as they are. Default: to insphere's detectors and to graphs that take them.

    Raises
    ------
    ParameterError
        If it is not one of these.
    ModelFileError, MissingDependencyError
        If a file cannot be read.
    """
    check_choice("higher", higher, HIGHER)
    settings: dict[str, Any] = {"higher": higher, "parameters": parameters}
    if isinstance(subject, str | os.PathLike):
        text = os.fspath(subject)
        if text.endswith(".onnx"):
            return _graph(text, higher, required_key(require_signature))
        if os.path.isfile(text):
            detector = catalog.load(text, require_signature=require_signature)
            fitted = Scorer(detector, detector.anomaly_score, lambda X: detector.predict(X) == -1)
            return Subject(text, fitted=fitted, images=True)
        subject = _named(text)
        settings["name"] = text
    if isinstance(subject, type):
        return _subject(settings.pop("name", f"{subject.__module__}:{subject.__qualname__}"), subject, images, settings)
    if hasattr(subject, "fit"):
        name = settings.pop("name", type(subject).__qualname__)
        return _subject(name, lambda **chosen: _changed(subject, chosen), images, settings)
    if callable(subject):
        return _from_callable(settings.pop("name", getattr(subject, "__name__", "callable")), subject, images, settings)
    kind = type(subject).__name__
    raise ParameterError(f"A {kind} cannot be audited; give a class or object with `fit`, or a function that scores rows.")


def _named(text: str) -> Any:
    if text in catalog.DETECTORS or text in catalog.installed():
        return catalog.detector_class(text)
    if ":" not in text:
        catalog.detector_class(text)  # which says what there is
    return imported(text)


def _subject(name: str, make: Callable[..., Any], images: bool | None, settings: dict[str, Any]) -> Subject:
    ours = isinstance(make, type) and issubclass(make, AbstractDetector)
    subject = Subject(name, make=make, images=ours if images is None else images, **settings)
    model = subject.estimator()
    if isinstance(model, AbstractDetector) and images is None:
        subject.images = True
    return subject


def _from_callable(name: str, function: Callable[..., Any], images: bool | None, settings: dict[str, Any]) -> Subject:
    """Return a function as a subject: one that needs no argument makes an estimator, any other scores rows."""
    if not required(function):
        with quiet():
            made = function(**dict(settings["parameters"] or {}))
        if hasattr(made, "fit"):
            return _subject(name, function, images, settings)
    if settings["parameters"]:
        raise ParameterError(f"{name} is a function that scores rows, so it takes no parameters; drop --set.")
    sign = -1 if settings["higher"] == "normal" else 1
    remark = () if settings["higher"] != "auto" else ("a higher score is taken to be more anomalous (--higher says otherwise)",)
    return Subject(name, fitted=Scorer(function, lambda X: sign * np.asarray(function(X))), images=bool(images), remarks=remark)


def _graph(path: str, higher: str, key: Path | None) -> Subject:
    """Return an ONNX graph as a subject: insphere's own, or another with an output of one number a row."""
    if not Path(path).is_file():
        raise ParameterError(f"{path} does not exist; give the path of an ONNX graph.")
    try:
        session = graph_session(Path(path).read_bytes() if key is None else check_file(path, key))
    except ImportError as error:
        raise MissingDependencyError("A graph is run by ONNX Runtime, which isn't installed: pip install 'insphere[export]'.") from error
    entry, outputs = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    dtype = {"tensor(uint8)": np.uint8, "tensor(double)": np.float64}.get(entry.type, np.float32)
    score = next((name for name in _SCORE_OUTPUTS if name in outputs), outputs[-1])
    decision = next((name for name in ("is_anomaly", "label") if name in outputs), None)
    own = score == "anomaly_score"
    sign = -1 if higher == "normal" or (higher == "auto" and not own) else 1

    def ask(name: str, X: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(session.run([name], {entry.name: X.astype(dtype)})[0])

    def decide(X: NDArray[Any]) -> NDArray[np.bool_]:
        answers = ask(str(decision), X).reshape(-1)
        return answers if answers.dtype == bool else answers == -1

    remark = () if own else (f"the output {score!r} is taken as the score; {'more anomalous' if sign > 0 else 'more normal'} where higher",)
    scorer = Scorer(session, lambda X: sign * ask(score, X), None if decision is None else decide)
    return Subject(path, fitted=scorer, images=len(entry.shape) == 4, remarks=remark)


def is_pyod(model: Any) -> bool:
    """Return whether an estimator is of PyOD's family, whose scores rise with the anomaly and whose labels are 0 and 1."""
    return hasattr(model, "decision_scores_") or any(base.__module__.partition(".")[0] == "pyod" for base in type(model).__mro__)


def parameters_of(model: Any) -> dict[str, Any]:
    """Return the parameters of an estimator by name; {} of what has none."""
    if not hasattr(model, "get_params"):
        return {}
    try:
        return dict(model.get_params(deep=True))
    except Exception:  # estimators of others fail in ways of their own here
        return {}


def required(function: Callable[..., Any]) -> set[str]:
    """Return the names of the arguments that a callable must be given.

    Examples
    --------
    >>> required(lambda a, b=1, *more, **others: None)
    {'a'}
    """
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {argument.name for argument in given if argument.default is inspect.Parameter.empty and argument.kind in named}


def takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a callable takes an argument of this name.

    Examples
    --------
    >>> takes(lambda a: None, "a"), takes(lambda a: None, "b"), takes(lambda **others: None, "b")
    (True, False, True)
    """
    try:
        given = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in given or ("__" not in name and any(one.kind is inspect.Parameter.VAR_KEYWORD for one in given.values()))


def _changed(model: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a copy of an estimator, which the user gave, with parameters set."""
    made = copy.deepcopy(model)
    for name, value in parameters.items():
        _set(made, name, value)
    return made


def _set(model: Any, name: str, value: Any) -> None:
    if hasattr(model, "set_params"):
        model.set_params(**{name: value})
    else:
        setattr(model, name, value)
