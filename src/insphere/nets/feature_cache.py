"""Features of pictures kept on disk, so that a second fit on the same pictures need not compute them again.

One SQLite file for all fits of a user, bounded in size, safe with several processes at once. It is never needed: whatever goes wrong with
it, features are computed as if it were not there.
"""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from insphere.errors import ParameterError
from insphere.nets.photo_features import PhotoFeatures

VARIABLE = "INSPHERE_CACHE"
"""Environment variable that names the folder of the cache, or is "off"."""

MOST_BYTES = 2 * 2**30
"""Size that the cache may have; the entries that were not used for longest are removed."""

FILE = "features.sqlite"
"""Name of the file in the folder."""

_FORMAT = "1"  # of entries: raised where the same network gives other features than before
_PATIENCE = 30.0  # seconds to wait for another process
_CHECK_BYTES = 16
_AT_ONCE = 500  # keys in one question; SQLite takes a bounded number of variables

Compute = Callable[[NDArray[Any]], NDArray[np.float32]]


class FeatureCache:
    """Features on disk, by what they are of and how they were computed.

    Parameters
    ----------
    folder : path
    most_bytes : int
        See `MOST_BYTES`.

    Attributes
    ----------
    n_found, n_computed : int
        Pictures whose features were there from before the object was made, each counted once, and those whose features it had to compute.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = FeatureCache(folder)
    ...     again = FeatureCache(folder)
    ...     for each in (cache, again):
    ...         found = each.through(b"by doubling", np.arange(4).reshape(2, 2), lambda rows: 2 * rows.astype(np.float32))
    >>> found.tolist(), (cache.n_found, cache.n_computed), (again.n_found, again.n_computed)
    ([[0.0, 2.0], [4.0, 6.0]], (0, 2), (2, 0))
    """

    def __init__(self, folder: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> None:
        self.path, self.most_bytes = Path(folder) / FILE, most_bytes
        self.n_found = self.n_computed = 0
        self._met: set[bytes] = set()  # so that what this object has kept or found already is not counted again

    @classmethod
    def of_user(cls) -> Self | None:
        """Return the cache of this user, or None where `VARIABLE` turns it off.

        Raises
        ------
        ParameterError
            If the variable names something that is not a folder.
        """
        place = os.environ.get(VARIABLE, "").strip()
        if place.lower() == "off":
            return None
        if not place:
            from platformdirs import user_cache_path

            return cls(user_cache_path("insphere", appauthor=False))
        if Path(place).exists() and not Path(place).is_dir():
            raise ParameterError(f"The environment variable {VARIABLE} must be a folder or off, got {place!r}, which is a file.")
        return cls(place)

    def through(self, how: bytes, rows: NDArray[Any], compute: Compute) -> NDArray[np.float32]:
        """Return the features of rows: those that are there, and the others computed and kept.

        Parameters
        ----------
        how : bytes
            What else the features depend on, see `key_of`.
        rows : ndarray, shape (n, …)
        compute : callable
            From rows to features, float32, shape (n, …); those of a row depend on it alone.
        """
        keys = [_key(how, row) for row in rows]
        found = self._read(keys)
        missing = [row for row, key in enumerate(keys) if key not in found]
        self.n_found += len(found.keys() - self._met)
        self.n_computed += len(missing)
        self._met.update(keys)
        if missing:
            computed = compute(rows[missing])
            self._write({keys[row]: values for row, values in zip(missing, computed, strict=True)})
            found |= {keys[row]: values for row, values in zip(missing, computed, strict=True)}
        return np.stack([found[key] for key in keys])

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the entries that are there and whole."""
        found: dict[bytes, NDArray[np.float32]] = {}
        with self._opened() as file:
            if file is None:
                return found
            for start in range(0, len(keys), _AT_ONCE):
                asked = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(asked))
                for key, value, check in file.execute(f"SELECT key, value, checksum FROM features WHERE key IN ({marks})", asked):
                    if isinstance(value, bytes) and check == _checksum(value):
                        found[key] = np.frombuffer(value, dtype="<f4").astype(np.float32)
            file.executemany("UPDATE features SET used = ? WHERE key = ?", [(time.time(), key) for key in found])
        return found

    def _write(self, entries: dict[bytes, NDArray[np.float32]]) -> None:
        """Keep entries of vectors, and remove the oldest where there are too many."""
        with self._opened() as file:
            if file is None:
                return
            rows = ((key, values.astype("<f4").tobytes(), time.time()) for key, values in entries.items())
            file.executemany(
                "INSERT OR REPLACE INTO features (key, value, checksum, size, used) VALUES (?, ?, ?, ?, ?)",
                ((key, value, _checksum(value), len(value), used) for key, value, used in rows),
            )
            (total,) = file.execute("SELECT COALESCE(SUM(size), 0) FROM features").fetchone()
            oldest = file.execute("SELECT key, size FROM features ORDER BY used, rowid") if total > self.most_bytes else ()
            removed = []
            for key, size in oldest:
                if total <= 0.9 * self.most_bytes:  # a tenth more than needed, so that not every batch removes some
                    break
                total -= size
                removed.append((key,))
            file.executemany("DELETE FROM features WHERE key = ?", removed)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection | None]:
        """Give the open file within a transaction, None where it cannot be opened; what fails within it is as if it had not been."""
        file = self._connected() or self._connected()  # the second time without what was no such file
        if file is None:
            yield None
            return
        try:
            with file:
                yield file
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):  # damaged: made again next time
                _remove(self.path)
        finally:
            file.close()

    def _connected(self) -> sqlite3.Connection | None:
        """Return a connection to the file with its table; None, and a damaged file removed, where there is none."""
        file = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = sqlite3.connect(self.path, timeout=_PATIENCE)
            file.execute("PRAGMA auto_vacuum = FULL")  # so that what is removed makes the file smaller
            file.execute("PRAGMA synchronous = OFF")  # what a crash damages is made again
            file.execute(
                "CREATE TABLE IF NOT EXISTS features"
                " (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL, size INTEGER NOT NULL, used REAL NOT NULL)"
            )
            file.execute("CREATE INDEX IF NOT EXISTS by_age ON features (used)")
            return file
        except (sqlite3.DatabaseError, OSError) as error:
            if file is not None:
                file.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                _remove(self.path)
            return None


def key_of(features: PhotoFeatures, device: torch.device) -> bytes:
    """Return a digest of all that features depend on besides their picture.

    That is network and weights, sizes, places, region, what computes them, and the version of insphere, as another may see otherwise.
    """
    digest = hashlib.blake2b(digest_size=32)
    about = (
        _FORMAT,
        torch.__version__,
        device.type,
        torch.backends.cpu.get_cpu_capability(),
        features.size,
        features.whole,
        features.tiles,
        features.grid,
        sorted(features.network.roles.items()),
        version("insphere"),
    )
    digest.update(repr((*about, type(features.network).__name__)).encode())
    tensors = {**features.network.state_dict(), **{f"mixing of {name}": value for name, value in features.mixing.items()}}
    if features.kept is not None:
        tensors["kept"] = features.kept
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _key(how: bytes, row: NDArray[Any]) -> bytes:
    content = np.ascontiguousarray(row)
    digest = hashlib.blake2b(how, digest_size=32)
    digest.update(f"{content.dtype}{content.shape}".encode())
    digest.update(content.data)
    return digest.digest()


def _checksum(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=_CHECK_BYTES).digest()


def _remove(path: Path) -> None:
    for each in (path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-journal", "-wal", "-shm"))):
        with contextlib.suppress(OSError):
            each.unlink(missing_ok=True)
