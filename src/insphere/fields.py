"""Rules of parameters, declared once: the annotation of a dataclass's field says what it takes, and checks and lists are read from it.

``Literal["a", "b"]`` is a choice; ``Annotated[float, Within(above=0)]`` a number with a range; a `Declared` record, or a mapping of some of
its fields, is nested; ``| None`` allows None. What no type says is `Checked` by a function.
"""

import dataclasses
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

from insphere.errors import ParameterError, did_you_mean
from insphere.validation import Within, check_choice, check_integer, check_number, listed, plain

Positive = Annotated[float, Within(above=0)]
NotNegative = Annotated[float, Within(at_least=0)]
Share = Annotated[float, Within(above=0, at_most=1)]
"""A part of the whole, which may be all of it."""
OpenShare = Annotated[float, Within(above=0, below=1)]
"""A part of the whole, neither none nor all of it."""
AtLeastOne = Annotated[int, Within(at_least=1)]
AtLeastTwo = Annotated[int, Within(at_least=2)]
Count = Annotated[int, Within(at_least=0)]
Size = Annotated[int, Within(at_least=1, at_most=100_000)]
"""A number of epochs or of dimensions."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """The rule of a field whose type says too little: a function of name and value that raises `ParameterError`, and the type in words."""

    check: Callable[[str, Any], object]
    type: str


@dataclasses.dataclass(frozen=True)
class Length:
    """How many entries a sequence may have."""

    at_least: int
    at_most: int

    def __str__(self) -> str:
        """Return the number in words."""
        return f"{self.at_least} to {self.at_most}" if self.at_least < self.at_most else str(self.at_least)


class Rule(ABC):
    """What one field takes.

    Attributes
    ----------
    type : str
        In the words of docstrings: "float", '{"mean", "zero"}'.
    words : str
        In those of errors: "a finite number above 0".
    range : str
        Bounds in words, empty where there are none.
    choices : tuple of str
        Words that may be chosen from; empty where there are none.
    """

    type: str
    words: str
    range: str = ""
    choices: tuple[str, ...] = ()

    @abstractmethod
    def check(self, name: str, value: Any, also: str = "") -> Any:
        """Return the value as Python's own kind; raise `ParameterError` where it breaks the rule.

        `also` is said in the error of what else may be given: ", or None".
        """

    def parts(self) -> Sequence["Rule"]:
        """Return the rules that this one is made of: itself, or those of which one must hold."""
        return (self,)

    def nested(self) -> "NestedRule | None":
        """Return the rule of the record that the field takes, if it takes one."""
        return next((rule for rule in self.parts() if isinstance(rule, NestedRule)), None)


class ChoiceRule(Rule):
    """One of some words."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices
        quoted = ", ".join(f'"{choice}"' for choice in choices)
        self.type = f"{{{quoted}}}"
        self.words = ", ".join(repr(choice) for choice in choices)

    def check(self, name: str, value: Any, also: str = "") -> str:
        return check_choice(name, value, self.choices, also=also)


class NumberRule(Rule):
    """A finite number, or a whole one, within bounds."""

    def __init__(self, within: Within, *, whole: bool) -> None:
        self.within, self.whole, self.range = within, whole, str(within)
        self.type = "int" if whole else "float"
        self.words = within.of("a whole number" if whole else "a finite number")

    def check(self, name: str, value: Any, also: str = "") -> float:
        return (check_integer if self.whole else check_number)(name, value, self.within, also=also)


class TypeRule(Rule):
    """A value of one type of Python."""

    def __init__(self, of: type, name: str, words: str) -> None:
        self.of, self.type, self.words = of, name, words

    def check(self, name: str, value: Any, also: str = "") -> Any:
        if not isinstance(value, self.of):
            raise ParameterError(f"`{name}` must be {self.words}{also}, got {value!r}.")
        return value


