"""Damaged input for every reader, a few of each: read, or refused in words. The long run is ``make fuzz``."""

from collections.abc import Iterator

import numpy as np
import pytest

from faults.fuzz import Fuzz, changed, outcome

pytest.importorskip("fastapi", reason="the extra insphere[serve] is not installed")

N_INPUTS = 25


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    made = Fuzz(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


def test_damaged_input_is_read_or_refused_in_words(fuzz: Fuzz) -> None:
    rng, bad, refused = np.random.default_rng(0), [], 0
    for name, (reader, good) in fuzz.readers.items():
        for number in range(N_INPUTS):
            data = changed(good[number % len(good)], rng)
            how, text = outcome(reader, data)
            refused += how == "refused"
            if how == "bad":
                bad.append(f"{name}: {data[:200]!r}: {text}")
    assert not bad, bad[0]
    assert refused > N_INPUTS  # the damage is damage


def test_a_reader_that_breaks_is_found() -> None:
    assert outcome(lambda data: [][1], b"")[0] == "bad"
