"""What is attacked and how it is measured: the section ``[attack]`` of a plan."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from insphere.data.datasets import parse_name
from insphere.errors import ParameterError, did_you_mean
from insphere.validation import check_integer

ATTACKS = ("classifier", "evasion", "false-alarm")
"""Names of the attacks, see `run_attack_benchmark`; the last two use the detector's own gradient."""


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
