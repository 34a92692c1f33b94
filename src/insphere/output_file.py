"""Files that are complete or not there: written beside their place under a temporary name, then renamed over it.

The one mechanism by which insphere writes anything, model files and checkpoints included; only a journal that grows for weeks is
appended to, a whole record at a time.
"""

import errno
import hashlib
import io
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from insphere.errors import InsphereError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STALE_SECONDS = 3600.0
"""Age at which a temporary file counts as left by a killed process, where files cannot be locked to ask."""

_SETTLED_SECONDS = 10.0
"""Age below which a temporary file is left alone: its writer may be about to lock it."""

_SWEEP_SECONDS = 600.0
"""Time after which a folder is looked through again by a process that goes on writing to it."""

_swept: dict[Path, float] = {}

_REMEDIES = {
    errno.ENOSPC: "Free some space or choose a folder on another disk",
    errno.EDQUOT: "Free some space or choose a folder on another disk",
    errno.EFBIG: "The disk or a limit of this account allows no file that large; choose a folder on another disk",
    errno.EROFS: "Choose a folder that can be written to",
    errno.EACCES: "Choose a folder that you may write to",
    errno.EPERM: "Choose a folder that you may write to",
    errno.ENOTDIR: "A part of the path is a file; choose a path inside a folder",
    errno.EEXIST: "A file has that name; choose another or move the file away",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


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
    target, _ = _checked_target(path)
    probe = _beside(target)
    try:
        with _output_errors(path):
            probe.write_bytes(b"insphere")
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    _sweep(target.parent)
    return Path(path)


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
    with _output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a binary file whose content takes the place of `path` when the block ends without an exception.

    On an exception, Ctrl-C included, the temporary file is removed and what was at `path` stays as it was. A new file gets the
    permissions of any new file (the umask), an overwritten one keeps its own; through a symbolic link the file it points to is replaced.
    What killed processes left behind, whatever they were writing, is removed by the next run that writes to the folder: temporary files of
    insphere that no process holds (where files cannot be locked, those that nobody has touched for an hour).

    Raises
    ------
    OutputError
        If the file cannot be created, written, completed or renamed, or `path` is a folder, device, pipe or socket. Other errors of the
        block pass through unchanged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "notes.txt") as handle:
    ...         _ = handle.write(b"complete")
    ...     (Path(folder) / "notes.txt").read_text()
    'complete'
    """
    target, mode = _checked_target(path)
    temporary = _beside(target)
    handle: BinaryIO | None = None
    try:
        with _output_errors(path):
            handle = io.BufferedWriter(_PartialFile(temporary, mode, path))
        yield handle
        with _output_errors(path):
            handle.flush()
            os.fsync(handle.fileno())
            if sys.platform == "win32":  # which does not rename open files
                handle.close()
            # Still locked, so that nobody takes it for left behind.
            os.replace(temporary, target)
            handle.close()
    finally:
        if handle is not None:
            # On a full disk, closing fails once more on what is still buffered; the first error is the one to tell.
            with suppress(OSError):
                handle.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _flush_folder(target.parent)
    _sweep(target.parent)


def append_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Add `data` to the end of an existing file; when the call returns, it is on the disk.

    If the disk refuses, the file is as it was. A process killed, or a power cut, in the middle may leave a beginning of `data`: who
    appends ends each record with a mark, and calls `drop_torn_end` before going on with a file.

    Raises
    ------
    OutputError
        If the file is not there or cannot be written.
    """
    with _output_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            length = os.fstat(descriptor).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, length)
                raise
        finally:
            os.close(descriptor)


def drop_torn_end(path: str | os.PathLike[str], mark: bytes = b"\n") -> int:
    """Cut off what follows the last `mark` in a file and return how many bytes that were.

    Raises
    ------
    OutputError
        If the file cannot be changed.
    """
    with _output_errors(path), open(path, "r+b") as handle:
        content = handle.read()
        length = content.rfind(mark) + len(mark) if mark in content else 0
        if length < len(content):
            handle.truncate(length)
            os.fsync(handle.fileno())
        return len(content) - length


