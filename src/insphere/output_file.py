"""Files that are complete or not there: written beside their place under a temporary name, then renamed over it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from insphere.errors import InsphereError


class OutputError(InsphereError, OSError):
    """A file cannot be written where the caller wants it; the message says why and what to do."""


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path if a file can be written there, which is asked of the disk by writing a small file beside it.

    Work that takes minutes calls this first, so that a typing error in the output costs nothing.

    Raises
    ------
    OutputError
        If the folder does not exist or takes no new file, or `path` is a folder or a device.

    Examples
    --------
    >>> check_writable("no/such/folder/model.insphere")
    Traceback (most recent call last):
    ...
    insphere.output_file.OutputError: Cannot write no/such/folder/model.insphere: the folder no/such/folder does not exist. ...
    """
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"Cannot write {path}: the folder {folder} does not exist. Create it first (mkdir -p '{folder}').")
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a folder. Name a file, for example {path / path.stem}.")
    if path.exists() and not path.is_file():
        raise OutputError(f"Cannot write {path}: it is a device, pipe or socket, and insphere replaces what it writes. Name a plain file.")
    probe = _beside(path)
    with output_errors(path):
        probe.write_bytes(b"insphere")
    with suppress(OSError):
        probe.unlink()
    return path


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path, made with the folders above it where they are missing.

    Raises
    ------
    OutputError
        If it cannot be made, or a file has its name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make_folder(Path(folder) / "a" / "b").is_dir()
    True
    """
    path = Path(path)
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a binary file whose content takes the place of `path` when the block ends without an exception.

    On an exception, Ctrl-C included, the temporary file is removed and what was at `path` stays as it was.

    Raises
    ------
    OutputError
        If the file cannot be created, completed or renamed. Errors of the block itself pass through unchanged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "notes.txt") as handle:
    ...         _ = handle.write(b"complete")
    ...     (Path(folder) / "notes.txt").read_text()
    'complete'
    """
    path = Path(path)
    temporary = _beside(path)
    with output_errors(path):
        handle = temporary.open("xb")  # created with the user's umask, unlike the files of the tempfile module
    try:
        yield handle
        with output_errors(path):
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
            temporary.replace(path)
    finally:
        # On a full disk, closing fails once more on what is still buffered; the first error is the one to tell.
        with suppress(OSError):
            handle.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` of the block into an `OutputError` about `path`; for calls that do nothing but write.

    Raises
    ------
    OutputError
        Where the block raises an `OSError` that is not insphere's own.

    Examples
    --------
    >>> with output_errors("scores.csv"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    insphere.output_file.OutputError: Cannot write scores.csv: No space left on device. ...
    """
    try:
        yield
    except InsphereError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Cannot write {path}: {reason}. Nothing was left there; check the disk's free space and the folder's permissions."
        ) from error


def _beside(path: Path) -> Path:
    """Return a temporary name in the folder of `path`, not built from its name: one of the longest legal length stays writable."""
    return path.with_name(f".{secrets.token_hex(6)}.partial")
