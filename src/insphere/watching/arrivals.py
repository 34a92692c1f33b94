"""Which files in a folder have arrived completely and have not been scored."""

import dataclasses
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from insphere.data.folders import explore, is_image_name
from insphere.data.layouts import masks_among
from insphere.data.rows import Notice
from insphere.visible import written_name


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A file as it is known: by name, size and time of its last change.

    Attributes
    ----------
    name : str
        Path relative to the folder, as the journal has it.
    path : Path
    n_bytes, modified_ns : int
    """

    name: str
    path: Path
    n_bytes: int
    modified_ns: int

    @property
    def version(self) -> tuple[int, int]:
        """What changes when the file is written again."""
        return self.n_bytes, self.modified_ns

    def is_unchanged(self) -> bool:
        """Tell whether the file is still the one that was seen."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == self.version


class Arrivals:
    """Looks through a folder again and again for files that are new and complete.

    A file is complete when two looks find it with the same size and time, or one look finds that it was last changed at least
    `settled_after` seconds ago: so files that were there before, or are moved in, are taken at once.

    Looking again and again also works on network shares, where the system reports no changes.

    Parameters
    ----------
    folder : Path
    suffixes : collection of str
        Endings, in lower case, of the files to look for. Names that begin with a dot are left alone.
    settled_after : float
        Seconds.
    ignored : Path, optional
        A file or folder that is not looked at.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.png").write_bytes(b"half")
    ...     arrivals = Arrivals(Path(folder), (".png",), settled_after=60.0)
    ...     [len(arrivals.look()), len(arrivals.look()), len(arrivals.look())]
    [0, 1, 1]
    """

    def __init__(
        self,
        folder: Path,
        suffixes: Iterable[str],
        *,
        settled_after: float,
        ignored: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._suffixes, self._settled_after, self._clock = folder, tuple(suffixes), settled_after, clock
        # As the names in the folder begin: asking the disk where each name really leads would take longer than all the rest.
        real, inside = Path(os.path.realpath(folder)), None if ignored is None else Path(os.path.realpath(ignored))
        self._ignored = inside.relative_to(real).parts if inside is not None and inside.is_relative_to(real) else None
        self._scored: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self.n_unsettled = 0
        self.notices: tuple[Notice, ...] = ()

    def mark(self, name: str, version: tuple[int, int]) -> None:
        """Remember that this version of a file has its score."""
        self._scored[name] = version

    def look(self) -> list[Arrival]:
        """Return the files that are complete and not scored in this version, the oldest first.

        What else lies there is in `notices` afterwards: other files, pipes, folders that cannot be listed, and masks, which say where
        an anomaly is and are not scored, as in `insphere score`.

        Raises
        ------
        DataError
            If the folder cannot be listed.
        """
        seen, complete = {}, []
        self.n_unsettled = 0
        for relative in self._candidates():
            arrival = self._arrival(relative)
            if arrival is None or self._scored.get(arrival.name) == arrival.version:
                continue
            seen[arrival.name] = arrival.version
            age = self._clock() - arrival.modified_ns / 1e9
            if self._seen.get(arrival.name) == arrival.version or age >= self._settled_after:
                complete.append(arrival)
            else:
                self.n_unsettled += 1
        self._seen = seen
        return sorted(complete, key=lambda arrival: (arrival.modified_ns, arrival.name))

    def _candidates(self) -> Sequence[str]:
        """Return the names of the images that lie there, and note what else does."""
        survey = explore(self._folder)
        survey.names = [name for name in survey.names if not self._is_ours(name)]
        images = [name for name in survey.names if is_image_name(name) and name.lower().endswith(self._suffixes)]
        masks = masks_among(images)
        text = "Images taken as masks, which say where an anomaly is, are not scored"
        told = [Notice.counting("taken as", text, masks)] if masks else []
        self.notices = (*survey.notices(), *told)
        aside = set(masks)
        return [name for name in images if name not in aside]

    def _is_ours(self, relative: str) -> bool:
        """Return whether a file belongs to the journal: it, a part of it, or one of the files beside it that begin with its name."""
        if self._ignored is None:
            return False
        parts = tuple(relative.split("/"))
        *folder, name = self._ignored
        return parts[: len(self._ignored)] == self._ignored or (
            parts[:-1] == tuple(folder) and parts[-1] in (f"{name}.state", f"{name}.lock")
        )

    def _arrival(self, relative: str) -> Arrival | None:
        path = self._folder / relative
        try:
            status = path.stat()
        except OSError:  # it was removed, or moved on, between the look and now
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return Arrival(written_name(relative), path, status.st_size, status.st_mtime_ns)
