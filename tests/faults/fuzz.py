"""Damaged, cut and invented input for everything that reads: it must be read or refused in words, within time.

``python tests/faults/fuzz.py --seconds 3600``; the readers take turns. A finding is written to ``fuzz-findings/`` and becomes a test with
its mend. Inputs are changed at random from good ones; where atheris is installed (Linux), ``--atheris NAME`` runs one reader under its
coverage-guided engine instead.
"""

import argparse
import asyncio
import collections
import contextlib
import hashlib
import io
import json
import logging
import signal
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

import contract
import insphere
from insphere.benchmark.run.plan import read_plan
from insphere.benchmark.run.results import read_report
from insphere.benchmark.tables.expected import read_expected
from insphere.cli.settings import parse_assignments, read_config
from insphere.errors import InsphereError
from insphere.serving import Settings, make_app
from insphere.verdict_database import KeptRow, KeptRows, Origin, VerdictDatabase
from insphere.verdict_files import read_verdicts
from insphere.watching import open_journal
from insphere.watching.journal import Entry

SECONDS = 20.0
"""Time that one input may take, in seconds."""

KINDS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")

Reader = Callable[[bytes], object]


def _load(source: Path) -> object:
    opened = insphere.open_source(source)
    for count, rows in enumerate(opened.batches(64)):
        if count > 20:
            break
        assert len(rows.X) == len(rows.index)
    return opened


def _table() -> pa.Table:
    return pa.table({"a": [1.0, 2.5, None], "b": [1, 2, 3], "c": ["x", "=y", "z"]})


def _pictures() -> pa.Table:
    pictures = [{"bytes": _encoded("PNG"), "path": f"{number}.png"} for number in range(3)]
    return pa.table({"image": pictures, "label": ["good", "good", "scratch"]})


def _encoded(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)).convert(mode).save(file, kind)
    return file.getvalue()


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