@contextmanager
def locked(path: str | os.PathLike[str], busy: InsphereError) -> Iterator[None]:
    """Keep other processes out of what the lock file `path` guards while the block lasts; the lock of a killed process is gone with it.

    Parameters
    ----------
    path : path-like
        Made if it is not there, and left there.
    busy : InsphereError
        What is raised where another process holds the lock: who that is, and what to do.

    Raises
    ------
    InsphereError
        `busy`.
    OutputError
        If the lock file cannot be made.
    """
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise busy from error
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}. Choose a folder that you may write to.") from error
    try:
        yield
    finally:
        lock.release()


class _PartialFile(io.FileIO):
    """A new file that tells a refused write, whoever makes it, as an `OutputError` about the file that it is to become."""

    def __init__(self, temporary: Path, mode: int | None, path: str | os.PathLike[str]) -> None:
        # Not the tempfile module, whose files are private (0600) whatever the umask says; and never more public than the file to replace.
        super().__init__(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o666 if mode is None else mode))
        self._path = path
        _lock(self.fileno())
        if mode is not None and stat.S_IMODE(os.fstat(self.fileno()).st_mode) != mode:
            try:
                temporary.chmod(mode)
            except OSError:
                self.close()
                raise

    def write(self, data: "ReadableBuffer") -> int:
        with _output_errors(self._path):
            return super().write(data)


@contextmanager
def _output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` of the block, which does nothing but write, into an `OutputError` about `path`."""
    try:
        yield
    except InsphereError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Check the disk and the folder's permissions, or choose another place")
        raise OutputError(f"Cannot write {path}: {error.strerror or error}. {remedy}. Nothing half-written was left there.") from error


def _checked_target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return the file to replace, links followed, and its permissions if it is there; refuse what a rename would destroy."""
    try:
        target = Path(os.path.realpath(path))
        with _output_errors(path):
            status = _status(target)
    except ValueError as error:  # a path with a null character
        raise OutputError(f"Cannot write {os.fspath(path)!r}: {error}. Choose another name.") from error
    if status is None:
        if not target.parent.is_dir():
            folder = target.parent if os.path.islink(path) else Path(path).parent
            raise OutputError(f"Cannot write {path}: the folder {folder} does not exist. Create it first (mkdir -p '{folder}').")
        return target, None
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"Cannot write {path}: it is a folder. Name a file, for example {Path(path) / 'model.insphere'}.")
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"Cannot write {path}: it is a device, pipe or socket, and insphere replaces what it writes. Name a plain file.")
    return target, stat.S_IMODE(status.st_mode)


def _status(target: Path) -> os.stat_result | None:
    try:
        return target.stat()
    except FileNotFoundError:
        return None


def _beside(target: Path) -> Path:
    """Return a new temporary name for `target`, in its folder."""
    # A digest of the name, as the longest legal name leaves no room for itself.
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    return target.with_name(f".insphere-{digest}-{secrets.token_hex(6)}.partial")


_TEMPORARY = re.compile(r"\.insphere-[0-9a-f]{12}-[0-9a-f]{12}\.partial")


def _sweep(folder: Path) -> None:
    """Remove the temporary files in a folder that killed processes left."""
    now = time.monotonic()
    if now - _swept.get(folder, -_SWEEP_SECONDS) < _SWEEP_SECONDS:
        return
    if len(_swept) > 1000:
        _swept.clear()
    _swept[folder] = now
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_left(entry)


def _remove_if_left(entry: "os.DirEntry[str]") -> None:
    status = entry.stat(follow_symlinks=False)
    age = time.time() - status.st_mtime
    # A clock that has jumped makes files of now look old, or of the future; a lock has no clock.
    if not stat.S_ISREG(status.st_mode) or abs(age) < _SETTLED_SECONDS:
        return
    descriptor = os.open(entry, os.O_RDWR)
    try:
        is_ours = _lock(descriptor)
    finally:
        os.close(descriptor)
    if is_ours or (is_ours is None and age > _STALE_SECONDS):
        os.unlink(entry)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed, or its process is gone: True if it is ours now, False if another has it, None if none can."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _flush_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system can; the file itself is in place and whole either way."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
