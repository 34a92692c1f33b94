"""Fixtures that several rooms' tests share."""

import logging
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The tests that everyone runs are the same every time, on a slow machine too; `make campaign` looks further, elsewhere each time.
settings.register_profile("default", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("campaign", settings.get_profile("default"), derandomize=False, max_examples=1000, print_blob=True)
PROFILE = os.environ.get("INSPHERE_TEST_PROFILE", "default")
settings.load_profile(PROFILE)

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded, and no test waits for a network
os.environ["INSPHERE_CACHE"] = "off"  # no test depends on what another one left; those of the cache name a folder of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what takes minutes to measure to the campaign."""
    if PROFILE != "campaign":
        for item in items:
            if item.get_closest_marker("campaign"):
                item.add_marker(pytest.mark.skip(reason="measures for minutes; make campaign runs it"))


@pytest.fixture
def chance() -> random.Random:
    """The same draws every time; in a campaign others each time, from a seed that a failed test shows."""
    seed = random.SystemRandom().randrange(2**32) if PROFILE == "campaign" else 0
    logging.getLogger("chance").warning("seed %d", seed)
    return random.Random(seed)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; tests that ask for it skip where there is none."""
    folder = os.environ.get("INSPHERE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("INSPHERE_DATA names no folder with the real data sets")
    return Path(folder)
