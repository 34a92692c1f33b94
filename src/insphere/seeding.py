"""Randomness by name: one seed in, independent and explicit generators out. No global random state is read or set."""

import hashlib
import numbers

import numpy as np

from insphere.errors import ParameterError


def check_random_state(name: str, random_state: object) -> None:
    """Raise `ParameterError` where `resolve_seed` would; nothing is drawn.

    Examples
    --------
    >>> check_random_state("random_state", -5)
    Traceback (most recent call last):
    ...
    insphere.errors.ParameterError: `random_state` must be in [0, 2**31), got -5.
    """
    if not isinstance(random_state, np.random.RandomState | np.random.Generator):
        resolve_seed(random_state, name)


def resolve_seed(random_state: object, name: str = "random_state") -> int:
    """Return a seed in [0, 2**31) for what scikit-learn calls `random_state`.

    Parameters
    ----------
    random_state : None, int, numpy.random.RandomState or numpy.random.Generator
        None draws a fresh seed from the operating system; a generator is advanced by one draw.

    Raises
    ------
    ParameterError
        If it is a negative number or of another type.

    Examples
    --------
    >>> resolve_seed(7)
    7
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint32)[0] >> 1)
    if isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool):
        if 0 <= int(random_state) < 2**31:
            return int(random_state)
        raise ParameterError(f"`{name}` must be in [0, 2**31), got {random_state!r}.")
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(0, 2**31 - 1))
    raise ParameterError(f"`{name}` must be None, a whole number, a RandomState or a Generator, got {type(random_state).__name__}.")


def derive_seed(seed: int, purpose: str) -> int:
    """Return the seed in [0, 2**63) of the generator that serves `purpose`; different purposes never share a stream.

    Examples
    --------
    >>> derive_seed(0, "weights") == derive_seed(0, "batches")
    False
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the numpy generator that serves `purpose`.

    Examples
    --------
    >>> bool(generator(0, "split").random() == generator(0, "split").random())
    True
    """
    return np.random.default_rng(derive_seed(seed, purpose))