class Fuzz:
    """Readers with good inputs for each.

    Parameters
    ----------
    folder : Path
        For the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._loop = folder, asyncio.new_event_loop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vectors = insphere.KNN(random_state=0).fit(contract.blobs(60))
            images = insphere.KNN(random_state=0).fit(contract.pictures(40))
        vectors.save(folder / "v.insphere")
        journal = folder / "good.csv"
        open_journal(journal).append([Entry("a.png", 1.5, 0.25, False, None, 90, 1, "2030-01-01T00:00:00+00:00")])
        app = make_app({"v": vectors, "i": images}, Settings(reload_seconds=0, feedback=folder / "asked.sqlite"))
        plan = b"seeds = 2\n[datasets.digits]\nnormal_classes = [3, 8]\n[methods.knn]\nparameters = {n_neighbors = 3}\n"
        form = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + _encoded("PNG") + b"\r\n--x--\r\n"
        rows = b'{"columns":["a"],"rows":[[0,1.5,2,3,4]],"data":[{"a":null}]}'
        infer = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,5],"data":[1,2,3,4,5]}],"id":"1"}'
        said = b'{"verdicts":[{"row_id":"00f3a1b2c3d4e5f6","verdict":"false alarm"},{"row_id":"0000000000000000","verdict":null}]}'
        kept = KeptRow("00f3a1b2c3d4e5f6", True, None, 1.5, 0.25, False, "a.png", "2030-01-01T00:00:00+00:00", b"x")
        database = VerdictDatabase(folder / "good.sqlite")
        database.add([KeptRows(Origin("key", "fit"), "v", "1", [kept])])
        database.answer(Origin("key", "fit"), [(kept.row_id, "normal")])
        multipart = {"content-type": "multipart/form-data; boundary=x"}
        self.readers: dict[str, tuple[Reader, list[bytes]]] = {
            "csv": (self._file("csv", _load), [b"a,b,c\n1,2.5,x\n3,,y\n", b'sep=;\n"a";b\n1,5;2\n', "é;ü\n1.000,5;2\n".encode("latin-1")]),
            "parquet": (self._file("parquet", _load), [_saved(lambda f: pq.write_table(_table(), f))]),
            "npy": (self._file("npy", _load), [_saved(lambda f: np.save(f, np.ones((4, 3)))), _saved(lambda f: np.save(f, np.eye(3).T))]),
            "npz": (self._file("npz", _load), [_saved(lambda f: np.savez(f, X=np.ones((4, 3)), y=[0, 1, 0, 0]))]),
            "images": (self._picture, [_encoded(kind, mode) for kind in KINDS for mode in ("RGB", "L")]),
            "image parquet": (self._file("parquet", _load), [_saved(lambda f: pq.write_table(_pictures(), f))]),
            "zip": (self._file("zip", _load), [self._archive()]),
            "model": (self._file("insphere", insphere.load), [(folder / "v.insphere").read_bytes()]),
            "plan": (self._file("toml", read_plan), [plan]),
            "configuration": (self._file("toml", read_config), [b"detector = 'knn'\nimage-size = 32\n[params]\nn_neighbors = 3\n"]),
            "published": (self._file("toml", read_expected), [b"format_version = 1\n[tables.t]\ntitle = 'x'\n"]),
            "report": (self._file("json", read_report), [b'{"format_version": 1, "run": {"id": "a"}, "status": "ok"}']),
            "assignment": (lambda data: parse_assignments([data.decode("utf-8", "surrogateescape")]), [b"a=[1, 2]", b"training.lr=0.1"]),
            "journal csv": (self._file("csv", self._journal), [journal.read_bytes()]),
            "journal jsonl": (self._file("jsonl", self._journal), [b'{"path": "a", "anomaly_score": 1.0}\n']),
            "http rows": (self._posted(app, "/models/v/score", {"content-type": "application/json"}), [rows, b'{"rows":[[0,1,2,3,4]]}']),
            "http infer": (self._posted(app, "/v2/models/v/infer", {"content-type": "application/json"}), [infer]),
            "http verdicts": (self._posted(app, "/models/v/feedback", {"content-type": "application/json"}), [said]),
            "verdicts": (self._file("sqlite", lambda path: read_verdicts(path, "key", "fit")), [database.path.read_bytes()]),
            "http form": (self._posted(app, "/models/i/score", multipart), [form]),
            "http image": (self._posted(app, "/models/i/score", {"content-type": "image/png"}), [_encoded("PNG")]),
        }

    def _file(self, suffix: str, read: Callable[[Path], object]) -> Reader:
        def reader(data: bytes) -> object:
            path = self._folder / f"fuzzed.{suffix}"
            path.write_bytes(data)
            return read(path)

        return reader

    def _picture(self, data: bytes) -> object:
        path = self._folder / "fuzzed.png"
        path.write_bytes(data)
        return _load(path)

    def _archive(self) -> bytes:
        import zipfile

        def write(file: io.BytesIO) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                for name in ("a.png", "b/c.png"):
                    archive.writestr(name, _encoded("PNG"))

        return _saved(write)

    @staticmethod
    def _journal(path: Path) -> object:
        return list(open_journal(path).entries())

    def close(self) -> None:
        """End what the readers of requests run in."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _posted(self, app: types.SimpleNamespace, path: str, headers: dict[str, str]) -> Reader:
        """Return what sends a body to the application, without a network, and complains of 5xx other than 503."""

        async def post(data: bytes) -> int:
            statuses = []

            async def receive() -> dict[str, object]:
                return {"type": "http.request", "body": data, "more_body": False}

            async def send(message: dict[str, object]) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            sent = {**headers, "host": "localhost", "content-length": str(len(data))}
            scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path, "raw_path": b"",
                     "query_string": b"", "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
                     "headers": [(name.encode(), value.encode()) for name, value in sent.items()]}  # fmt: skip
            await app(scope, receive, send)
            return statuses[0]

        def reader(data: bytes) -> object:
            status = self._loop.run_until_complete(post(data))
            if status >= 500 and status != 503:
                raise RuntimeError(f"status {status}")
            return status

        return reader


