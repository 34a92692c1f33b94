"""Run the demo and put what it printed, and its picture, into the README, so that no figure there is typed by hand.

Usage: make figures
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "demo-gallery.png"
BEGIN, END = "<!-- demo:begin (written by docs/run_demo.py; do not edit) -->", "<!-- demo:end -->"


def main() -> None:
    """Replace the part of the README between the two marks."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "insphere", "demo"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        shutil.copyfile(Path(folder) / "demo" / "gallery.png", PICTURE)
    shown = "\n".join(line.rstrip() for line in done.stdout.split("\n\n")[0].splitlines())
    picture = f"![Most normal, nearest to the threshold, most anomalous]({PICTURE.relative_to(ROOT).as_posix()})"
    block = f"```text\n$ make demo\n{shown}\n```\n\n{picture}\n\n{_provenance()}"
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")


def _provenance() -> str:
    import torch

    import insphere

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    where = f"{os.cpu_count()} CPU cores ({platform.system()}, {platform.machine()})"
    version = f"insphere {insphere.__version__}" + (f" after commit {commit}" if commit else "")
    return f"*Seed 0, 95 % intervals in brackets; {where}; {version}, PyTorch {torch.__version__}, Python {platform.python_version()}.*"


if __name__ == "__main__":
    main()
