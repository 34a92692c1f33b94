"""What is attacked and how it is measured: the section ``[attack]`` of a plan."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from insphere.benchmark.run.run import PlannedRun
from insphere.data.datasets import parse_name
from insphere.errors import ParameterError, did_you_mean
from insphere.validation import check_integer

ATTACKS = ("classifier", "evasion", "false-alarm")
"""Names of the attacks, see `run_attack_benchmark`; the last two use the detector's own gradient."""

PlannedRunType = TypeVar("PlannedRunType", bound=PlannedRun)


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """What is attacked, how strongly, and how it is measured.

    Parameters
    ----------
    dataset, normal_class : str
        Named data set, and the class that detectors learn and whose test images are attacked.
    epsilons : tuple of int
        Strengths, in pixel levels: 8 is an epsilon of 8/255.
    n_attacked : int
        Attacked images in one test set, beside all clean test images of the class.
    n_draws : int
        Test sets that are drawn.
    classifier_epochs : int
        Passes over all training images for the attacked network.
    methods : tuple of str
        Methods to take part, by the plan's names; none for all that run on the data set.
    seed : int
        Seed of the attacked network and of the draws: all detectors meet the same test sets.

    Examples
    --------
    >>> AttackSettings("digits", "3", epsilons=(8,)).n_attacked
    20
    """

    dataset: str
    normal_class: str
    epsilons: tuple[int, ...] = (2, 4, 8, 16, 32)
    n_attacked: int = 20
    n_draws: int = 1000
    classifier_epochs: int = 12
    methods: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, str) or not isinstance(self.normal_class, str):
            raise ParameterError(f"`dataset` and `normal_class` must be texts, got {self.dataset!r} and {self.normal_class!r}.")
        parse_name(f"{self.dataset}:{self.normal_class}")
        if isinstance(self.epsilons, str) or not isinstance(self.epsilons, Sequence) or not self.epsilons:
            raise ParameterError(f"`epsilons` must be a list of pixel levels, at least one, got {self.epsilons!r}.")
        levels = tuple(check_integer("epsilons", level, at_least=1, at_most=255) for level in self.epsilons)
        if len(set(levels)) < len(levels):
            raise ParameterError(f"`epsilons` must name no strength twice, got {self.epsilons!r}.")
        object.__setattr__(self, "epsilons", levels)
        if not isinstance(self.methods, list | tuple) or not all(isinstance(name, str) for name in self.methods):
            raise ParameterError(f"`methods` must be a list of names, got {self.methods!r}.")
        object.__setattr__(self, "methods", tuple(self.methods))
        for name in ("n_attacked", "n_draws", "classifier_epochs"):
            check_integer(name, getattr(self, name), at_least=1, at_most=1_000_000)
        check_integer("seed", self.seed, at_least=0)

    @classmethod
    def from_mapping(cls, section: Mapping[str, Any]) -> "AttackSettings":
        """Return the settings that a section of a plan says.

        Raises
        ------
        ParameterError
            If a name is unknown or missing, or a value breaks its rule.

        Examples
        --------
        >>> AttackSettings.from_mapping({"dataset": "digits", "normal_class": "3", "epsilon": [8]})
        Traceback (most recent call last):
        ...
        insphere.errors.ParameterError: [attack] has no entry 'epsilon'; it may have dataset, ... Did you mean 'epsilons'?
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in section:
            if name not in known:
                raise ParameterError(f"[attack] has no entry {name!r}; it may have {', '.join(known)}.{did_you_mean(name, known)}")
        for name in ("dataset", "normal_class"):
            if name not in section:
                raise ParameterError(f"[attack] must have `{name}`.")
        return cls(**section)

    def choose(self, runs: Iterable[PlannedRunType]) -> list[PlannedRunType]:
        """Return the runs of a plan that take part: those of the data set and class, and of the methods where any are named.

        Raises
        ------
        ParameterError
            If a named method has no run there, or there is none at all.
        """
        here = [run for run in runs if (run.dataset, run.normal_class) == (self.dataset, self.normal_class)]
        known = {run.method for run in here}
        for name in self.methods:
            if name not in known:
                listed = ", ".join(sorted(known)) or "no other either"
                raise ParameterError(
                    f"[attack] names the method {name!r}, which does not run on {self.dataset} {self.normal_class}; there is {listed}."
                    f"{did_you_mean(name, known)}"
                )
        if not here:
            raise ParameterError(f"[attack] is about {self.dataset} {self.normal_class}, on which no method of the plan runs.")
        return [run for run in here if not self.methods or run.method in self.methods]

    def quick(self) -> "AttackSettings":
        """Return the same with two strengths, a classifier trained for a quarter of the epochs, and at most 200 draws."""
        levels = tuple(dict.fromkeys((self.epsilons[len(self.epsilons) // 2], self.epsilons[-1])))
        epochs, n_draws = max(1, self.classifier_epochs // 4), min(200, self.n_draws)
        return dataclasses.replace(self, epsilons=levels, classifier_epochs=epochs, n_draws=n_draws)
