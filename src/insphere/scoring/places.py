"""Where encoded images and parts of scores lie: folders of this machine, and object stores by their address (s3://, gs://, ...)."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from insphere.data.folders import LOOKED_FOR, Survey, explore, is_image_name, matching, printable
from insphere.data.layouts import masks_among
from insphere.data.rows import Notice
from insphere.data.stores import AbstractStore, FileStore, OpenRow, check_bytes
from insphere.errors import DataError, MissingDependencyError
from insphere.output_file import OutputError

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", flags=re.IGNORECASE)
_READS_AT_A_TIME = 16  # of an object store, where most of the time is waiting


class Listing(NamedTuple):
    """The images that are to be scored.

    Attributes
    ----------
    base : str
        Folder, or address of one, that the names lead on from.
    names : list of str
        Relative posix paths as they are in file systems, sorted, each once.
    n_bytes, modified_ns : ndarray of int64
        Size, and time of the last change in nanoseconds since 1970; 0 where it is not known.
    notices : tuple of Notice
        What was left out.
    """

    base: str
    names: list[str]
    n_bytes: NDArray[np.int64]
    modified_ns: NDArray[np.int64]
    notices: tuple[Notice, ...]


def is_remote(text: str | os.PathLike[str]) -> bool:
    """Return whether a text is the address of an object store rather than a path of this machine.

    Examples
    --------
    >>> is_remote("s3://bucket/photos"), is_remote("photos/*.jpg"), is_remote("C:/photos")
    (True, False, False)
    """
    return _REMOTE.match(os.fspath(text)) is not None


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Those that Arrow knows by itself (s3, gs, abfs, hdfs, file) are asked with the credentials, region and endpoint that the environment
    names (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...); others through fsspec.

    Raises
    ------
    DataError
        If the address is not understood.
    MissingDependencyError
        If it needs a package that is not installed.
    """
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise DataError(
            f"The address {address.rpartition('@')[2]} came with credentials, which would be kept in files; set them in the environment."
        )
    try:
        return fs.FileSystem.from_uri(address)  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if not _is_unknown_scheme(error):
            raise DataError(f"{address} cannot be opened: {_first_line(error)}.") from error
    try:
        from fsspec.core import url_to_fs

        found, path = url_to_fs(address)
    except ImportError as error:
        text = f"Addresses such as {address} need a package that is not installed: {_first_line(error)}"
        raise MissingDependencyError(f"{text}. Install it, or use s3://, gs:// or a path.") from error
    except ValueError as error:
        raise DataError(f"{address} cannot be opened: {_first_line(error)}.") from error
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path


def list_images(source: str | os.PathLike[str]) -> Listing:
    """Return the images under a folder, or that match a pattern, here or in an object store; masks and hidden files are left out and told.

    Raises
    ------
    DataError
        If there is not one, or the place cannot be listed.
    """
    text = os.path.expanduser(os.fspath(source))
    base, survey, n_bytes, modified = _remote_survey(text) if is_remote(text) else _local_survey(text)
    names = sorted(name for name in set(survey.names) if is_image_name(name))
    masks = masks_among(names)
    if masks and len(masks) < len(names):
        left = set(masks)
        names = [name for name in names if name not in left]
    notices = survey.notices()
    if masks and len(masks) >= 1 and names:
        notices.append(Notice.counting("left out", "Masks, which say where anomalies are, are not scored", masks))
    if not names:
        raise DataError(f"{text} has no image; looked for {LOOKED_FOR}. Quote a pattern so that the shell does not expand it.")
    sizes = np.array([n_bytes(name) for name in names], dtype=np.int64)
    return Listing(base, names, sizes, np.array([modified(name) for name in names], dtype=np.int64), tuple(notices))


def _local_survey(text: str) -> tuple[str, Survey, Any, Any]:
    if os.path.isdir(text):
        base, survey = Path(text), explore(Path(text))
    elif os.path.isfile(text):
        if not is_image_name(Path(text).name):
            raise DataError(
                f"{text} is not an image, and parts are written of folders and patterns of images; name one file to write"
                " (-o scores.parquet), by which tables, arrays and archives are scored, a piece at a time too."
            )
        base, survey = Path(text).parent, Survey([Path(text).name])
    else:
        base, survey = matching(text)
    status = {}
    for name in survey.names:
        try:
            found = os.stat(base / name)
            status[name] = (found.st_size, found.st_mtime_ns)
        except OSError:  # a link that leads nowhere: an error row
            status[name] = (0, 0)
    return os.path.abspath(base), survey, lambda name: status[name][0], lambda name: status[name][1]