class ItemsRule(Rule):
    """A sequence, or an array or column of one dimension, each entry of which keeps a rule."""

    def __init__(self, of: Rule, length: Length | None) -> None:
        self.of, self.length, self.range = of, length, of.range
        self.type = f"sequence of {of.type}"
        self.words = f"a list of {'' if length is None else f'{length} '}entries, each {of.words}"

    def check(self, name: str, value: Any, also: str = "") -> tuple[Any, ...]:
        value = listed(value)
        fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not fits or (self.length is not None and not self.length.at_least <= len(value) <= self.length.at_most):
            raise ParameterError(f"`{name}` must be {self.words}{also}, got {value!r}.")
        return tuple(self.of.check(f"{name}[{position}]", entry) for position, entry in enumerate(value))


class NestedRule(Rule):
    """A record, or a mapping of those of its fields that differ from the default."""

    def __init__(self, record: "type[Declared]") -> None:
        self.record, self.type = record, f"{record.__name__} or mapping"
        self.words = f"a mapping or a {record.__name__}"

    def check(self, name: str, value: Any, also: str = "") -> Any:
        if isinstance(value, self.record):
            return value
        if not isinstance(value, Mapping):
            raise ParameterError(f"`{name}` must be {self.words}{also}, got {value!r}.")
        rules, known = rules_of(self.record), [field.name for field in dataclasses.fields(self.record) if field.init]
        checked = {}
        for key, entry in ((str(key), entry) for key, entry in value.items()):
            if key not in known:
                raise ParameterError(f"`{name}` has no field {key!r}; its fields are {', '.join(known)}.{did_you_mean(key, known)}")
            checked[key] = rules[key].check(f"{name}.{key}", plain(entry)) if key in rules else plain(entry)
        return checked


class CheckedRule(Rule):
    """What a function checks."""

    def __init__(self, checked: Checked) -> None:
        self.function, self.type, self.words = checked.check, checked.type, checked.type

    def check(self, name: str, value: Any, also: str = "") -> Any:
        self.function(name, value)
        return value


class EitherRule(Rule):
    """One of several rules, or None."""

    def __init__(self, rules: Sequence[Rule], *, none: bool) -> None:
        self.rules, self.none = tuple(rules), none
        self.type = " or ".join(rule.type for rule in rules) + (", optional" if none else "")
        self.words = " or ".join(rule.words for rule in rules)
        self.range = ", ".join(rule.range for rule in rules if rule.range)
        self.choices = tuple(choice for rule in rules for choice in rule.choices)

    def parts(self) -> Sequence[Rule]:
        return self.rules

    def check(self, name: str, value: Any, also: str = "") -> Any:
        if value is None and self.none:
            return None
        also += ", or None" if self.none else ""
        if len(self.rules) == 1:
            return self.rules[0].check(name, value, also)
        nested = self.nested()
        if nested is not None and isinstance(value, Mapping):
            return nested.check(name, value, also)
        for rule in self.rules:
            try:
                return rule.check(name, value)
            except ParameterError:
                continue
        hint = did_you_mean(value, self.choices) if isinstance(value, str) else ""
        raise ParameterError(f"`{name}` must be {self.words}{also}, got {value!r}.{hint}")


@dataclasses.dataclass(frozen=True)
class Declared:
    """A record of options: a frozen dataclass whose fields are checked by their declared rules when it is made.

    Raises
    ------
    ParameterError
        If a field breaks its rule.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Speed(Declared):
    ...     limit: Positive = 1.0
    >>> Speed(limit=0)
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: `limit` must be a finite number above 0, got 0.
    """

    def __post_init__(self) -> None:
        for name, rule in rules_of(type(self)).items():
            # Stored as built-in numbers, because the record goes into the JSON of the model file.
            object.__setattr__(self, name, rule.check(name, plain(getattr(self, name))))
        self._check_together()

    def _check_together(self) -> None:
        """Check what no single field says; a subclass has what is to be checked."""


Record = TypeVar("Record", bound=Declared)


