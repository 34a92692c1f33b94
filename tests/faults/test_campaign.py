"""The short campaign of faults: a few kills, a full disk, a forbidden folder, vanishing files, a jumping clock, two writers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import insphere

CAMPAIGN = Path(__file__).with_name("campaign.py")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks its processes")
def test_what_is_there_after_a_fault_is_whole_and_the_next_run_goes_on() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(insphere.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CAMPAIGN), "--light", "--kills", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] == 6
