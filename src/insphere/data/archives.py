"""Zip archives of images, read in place: nothing is ever written to the disk, so a hostile name has nowhere to go."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self, final

import numpy as np
from numpy.typing import NDArray

from insphere.data.folders import LOOKED_FOR, is_image_name, left_out, open_images, printable, wrapper
from insphere.data.options import OpenOptions
from insphere.data.rows import Notice
from insphere.data.stores import AbstractStore, ImageSource, OpenRow, check_bytes
from insphere.errors import DataError

_ENCRYPTED = 0x1


@final
class ZipStore(AbstractStore):
    """Members of a zip archive, which is opened again for every pass.

    Examples
    --------
    >>> len(ZipStore(Path("tiles.zip"), ["tiles/1.png"]))
    1
    """

    def __init__(self, path: Path, members: Sequence[str]) -> None:
        self._path = path
        self._members = tuple(members)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._members)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the store of the members at `positions` only."""
        return type(self)(self._path, [self._members[int(position)] for position in positions])

    def place(self, position: int) -> int:
        """Return the position: members are found by their names, in any order."""
        return position

    @contextmanager
    def opened(self) -> Iterator[OpenRow]:
        """Open the archive and give the function that opens one member."""
        with _open_archive(self._path) as archive:

            def open_row(position: int) -> IO[bytes]:
                member = archive.getinfo(self._members[position])
                if member.flag_bits & _ENCRYPTED:
                    raise DataError("is encrypted; store it in the archive without a password.")
                # The declared size binds: a member that holds more fails its checksum instead of filling the memory.
                check_bytes(member.file_size)
                return archive.open(member)

            yield open_row


def open_zip(path: Path, options: OpenOptions) -> ImageSource:
    """Return the source of the images in a zip archive; one folder that wraps them all is looked through.

    Raises
    ------
    DataError
        If it is not a zip archive, has a member whose name leads out of it, or has no image; and as `open_images`.
    """
    with _open_archive(path) as archive:
        members = archive.namelist()
    for member in members:
        _check_member(member, path.name)
    # Some programs write backslashes; left as they are, they would hide which folder an image lies in.
    by_name = {item.replace("\\", "/"): item for item in members}
    names = sorted(item for item in by_name if is_image_name(item))
    notices = left_out([item for item in by_name if not item.endswith("/")])
    doubled = sorted((Counter(item.replace("\\", "/") for item in members) - Counter(by_name.keys())).elements())
    if doubled:
        notices.append(Notice.counting("left out", "Members that have the name of a later one are left out", doubled))
    if not names:
        raise DataError(f"{path.name} has no image among its {len(members)} members; looked for {LOOKED_FOR}.")
    wrapped = wrapper(names)
    store = ZipStore(path, [by_name[item] for item in names])
    return open_images(path.name, printable([item[len(wrapped) :] for item in names]), store, options, notices)


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    # On damaged directories the reader raises BadZipFile, but also struct.error, ValueError, NotImplementedError and UnicodeDecodeError.
    except Exception as error:
        raise DataError(f"{path.name} is not a zip archive that can be read ({error}); create it again.") from error


def _check_member(member: str, archive: str) -> None:
    """Refuse a name that would lead out of the folder it is unpacked into, whichever the system."""
    pieces = member.replace("\\", "/").split("/")
    if ".." in pieces or pieces[0] == "" or (len(pieces[0]) > 1 and pieces[0][1] == ":"):
        raise DataError(
            f"{archive} has the member {member!r}, whose name leads out of the archive ('..', absolute or with a drive); "
            "such archives are not read: create it again with relative names."
        )
