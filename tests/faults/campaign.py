"""Commands that are killed, refused the disk, robbed of their files: what is there afterwards must be whole, and the next run must go on.

The whole campaign: ``python tests/faults/campaign.py --kills 300``. The short one is a test. POSIX only: commands run in forked processes,
so that a kill costs no start of Python. Each ends at a random point of the time that it takes, half of them over an older output.
"""

import argparse
import collections
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

import contract
import insphere
from insphere import cli
from insphere.watching import open_journal

PLAN = """
seeds = 2
[datasets.digits]
normal_classes = [3, 8]
[methods.iforest]
parameters = {n_estimators = 20}
[methods.knn]
"""


@dataclasses.dataclass(frozen=True)
class Victim:
    """A command, what it writes, and whether that is whole.

    Attributes
    ----------
    words : callable
        Folder to the words after ``insphere``.
    outputs : tuple of str
        What it writes in that folder: each is whole, or as it was before, or not there.
    is_whole : callable
        Raises where an output is not whole.
    """

    words: Callable[[Path], list[object]]
    outputs: tuple[str, ...]
    is_whole: Callable[[Path], object]


def _rows(path: Path) -> None:
    n_rows = {".csv": lambda: len(path.read_text().splitlines()) - 1, ".jsonl": lambda: len(path.read_text().splitlines())}
    found = n_rows[path.suffix]() if path.suffix in n_rows else pq.read_table(path).num_rows
    if found != 300:
        raise ValueError(f"{found} rows of 300")


def _page(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("the page has no end")


def _graph(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path))


def _journal(path: Path) -> None:
    # A journal may lack files, never hold one twice; the run after it adds those that are missing.
    names = [entry.path for entry in open_journal(path).entries()]
    if len(set(names)) != len(names):
        raise ValueError("a file is there twice")


def _pictures(path: Path) -> None:
    for picture in path.rglob("*.png"):
        Image.open(picture).load()
    for text in path.rglob("*.json"):
        json.loads(text.read_text())


def _results(path: Path) -> None:
    for report in path.rglob("*.json"):
        json.loads(report.read_text())
    for table in path.rglob("*.parquet"):
        pq.read_table(table)


VICTIMS: dict[str, Victim] = {
    "score csv": Victim(lambda f: ["score", f / "m", f / "rows.npy", "-o", f / "s.csv"], ("s.csv",), _rows),
    "score parquet": Victim(lambda f: ["score", f / "m", f / "rows.npy", "-o", f / "s.parquet"], ("s.parquet",), _rows),
    "score jsonl": Victim(lambda f: ["score", f / "m", f / "rows.npy", "-o", f / "s.jsonl"], ("s.jsonl",), _rows),
    "recalibrate": Victim(lambda f: ["recalibrate", f / "m2", "--target-fpr", "0.1"], ("m2",), insphere.load),
    "sign": Victim(lambda f: ["sign", f / "m", "--key", f / "key.pem"], ("m.sig",), lambda path: json.loads(path.read_text())),
    "fit": Victim(lambda f: ["fit", f / "train.npy", "-o", f / "fitted", "--detector", "iforest"], ("fitted",), insphere.load),
    "fit network": Victim(
        lambda f: ["fit", f / "train.npy", "-o", f / "network", "--detector", "vae-svdd", "--epochs", "4"], ("network",), insphere.load
    ),
    "watch csv": Victim(lambda f: ["watch", f / "m", f / "inbox", "-o", f / "w.csv", "--once"], ("w.csv",), _journal),
    "watch parquet": Victim(lambda f: ["watch", f / "m", f / "inbox", "-o", f / "w.parquet", "--once"], ("w.parquet",), _journal),
    "report": Victim(lambda f: ["report", f / "m", f / "photos", "-o", f / "r.html"], ("r.html",), _page),
    "export": Victim(lambda f: ["export", f / "m", "-o", f / "g.onnx"], ("g.onnx",), _graph),
    "explain": Victim(lambda f: ["explain", f / "m", f / "inbox/000.png", "-o", f / "why"], ("why",), _pictures),
    "benchmark": Victim(lambda f: ["benchmark", f / "plan.toml", "-o", f / "bench", "--jobs", "2"], ("bench",), _results),
}
"""Name of each and what it is."""