def rule_of(annotation: Any) -> Rule | None:
    """Return the rule that an annotation declares, or None where it declares none.

    Examples
    --------
    >>> rule_of(Literal["mean", "zero"]).words, rule_of(Share | None).type
    ("'mean', 'zero'", 'float, optional')
    """
    notes: Sequence[Any] = ()
    if typing.get_origin(annotation) is Annotated:
        annotation, *notes = typing.get_args(annotation)
    checked = _first(notes, Checked)
    if checked is not None:
        return CheckedRule(checked)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _either(arguments)
    if origin is Literal:
        return ChoiceRule(arguments)
    if annotation in (int, float):
        return NumberRule(_first(notes, Within) or Within(), whole=annotation is int)
    if annotation in _TYPES:
        return TypeRule(annotation, *_TYPES[annotation])
    if origin is Mapping:
        return TypeRule(origin, "mapping", "a mapping")
    if origin in (Sequence, tuple, list):
        return _items(arguments, _first(notes, Length))
    return NestedRule(annotation) if isinstance(annotation, type) and issubclass(annotation, Declared) else None


def rules_of(kind: type) -> Mapping[str, Rule]:
    """Return the rule of each field of a dataclass that declares one, by the field's name.

    Examples
    --------
    >>> @dataclasses.dataclass
    ... class Both:
    ...     share: Share = 0.5
    ...     anything: Any = None
    >>> list(rules_of(Both))
    ['share']
    """
    if kind not in _RULES:
        annotations = typing.get_type_hints(kind, include_extras=True)
        rules = {field.name: rule_of(annotations[field.name]) for field in dataclasses.fields(kind) if field.init}
        _RULES[kind] = types.MappingProxyType({name: rule for name, rule in rules.items() if rule is not None})
    return _RULES[kind]


def check_fields(instance: Any, prefix: str = "") -> None:
    """Check every declared field of a dataclass's instance, without changing it; `prefix` stands before the names in errors.

    Raises
    ------
    ParameterError
        If one breaks its rule; those of nested records are named with a dot.
    """
    for name, rule in rules_of(type(instance)).items():
        rule.check(prefix + name, plain(getattr(instance, name)))


def as_record(name: str, value: object, record: type[Record], default: Record | None = None) -> Record:
    """Return `value` as an instance of `record`: None gives `default`, a mapping changes fields of it.

    Without a `default` it is the record as its own defaults have it.

    Raises
    ------
    ParameterError
        If a field is unknown or breaks its rule, or `value` is of another type.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Speed(Declared):
    ...     limit: Positive = 1.0
    >>> as_record("speed", {"limit": 2.0}, Speed)
    Speed(limit=2.0)
    """
    default = record() if default is None else default
    if value is None:
        return default
    checked = NestedRule(record).check(name, value, ", or None")
    return checked if isinstance(checked, record) else dataclasses.replace(default, **checked)


_RULES: dict[type, Mapping[str, Rule]] = {}  # of the classes that were asked for

_TYPES = {bool: ("bool", "True or False"), str: ("str", "a text")}

Note = TypeVar("Note")


def _first(notes: Sequence[Any], kind: type[Note]) -> Note | None:
    return next((note for note in notes if isinstance(note, kind)), None)


def _either(arguments: Sequence[Any]) -> Rule | None:
    """Return the rule of a union: a mapping beside a record is a part of that record."""
    parts = [rule_of(argument) for argument in arguments if argument is not type(None)]
    if any(isinstance(part, NestedRule) for part in parts):
        parts = [part for part in parts if not (isinstance(part, TypeRule) and part.of is Mapping)]
    rules = [part for part in parts if part is not None]
    return EitherRule(rules, none=type(None) in arguments) if len(rules) == len(parts) else None


def _items(arguments: Sequence[Any], length: Length | None) -> Rule | None:
    """Return the rule of a sequence, or of a tuple of as many entries as are declared, all of one kind."""
    kinds = [argument for argument in arguments if argument is not Ellipsis]
    if len(set(kinds)) != 1:
        return None
    if len(kinds) > 1:
        length = Length(len(kinds), len(kinds))
    rule = rule_of(kinds[0])
    return None if rule is None else ItemsRule(rule, length)
