"""Run the demos and put what they printed, and their pictures, into the README, so that no figure there is typed by hand.

Usage: make figures
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
END = "<!-- {name}:end -->"
BEGIN = "<!-- {name}:begin (written by docs/run_demo.py; do not edit) -->"


@dataclass(frozen=True)
class Demo:
    """One demo: its part of the README, how a user starts it, its words, the picture that it writes, where it goes, what it shows."""

    name: str
    command: str
    words: tuple[str, ...]
    drawn: str
    picture: str
    shows: str


DEMOS = (
    Demo(
        "demo-photos",
        "make photos",
        ("demo", "--photos"),
        "found.jpg",
        "docs/demo-photos.jpg",
        "Photos of plates with a scratch, a stain, a missing screw and a dent, and where they were found",
    ),
    Demo("demo", "make demo", ("demo",), "gallery.png", "docs/demo-gallery.png", "Most normal, nearest to the threshold, most anomalous"),
)


def main() -> None:
    """Replace the parts of the README between the marks of each demo."""
    for demo in DEMOS:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
            command = [sys.executable, "-m", "insphere", *demo.words]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
            shutil.copyfile(Path(folder) / "demo" / demo.drawn, ROOT / demo.picture)
        shown = "\n".join(line.rstrip() for line in done.stdout.split("\n\n")[0].splitlines())
        _put(demo.name, f"```text\n$ {demo.command}\n{shown}\n```\n\n![{demo.shows}]({demo.picture})\n\n{_provenance()}")


def _put(name: str, block: str) -> None:
    """Replace one part of the README."""
    readme, begin, end = ROOT / "README.md", BEGIN.format(name=name), END.format(name=name)
    before, found, rest = readme.read_text(encoding="utf-8").partition(begin)
    if not found:
        raise SystemExit(f"README.md lacks the line {begin}")
    after = rest.partition(end)[2]
    readme.write_text(f"{before}{begin}\n{block}\n{end}{after}", encoding="utf-8")


def _provenance() -> str:
    import torch

    import insphere

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    where = f"{os.cpu_count()} CPU cores ({platform.system()}, {platform.machine()})"
    version = f"insphere {insphere.__version__}" + (f" after commit {commit}" if commit else "")
    return f"*Seed 0, 95 % intervals in brackets; {where}; {version}, PyTorch {torch.__version__}, Python {platform.python_version()}.*"


if __name__ == "__main__":
    main()