LIGHT = ("score csv", "recalibrate", "watch csv")


def furnish(folder: Path) -> None:
    """Write what the commands read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = insphere.KNN(random_state=0).fit(contract.pictures(80))
        detector.save(folder / "m")
    shutil.copy(folder / "m", folder / "m2")
    np.save(folder / "train.npy", contract.pictures(80))
    np.save(folder / "rows.npy", np.resize(contract.pictures(200, seed=3), (300, 9, 7, 1)))
    (folder / "plan.toml").write_text(PLAN)
    for name, count in (("inbox", 60), ("photos/test/good", 20), ("photos/test/odd", 20)):
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(contract.pictures(count, seed=len(name))):
            Image.fromarray(255 - picture[:, :, 0] if name.endswith("odd") else picture[:, :, 0]).save(folder / name / f"{number:03}.png")
    openssl = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(folder / "key.pem")]
    if shutil.which("openssl"):
        subprocess.run(openssl, check=True, stderr=subprocess.DEVNULL)


class Run:
    """A command in a forked process."""

    def __init__(self, words: list[object], log: Path, prepare: Callable[[], object] = lambda: None) -> None:
        self.mark, self._log = uuid.uuid4().hex, log
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            code = 99
            try:
                os.environ["INSPHERE_FAULTS"] = self.mark
                for stream in (1, 2):
                    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), stream)
                prepare()
                code = cli.main([str(word) for word in words])
            finally:
                os._exit(code)

    def end(self) -> tuple[int, str]:
        """Wait for its end and return its exit code (of a signal, its number below zero), and what it said."""
        _, status = os.waitpid(self.process, 0)
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        self._log.unlink(missing_ok=True)
        return os.waitstatus_to_exitcode(status), said

    def descendants(self) -> list[int]:
        """Return the processes that it started, and that live."""
        found = []
        for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
            try:
                if entry.name.isdecimal() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def finished(words: list[object], folder: Path, prepare: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Run a command to its end."""
    return Run(words, folder / "log", prepare).end()


