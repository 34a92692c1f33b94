"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; tests that ask for it skip where there is none."""
    folder = os.environ.get("INSPHERE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("INSPHERE_DATA names no folder with the real data sets")
    return Path(folder)