_WORDS = (
    *(letter.encode() for letter in "\0\n,;\"'=[]{}\\\u202e"),
    *(b"\xff", b"\r\n", b"nan", b"1e400", b"-1", b"99999999999999999999", b"null", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[2J"),
    *(b"[" * 2000, b"9" * 5000, b"a." * 500),
)


def changed(good: bytes, rng: np.random.Generator) -> bytes:
    """Return an input with one to eight changes: bytes, numbers, pieces left out, doubled, exchanged, words put in."""
    data = bytearray(good)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(len(data) + 1))
        match int(rng.integers(7)):
            case 0 if data:
                data[min(place, len(data) - 1)] = int(rng.integers(256))
            case 1 if data:
                data[min(place, len(data) - 1)] ^= 1 << int(rng.integers(8))
            case 2:
                del data[place : place + int(rng.integers(1, 30))]
            case 3:
                data[place:place] = _WORDS[int(rng.integers(len(_WORDS)))]
            case 4:
                piece = data[place : place + int(rng.integers(1, 60))]
                data[place:place] = piece * int(rng.integers(1, 5))
            case 5:
                del data[place:]
            case _:
                value = [0, 1, 255, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1][int(rng.integers(7))]
                size = [1, 2, 4, 8][int(rng.integers(4))]
                data[place : place + size] = (value % 256**size).to_bytes(size, ["little", "big"][int(rng.integers(2))])
    return bytes(data)


def _too_slow(number: int, frame: types.FrameType | None) -> None:
    raise TimeoutError(f"more than {SECONDS:g} seconds")


def outcome(reader: Reader, data: bytes) -> tuple[str, str]:
    """Return how it went: "read", "refused", or "bad" with the reason."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            reader(data)
        return "read", ""
    except InsphereError:
        return "refused", ""
    except Exception:
        return "bad", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def campaign(seconds: float, seed: int, only: str | None = None) -> tuple[collections.Counter[str], dict[str, tuple[bytes, str]]]:
    """Return how many inputs ended how, by reader, and one bad input of each kind with its traceback."""
    counts, bad, rng = collections.Counter[str](), {}, np.random.default_rng(seed)
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            fuzz = Fuzz(Path(folder))
            stack.callback(fuzz.close)
            names = [only] if only else list(fuzz.readers)
            for name in names:
                reader, good = fuzz.readers[name]
                pool, end = list(good), time.monotonic() + seconds / len(names)
                for data in good:
                    assert outcome(reader, data)[0] != "bad", outcome(reader, data)
                while time.monotonic() < end:
                    data = changed(pool[int(rng.integers(len(pool)))], rng)
                    how, text = outcome(reader, data)
                    counts[f"{name}: {how}"] += 1
                    if how == "bad":
                        # One of each place in the code is enough.
                        place = [line for line in text.splitlines() if line.startswith("  File")][-1]
                        bad.setdefault(f"{name} {place}", (data, text))
                    elif how == "read" and len(pool) < 200:
                        pool.append(data)  # what still is read leads further from what was good
    finally:
        signal.signal(signal.SIGALRM, before)
    return counts, bad


def guided(name: str, seconds: float) -> None:
    """Run one reader under atheris, which looks for inputs that reach further."""
    import atheris

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder))
        reader, good = fuzz.readers[name]
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, data in enumerate(good):
            (corpus / str(number)).write_bytes(data)

        def one(data: bytes) -> None:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                try:
                    reader(data)
                except InsphereError:
                    return

        atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={round(seconds)}", f"-timeout={round(SECONDS)}"], one)
        atheris.Fuzz()


def main() -> None:
    """Run the campaign and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one reader")
    parser.add_argument("--atheris", metavar="NAME", help="one reader, under coverage-guided atheris")
    given = parser.parse_args()
    logging.disable(logging.ERROR)  # of what the readers complain
    if given.atheris:
        guided(given.atheris, given.seconds)
        return
    counts, bad = campaign(given.seconds, given.seed, given.only)
    for data, text in bad.values():
        found = Path("fuzz-findings", hashlib.sha256(data).hexdigest()[:16])
        found.parent.mkdir(exist_ok=True)
        found.write_bytes(data)
        sys.stdout.write(f"{found}\n{text}\n")
    sys.stdout.write(json.dumps({**counts, "inputs": sum(counts.values()), "findings": len(bad)}, indent=1) + "\n")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