def leftovers(folder: Path) -> list[str]:
    """Return the half-written files in a folder, as seen from `folder`."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".insphere-*.partial")]


def _age(folder: Path) -> None:
    """Let a minute pass for what was left half-written."""
    for name in leftovers(folder):
        os.utime(folder / name, (time.time() - 60,) * 2)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


class Kills:
    """Kills of one command at random points.

    Parameters
    ----------
    name : str
    home : Path
        What `furnish` has made.
    rng : random.Random
    """

    def __init__(self, name: str, home: Path, rng: random.Random) -> None:
        self._name, self._home, self._rng, self._victim = name, home, rng, VICTIMS[name]
        with tempfile.TemporaryDirectory() as folder:
            here = self._furnished(folder)
            began = time.monotonic()
            code, said = finished(self._victim.words(here), here)
            self._seconds = time.monotonic() - began
            if code != 0:
                raise RuntimeError(f"{name} fails by itself: {said}")
            self._older = Path(shutil.copytree(here, self._home.parent / f"older {name}"))

    def _furnished(self, folder: str) -> Path:
        return Path(shutil.copytree(self._home, Path(folder, "here"), symlinks=True))

    def once(self) -> list[str]:
        """Kill it once, look at what is there, let it run to the end, look again; return what was wrong."""
        with tempfile.TemporaryDirectory() as folder:
            here = self._furnished(folder)
            if self._rng.random() < 0.5:
                shutil.rmtree(here)
                shutil.copytree(self._older, here)
            before = {name: _content(here / name) for name in self._victim.outputs}
            run = Run(self._victim.words(here), here / "log")
            wait = self._rng.uniform(0, 1.05 * self._seconds)
            time.sleep(wait)
            os.kill(run.process, signal.SIGKILL)
            run.end()
            where = f"{self._name}, killed after {wait:.3f} of {self._seconds:.3f} s"
            wrong = [f"{where}: {text}" for text in self._look(here, before)]
            deadline = time.monotonic() + 10
            while (alive := run.descendants()) and time.monotonic() < deadline:
                time.sleep(0.1)
            if alive:
                wrong.append(f"{where}: {len(alive)} processes live on")
                for process in alive:
                    os.kill(process, signal.SIGKILL)
            _age(here)
            code, said = finished(self._victim.words(here), here)
            if code != 0:
                wrong.append(f"{where}: the next run ends with {code}: {said[-500:]}")
            wrong += [f"{where}, run again: {text}" for text in self._look(here, {})]
            if left := leftovers(here):
                wrong.append(f"{where}: the next run leaves {left}")
            return wrong

    def _look(self, here: Path, before: dict[str, bytes | None]) -> Iterator[str]:
        for name in self._victim.outputs:
            path = here / name
            if not path.exists():
                if before.get(name) is not None or not before:
                    yield f"{name} is gone"
                continue
            if path.is_file() and path.read_bytes() == before.get(name):
                continue
            try:
                self._victim.is_whole(path)
            except Exception as error:
                yield f"{name} is not whole ({type(error).__name__}: {error})"


# Other faults. Each yields what was wrong.


def _among(names: tuple[str, ...], *wanted: str) -> list[str]:
    return [name for name in wanted if name in names]


def refused_writes(home: Path, rng: random.Random, names: tuple[str, ...]) -> Iterator[str]:
    """Files may not grow beyond some bytes, as on a full disk: said in words, nothing half-written, the old file as it was."""
    for name in _among(names, "score csv", "score parquet", "recalibrate", "fit", "watch csv", "export"):
        victim = VICTIMS[name]
        with tempfile.TemporaryDirectory() as folder:
            here = Path(shutil.copytree(home, Path(folder, "here")))
            (here / victim.outputs[0]).write_bytes(old := _content(here / victim.outputs[0]) or b"")
            if not old:
                (here / victim.outputs[0]).unlink()
            limit = rng.randrange(1, 3000)

            def forbid(limit: int = limit) -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            code, said = finished(victim.words(here), here, forbid)
            # The journal of a watch is allowed to keep what was whole.
            kept = name == "watch csv" or (_content(here / victim.outputs[0]) or b"") == old
            if code == 0 or "Traceback" in said or not kept or leftovers(here):
                yield f"{name} with files of {limit} bytes at most: code {code}, kept {kept}, left {leftovers(here)}: {said[-300:]}"


def full_disk(home: Path, rng: random.Random, names: tuple[str, ...]) -> Iterator[str]:
    """A file system in memory that is full; needs the right to mount one, and is left out without it."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            sys.stdout.write("full disk: left out, no right to mount\n")
            return
        try:
            Path(folder, "filler").write_bytes(b"x" * 60_000)
            for name in _among(names, "score csv", "fit", "watch csv", "report"):
                words = [Path(folder, word.name) if isinstance(word, Path) and word.name in VICTIMS[name].outputs else word
                         for word in VICTIMS[name].words(home)]  # fmt: skip
                code, said = finished(words, home)
                if code != 1 or "Free some space" not in said or leftovers(Path(folder)):
                    yield f"{name} on a full disk: code {code}, left {leftovers(Path(folder))}: {said[-300:]}"
        finally:
            subprocess.run(["umount", folder], check=False)


