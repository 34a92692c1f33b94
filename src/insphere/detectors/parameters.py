"""How a detector's parameters are named, given and changed: scikit-learn's ways, nested option records included."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Self

from sklearn.base import BaseEstimator

from insphere.errors import ParameterError, UnknownParameterError, did_you_mean
from insphere.fields import as_record, rules_of
from insphere.validation import plain

_SHARE = "target_fpr (--target-fpr), the share of normal rows that may be flagged (or trim, where the training rows hold anomalies)"

ELSEWHERE = {
    "contamination": _SHARE,
    "outlier_fraction": _SHARE,
    "threshold": "target_fpr (--target-fpr): the threshold follows from the share of normal rows that may be flagged",
    "quantile": "target_fpr (--target-fpr), the share of normal rows that may be flagged",
    "seed": "random_state",
    "random_seed": "random_state",
    "lr": "training={'lr': ...} (--set training.lr=...)",
    "learning_rate": "training={'lr': ...} (--set training.lr=...)",
    "batch_size": "training={'batch_size': ...} (--set training.batch_size=...)",
    "optimizer": "training={'optimizer': ...} (--set training.optimizer=...)",
    "weight_decay": "training={'weight_decay': ...} (--set training.weight_decay=...)",
    "precision": "training={'precision': ...} (--set training.precision=...)",
    "n_epochs": "epochs",
    "epoch_num": "epochs",
    "max_iter": "epochs",
    "k": "n_neighbors",
    "n_trees": "n_estimators",
    "hidden_neurons": "network={'widths': [...]}",
    "preprocessing": "scaling",
    "n_jobs": "the environment variable OMP_NUM_THREADS, or torch.set_num_threads",
    "gpu": "device='cuda' (--device cuda)",
    "verbose": "on_epoch, an argument of fit",
}
"""Names that users of other libraries know, and what they are here."""

_OUTSIDE = frozenset({"n_jobs", "verbose"})  # of these what is meant is not a parameter


class ParameterisedEstimator(BaseEstimator):  # type: ignore[misc]
    """What every detector does with its parameters, besides checking their values."""

    def __new__(cls, *args: object, **parameters: object) -> Self:
        """Refuse parameters that the class does not have, before the constructor would in fewer words."""
        known = cls._get_param_names()
        for name in parameters:
            if name not in known:
                raise UnknownParameterError(unknown_parameter(cls.__name__, name, known))
        made: Self = super().__new__(cls)
        return made

    def _record_defaults(self) -> dict[str, Any]:
        """Return the record of options that each nested parameter changes fields of; a subclass adds its own."""
        return {}

    def _record(self, name: str) -> Any:
        """Return the nested parameter called `name` as the record that it stands for.

        Raises
        ------
        ParameterError
            If a field is unknown, or its value breaks its rule.
        """
        default = self._record_defaults()[name]
        return as_record(name, getattr(self, name), type(default), default)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; with `deep` also the fields of nested ones, as ``training__lr``."""
        parameters: dict[str, Any] = super().get_params(deep=deep)
        if not deep:
            return parameters
        fields: dict[str, Any] = {}
        for name, default in self._record_defaults().items():
            try:
                record = self._record(name)
            except ParameterError:  # a setting that fit will refuse: what can be set is known all the same
                record = default
            fields |= {f"{name}__{field.name}": getattr(record, field.name) for field in dataclasses.fields(record) if field.init}
        return fields | parameters

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters by name, the fields of nested ones as ``training__lr=0.001``.

        Raises
        ------
        UnknownParameterError
            If there is none of a name.
        """
        records, known = self._record_defaults(), self.get_params(deep=True)
        nested: dict[str, dict[str, Any]] = {}
        for name in [name for name in parameters if name.partition("__")[0] in records and "__" in name]:
            if name not in known:
                raise UnknownParameterError(unknown_parameter(type(self).__name__, name, known))
            record, _, field = name.partition("__")
            nested.setdefault(record, {})[field] = parameters.pop(name)
        for name in parameters:
            if name not in known:
                raise UnknownParameterError(unknown_parameter(type(self).__name__, name, known))
        super().set_params(**parameters)
        for name, changes in nested.items():
            given = getattr(self, name)
            held = given if isinstance(given, Mapping | None) else dataclasses.asdict(given)
            setattr(self, name, {**(held or {}), **changes})
        return self


def unknown_parameter(owner: str, name: str, known: Any) -> str:
    """Return the message for a parameter that is not there: what it is called here, or what there is.

    Examples
    --------
    >>> unknown_parameter("knn", "contamination", ["n_neighbors", "target_fpr", "trim"])[:61]
    "knn has no parameter 'contamination'; what you look for is ta"
    """
    meant = ELSEWHERE.get(name)
    # A detector without networks has no training: what is meant must be there.
    if meant is not None and (re.split(r"[,:= ]", meant)[0] in known or name in _OUTSIDE):
        return f"{owner} has no parameter {name!r}; what you look for is {meant}."
    listed = ", ".join(entry for entry in known if "__" not in entry)
    return f"{owner} has no parameter {name!r}; it has {listed}.{did_you_mean(name, known)}"


def described(kind: "type[ParameterisedEstimator]") -> list[dict[str, Any]]:
    """Return what there is to know of each parameter of a detector's class, and of each field of nested ones, which are named with a dot.

    Returns
    -------
    list of dict
        ``name``; ``type``, ``choices`` and ``range`` of the field's declaration (see `insphere.fields`); ``default``; and ``meaning`` of
        the docstring, of the class itself or the nearest of its bases that tells it.
    """
    entries = []
    for field in dataclasses.fields(kind):
        entries.append(_entry(kind, field.name, plain(field.default)))
        rule = rules_of(kind).get(field.name)
        nested = None if rule is None else rule.nested()
        if nested is not None:
            record = kind()._record_defaults().get(field.name) or nested.record()
            for own in dataclasses.fields(record):
                entry = _entry(type(record), own.name, plain(getattr(record, own.name)))
                entries.append(entry | {"name": f"{field.name}.{own.name}"})
    return entries


def _entry(kind: type, name: str, default: object) -> dict[str, Any]:
    rule, (told, meaning) = rules_of(kind).get(name), _told_of(kind).get(name, ("", ""))
    declared = (told, (), "") if rule is None else (rule.type, rule.choices, rule.range)
    of_type, choices, bounds = declared
    return {"name": name, "type": of_type, "choices": list(choices), "range": bounds, "default": default, "meaning": meaning}


def _told_of(kind: type) -> dict[str, tuple[str, str]]:
    """Return what the class says of its parameters, and its bases of those that it does not tell."""
    told: dict[str, tuple[str, str]] = {}
    for base in reversed(kind.__mro__):
        told |= _told(base.__doc__)
    return told


def _told(docstring: str | None) -> dict[str, tuple[str, str]]:
    """Return type and meaning of each entry of a docstring's section on parameters, but for those that refer elsewhere."""
    section = re.search(r"\n( *)Parameters\n *-+\n(.*?)(?=\n\n\1\w|\n\1\w+\n\1-|\Z)", docstring or "", flags=re.DOTALL)
    found: dict[str, tuple[str, str]] = {}
    if section is None:
        return found
    entry = re.compile(rf"^{section[1]}(\w[\w, ]*?) : (.+?)\n((?:{section[1]}    .*(?:\n|\Z))*)", flags=re.MULTILINE)
    for names, of_type, text in entry.findall(section[2] + "\n"):
        meaning = " ".join(text.split())
        if meaning and not meaning.startswith("See `"):
            found |= {name.strip(): (of_type, meaning) for name in names.split(",")}
    return found
