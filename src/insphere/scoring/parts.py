"""The folder of scores: Parquet parts that are complete or not there, what they were made with, and what they hold already."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from insphere.errors import DataError
from insphere.output_file import locked, make_folder, replacing
from insphere.scoring.places import file_system, is_remote, shown, write_bytes

IDENTITY = "_insphere.json"
"""File that says what the scores of a folder were made with; readers of Parquet pass over names that begin so."""

_PART = re.compile(r"part-(\d{8})\.parquet")
_DIGEST = np.dtype([("name", "V16"), ("version", "V8")])


class Held(NamedTuple):
    """What a folder of scores holds: a digest of each image's name, sorted, and one of its version."""

    names: NDArray[np.void]
    versions: NDArray[np.void]


class PartFolder:
    """Parts of scores, written by one run at a time; made by `open_parts`.

    Parameters
    ----------
    place : str
        Folder, or its address.
    schema : Schema
        Columns of the rows.
    rows_per_part : int
        Rows after which a part is written.
    seconds_per_part : float
        Seconds after which a part is written although it has fewer rows: what a killed run loses is at most that.
    """

    def __init__(self, place: str, schema: pa.Schema, rows_per_part: int, seconds_per_part: float) -> None:
        self.place, self._schema = place, schema
        self._rows_per_part, self._seconds = rows_per_part, seconds_per_part
        self._waiting: list[pa.Table] = []
        self._n_waiting, self._since = 0, time.monotonic()
        self._next = max((number for number, _ in self._found()), default=-1) + 1

    def held(self) -> Held:
        """Return what was written by earlier runs.

        Raises
        ------
        DataError
            If a part cannot be read, or an image is there twice.
        """
        digests = [np.empty(0, dtype=_DIGEST)]
        for _, name in self._found():
            try:
                with self._open(name) as file:
                    rows = pq.read_table(file, columns=["path", "n_bytes", "modified_ns"])
            except (OSError, KeyError, ValueError, pa.ArrowException) as error:
                raise DataError(f"{self.place}/{name} was not written by insphere score, or was changed since; move it away.") from error
            columns = (rows[column].to_pylist() for column in ("path", "n_bytes", "modified_ns"))
            digests.append(digests_of(*columns))
        found = np.concatenate(digests)
        names = found["name"]
        order = np.argsort(names, kind="stable")
        names, versions = names[order], found["version"][order]
        n_double = int(np.count_nonzero(names[1:] == names[:-1]))
        if n_double:
            raise DataError(f"{self.place} has {n_double} images twice, which no run of insphere score leaves; score into a new folder.")
        return Held(names, versions)

    def append(self, rows: pa.Table) -> None:
        """Take in rows, and write a part when there are enough of them, or enough time has passed.

        Raises
        ------
        OutputError
            If a part cannot be written.
        """
        self._waiting.append(rows)
        self._n_waiting += rows.num_rows
        if self._n_waiting >= self._rows_per_part or time.monotonic() - self._since >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as a part."""
        if self._n_waiting:
            rows = pa.concat_tables(self._waiting).combine_chunks()
            sink = pa.BufferOutputStream()
            pq.write_table(rows, sink)
            self._write(f"part-{self._next:08d}.parquet", sink.getvalue().to_pybytes())
            self._next += 1
        self._waiting, self._n_waiting, self._since = [], 0, time.monotonic()

    def read_identity(self) -> dict[str, Any] | None:
        """Return what the folder says of itself; None where it says nothing.

        Raises
        ------
        DataError
            If what it says cannot be read.
        """
        if IDENTITY not in self._listed():
            return None
        try:
            with self._open(IDENTITY) as file:
                return dict(json.loads(file.read()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.place}/{IDENTITY} was not written by insphere score; score into a new folder.") from error

    def write_identity(self, identity: Mapping[str, Any]) -> None:
        """Say what the scores are made with."""
        self._write(IDENTITY, json.dumps(identity, indent=1, ensure_ascii=False).encode())

    def is_empty(self) -> bool:
        """Return whether nothing is in the folder but what a run leaves that has not begun."""
        return all(name.startswith((".", "_")) for name in self._listed())

    def _found(self) -> list[tuple[int, str]]:
        return sorted((int(match[1]), match[0]) for match in map(_PART.fullmatch, self._listed()) if match)

    def _listed(self) -> list[str]:
        if not is_remote(self.place):
            return os.listdir(self.place)
        system, path = file_system(self.place)
        return [info.base_name for info in system.get_file_info(fs.FileSelector(path, allow_not_found=True))]

    def _open(self, name: str) -> Any:
        if not is_remote(self.place):
            return Path(self.place, name).open("rb")
        system, path = file_system(self.place)
        return system.open_input_file(f"{path}/{name}")

    def _write(self, name: str, content: bytes) -> None:
        if is_remote(self.place):
            write_bytes(f"{self.place}/{name}", content)
            return
        with replacing(Path(self.place, name)) as handle:
            handle.write(content)


@contextmanager
def open_parts(
    place: str | os.PathLike[str], schema: pa.Schema, identity: Mapping[str, Any], *, rows_per_part: int, seconds_per_part: float = 60.0
) -> Iterator[PartFolder]:
    """Give the folder of scores while the block lasts; what rows wait at its end are written, after an error or Ctrl-C too.

    On this machine a lock keeps other runs from the folder; in an object store nothing does.

    Raises
    ------
    DataError
        If the folder holds scores of other models or images, or anything else, or another run writes to it.
    OutputError
        If it cannot be written.
    """
    folder = os.fspath(place).rstrip("/") or "/"
    with ExitStack() as stack:
        if not is_remote(folder):
            make_folder(folder)
            lock = Path(folder, "_insphere.lock")
            busy = DataError(f"Another insphere score writes to {folder} ({lock} is locked); wait for it, or name another folder.")
            stack.enter_context(locked(lock, busy))
        parts = PartFolder(folder, schema, rows_per_part, seconds_per_part)
        found = parts.read_identity()
        if found is None:
            if not parts.is_empty():
                raise DataError(f"{folder} holds files that insphere score did not write; name a new folder for the scores.")
            parts.write_identity(identity)
        elif found != dict(identity):
            odd = next(name for name in identity if found.get(name) != identity[name])
            raise DataError(
                f"{folder} holds scores with another {odd} ({_short(found.get(odd))}, now {_short(identity[odd])}), which do not belong"
                " into one table; name another folder."
            )
        try:
            yield parts
        finally:
            parts.flush()


def digests_of(names: Sequence[str], n_bytes: Sequence[int], modified_ns: Sequence[int]) -> NDArray[np.void]:
    """Return a digest of each image's name, 128 bits, and one of its size and time of change, 64 bits."""
    made = np.empty(len(names), dtype=_DIGEST)
    for row, (name, size, time_ns) in enumerate(zip(names, n_bytes, modified_ns, strict=True)):
        made[row] = (
            hashlib.blake2b(name.encode(), digest_size=16).digest(),
            hashlib.blake2b(f"{size} {time_ns}".encode(), digest_size=8).digest(),
        )
    return made


def unseen(held: Held, names: Sequence[str], n_bytes: NDArray[np.int64], modified_ns: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the positions of the listed images that have no score yet, and how many of the others have changed since they were scored."""
    if not len(held.names):
        return np.arange(len(names), dtype=np.int64), 0
    listed = digests_of(shown(names), n_bytes.tolist(), modified_ns.tolist())
    places = np.minimum(np.searchsorted(held.names, listed["name"]), len(held.names) - 1)
    known = held.names[places] == listed["name"]
    n_changed = int(np.count_nonzero(known & (held.versions[places] != listed["version"])))
    return np.flatnonzero(~known), n_changed


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