def forbidden_folder(home: Path, rng: random.Random, names: tuple[str, ...]) -> Iterator[str]:
    """A folder that may not be written to, by a user who is not root."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(shutil.copytree(home, Path(folder, "here")))
        os.chmod(folder, 0o755)
        here.chmod(0o555)

        def become_nobody() -> None:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)

        log = Path(tempfile.mkdtemp())
        # Not those that import more when they begin: the interpreter itself may be out of that user's reach.
        for name in _among(names, "score csv", "recalibrate", "fit", "watch csv"):
            code, said = Run(VICTIMS[name].words(here), log / "log", become_nobody).end()
            if code != 1 or "may write to" not in said or leftovers(here):
                yield f"{name} where nothing may be written: code {code}: {said[-300:]}"
        shutil.rmtree(log)
        here.chmod(0o755)


def vanishing_files(home: Path, rng: random.Random, names: tuple[str, ...]) -> Iterator[str]:
    """Pictures are removed while they are scored: each is a score or a row with an error."""
    for words, output in ((["score"], "v.csv"), (["watch", "--once"], "vw.csv"), (["check"], ""))[: 3 if "fit" in names else 2]:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(shutil.copytree(home, Path(folder, "here")))
            names = sorted((here / "inbox").iterdir())
            rng.shuffle(names)
            end = threading.Event()

            def remove(names: list[Path] = names, end: threading.Event = end) -> None:
                for path in names[:50]:
                    path.unlink()
                    if end.wait(0.01):
                        return

            source = [here / "inbox"] if words == ["check"] else [here / "m", here / "inbox", "-o", here / output]
            run = Run([*words, *source], here / "log")
            thread = threading.Thread(target=remove)
            thread.start()
            code, said = run.end()
            end.set()
            thread.join()
            if code not in (0, 1, 3) or "Traceback" in said or "defect of insphere" in said:
                yield f"{words} with vanishing files: code {code}: {said[-300:]}"
            if code == 0 and output and not (here / output).exists():
                yield f"{words} with vanishing files: no output"


def jumping_clock(home: Path, rng: random.Random, names: tuple[str, ...]) -> Iterator[str]:
    """The clock jumps by hours and years, both ways, between any two looks at it."""

    def spoil() -> None:
        real, jumps = time.time, random.Random(rng.random())
        time.time = lambda: real() + jumps.choice([0, -86_400 * 4000, 3600, -3600, 86_400 * 365])

    for name in _among(names, "watch csv", "score csv", "recalibrate", "fit", "fit network"):
        with tempfile.TemporaryDirectory() as folder:
            here = Path(shutil.copytree(home, Path(folder, "here")))
            for _ in range(2):
                code, said = finished(VICTIMS[name].words(here), here, spoil)
                if code != 0:
                    yield f"{name} with a jumping clock: code {code}: {said[-300:]}"
            if name == "watch csv" and len(list(open_journal(here / "w.csv").entries())) != 60:
                yield "watch with a jumping clock: not each file once"


def two_writers(home: Path, rng: random.Random, names: tuple[str, ...]) -> Iterator[str]:
    """Two commands write to one place at a time: the last one wins whole, and of two watches one is refused."""
    for name in _among(names, "score csv", "score parquet", "recalibrate", "fit", "watch csv", "watch parquet"):
        victim = VICTIMS[name]
        with tempfile.TemporaryDirectory() as folder:
            here = Path(shutil.copytree(home, Path(folder, "here")))
            runs = [Run(victim.words(here), here / f"log{number}") for number in range(2)]
            ends = [run.end() for run in runs]
            codes, said = sorted(code for code, _ in ends), " ".join(text for _, text in ends)
            good = [0, 0] if not name.startswith("watch") else [0, 1]
            if codes not in ([0, 0], good) or "Traceback" in said or (codes == [0, 1] and "Another insphere watch" not in said):
                yield f"two {name}: codes {codes}: {said[-400:]}"
            try:
                victim.is_whole(here / victim.outputs[0])
            except Exception as error:
                yield f"two {name}: {victim.outputs[0]} is not whole: {error}"
            if leftovers(here):
                yield f"two {name} leave {leftovers(here)}"


FAULTS = (refused_writes, full_disk, forbidden_folder, vanishing_files, jumping_clock, two_writers)


def campaign(n_kills: int, seed: int, names: tuple[str, ...]) -> tuple[collections.Counter[str], list[str]]:
    """Return how many faults of each kind were made to happen, and a line for each that ended badly."""
    rng, counts, wrong = random.Random(seed), collections.Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        furnish(home)
        os.chmod(folder, 0o755)
        for fault in FAULTS:
            wrong += list(fault(home, rng, names))
            counts[fault.__name__] += 1
            sys.stdout.write(f"{fault.__name__}: {len(wrong)} wrong so far\n")
            sys.stdout.flush()
        kills = {name: Kills(name, home, rng) for name in names}
        for number in range(n_kills):
            name = names[number % len(names)]
            wrong += kills[name].once()
            counts[f"kills of {name}"] += 1
    return counts, wrong


def main() -> None:
    """Run the campaign and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--light", action="store_true", help="only the commands that take a moment")
    given = parser.parse_args()
    began = time.monotonic()
    counts, wrong = campaign(given.kills, given.seed, LIGHT if given.light else tuple(VICTIMS))
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    kills = sum(count for name, count in counts.items() if name.startswith("kills"))
    facts = {"kills": kills, "wrong": len(wrong), "seconds": round(time.monotonic() - began)}
    sys.stdout.write(json.dumps({**counts, **facts}) + "\n")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