def _remote_survey(address: str) -> tuple[str, Survey, Any, Any]:
    # What comes before the first part with a sign of a pattern is the folder to list.
    head, _, rest = address.partition("://")
    parts = rest.rstrip("/").split("/")
    n_plain = next((number for number, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    base = f"{head}://{'/'.join(parts[:n_plain])}"
    pattern = pattern_expression("/".join(parts[n_plain:]) or "**/*")
    system, path = file_system(base)
    try:
        found = system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise DataError(f"{base} cannot be listed: {_first_line(error)}.") from error
    prefix = f"{path.rstrip('/')}/"
    infos = {info.path.removeprefix(prefix): info for info in found if info.type == fs.FileType.File}
    names = [name for name in infos if pattern.fullmatch(name)]
    return base, Survey(names), lambda name: infos[name].size or 0, lambda name: infos[name].mtime_ns or 0


def pattern_expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern: ``*`` and ``?`` within one part of a path, ``**`` for any depth, ``[...]`` for a choice.

    Examples
    --------
    >>> expression = pattern_expression("**/*.jpg")
    >>> [bool(expression.fullmatch(name)) for name in ("1.jpg", "a/b/1.jpg", "a/1.png")]
    [True, True, False]
    """
    pieces = []
    for piece in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, flags=re.DOTALL):
        if piece == "**/":
            pieces.append("(?:[^/]+/)*")
        elif piece == "**":
            pieces.append(".*")
        elif piece in "*?":
            pieces.append("[^/]*" if piece == "*" else "[^/]")
        elif piece.startswith("[") and len(piece) > 2:
            pieces.append(f"[^{re.escape(piece[2:-1])}/]" if piece[1] == "!" else f"[{piece[1:-1]}]")
        else:
            pieces.append(re.escape(piece))
    return re.compile("".join(pieces), flags=re.DOTALL)


class RemoteStore(AbstractStore):
    """Encoded images of an object store.

    Parameters
    ----------
    base : str
        Address of the folder.
    names : sequence of str
        Relative posix paths.
    sizes : sequence of int
        Their bytes, so that none is fetched that is too large to be read.
    """

    def __init__(self, base: str, names: Sequence[str], sizes: Sequence[int]) -> None:
        self._base, self._names, self._sizes = base, list(names), list(sizes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> "RemoteStore":
        """Return the store of the images at `positions` only."""
        chosen = [int(position) for position in positions]
        return RemoteStore(self._base, [self._names[position] for position in chosen], [self._sizes[position] for position in chosen])

    def place(self, position: int) -> int:
        """Return the position: an object store has no better order."""
        return position

    @contextmanager
    def opened(self) -> Iterator[OpenRow]:
        """Give the function that opens one image."""
        system, path = file_system(self._base)

        def open_row(position: int) -> IO[bytes]:
            check_bytes(self._sizes[position])
            return system.open_input_file(f"{path}/{self._names[position]}")  # type: ignore[no-any-return]

        yield open_row


def store_of(base: str, names: Sequence[str], sizes: Sequence[int]) -> AbstractStore:
    """Return the store of some listed images."""
    return RemoteStore(base, names, sizes) if is_remote(base) else FileStore([Path(base, name) for name in names])


def read_all(store: AbstractStore) -> tuple[list[bytes | None], Mapping[int, Exception]]:
    """Return the bytes of all images of a store, several read at a time; None, and the error, where one cannot be read."""
    errors: dict[int, Exception] = {}
    with store.opened() as open_row, ThreadPoolExecutor(_READS_AT_A_TIME) as pool:

        def read(position: int) -> bytes:
            with open_row(position) as file:
                return file.read()

        tasks: list[Future[bytes]] = [pool.submit(read, position) for position in range(len(store))]
        blobs: list[bytes | None] = []
        for position, task in enumerate(tasks):
            try:
                blobs.append(task.result())
            except Exception as error:  # whatever a place answers, it is this image's error
                errors[position] = error
                blobs.append(None)
    return blobs, errors


def write_bytes(address: str, content: bytes) -> None:
    """Write an object of an object store, which is there when all of it is.

    Raises
    ------
    OutputError
        If the store refuses.
    """
    system, path = file_system(address)
    try:
        if not isinstance(system, fs.S3FileSystem):
            system.create_dir(str(PurePosixPath(path).parent), recursive=True)
        with system.open_output_stream(path) as stream:
            stream.write(content)
    except OSError as error:
        raise OutputError(f"Cannot write {address}: {_first_line(error)}. Check that you may write there.") from error


def shown(names: Sequence[str]) -> list[str]:
    """Return file names as valid Unicode."""
    return printable(names)


def _is_unknown_scheme(error: Exception) -> bool:
    return "nrecognized filesystem type" in str(error) or "not implemented" in str(error).lower()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
