"""Heat-maps of scored rows as files in a folder: the map itself with 16 bits, and the map over its picture."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from insphere.data import AbstractSource
from insphere.decision.scored import ScoredRows
from insphere.errors import DataError
from insphere.explain.files import file_stem
from insphere.explain.maps import LEVEL, PictureOf, draw_map, opened_pictures
from insphere.output_file import make_folder, replacing

FULL_SCALE = 4.0
"""Value of a map that is written as 65535, the highest of a 16-bit PNG."""

_HIGHEST = 65535
_N_THREADS = 4
_UNIT = (
    "held-out normal pictures: 1 is the level that the highest place of a normal picture exceeds with a probability of the model's"
    " target_fpr at most"
)


@final
class MapFiles:
    """Writes the maps of scored rows as they come: ``NUMBER-NAME-map.png`` and ``NUMBER-NAME-overlay.png``, and last ``maps.json``.

    NUMBER is the row's position in its source, so that no two rows share a name. The map is grey with 16 bits, at the model's own
    resolution: its value is pixel / 65535 · `FULL_SCALE`; what is above or below 0..`FULL_SCALE` is cut off, and counted. The overlay
    is the picture at its own size as `draw_map` draws it. ``maps.json`` states the scale and names the files of each row. Every file
    is written complete or not at all.

    Parameters
    ----------
    folder : path-like
        Made where it is missing.
    source : AbstractSource
        The rows that are scored.

    Attributes
    ----------
    rows : list of dict
        Of each row: its id, highest value, and files.
    errors : dict of str to str
        Rows whose overlay could not be drawn, and why.
    """

    def __init__(self, folder: str | os.PathLike[str], source: AbstractSource) -> None:
        self.folder = make_folder(folder)
        self._source = source
        self._digits = len(str(max(len(source) - 1, 0)))
        self.rows: list[dict[str, Any]] = []
        self.errors: dict[str, str] = {}

    def append(self, batch: ScoredRows) -> None:
        """Write the files of some scored rows.

        Raises
        ------
        DataError
            If the rows have no maps.
        OutputError
            If a file cannot be written.
        """
        if batch.maps is None and len(batch.index):
            raise DataError("These rows were scored without heat-maps; take a detector that has them (photo).")
        # Threads, because most of the time goes into decoding, encoding and waiting for the disk.
        with opened_pictures(self._source) as picture_of, ThreadPoolExecutor(_N_THREADS) as pool:
            maps = batch.maps if batch.maps is not None else ()
            self.rows += pool.map(lambda place, heatmap: self._written(place, heatmap, picture_of), batch.index.tolist(), maps)

    def _written(self, position: int, heatmap: NDArray[np.float32], picture_of: PictureOf) -> dict[str, Any]:
        """Write the files of one row and return its facts."""
        ids = self._source.ids
        name = f"row {position}" if ids is None else ids[position]
        stem = f"{position:0{self._digits}}-{file_stem(name)}"
        facts: dict[str, Any] = {"id": name, "highest": round(float(heatmap.max()), 6), "map": f"{stem}-map.png"}
        facts["n_cut_off"] = int(np.count_nonzero((heatmap < 0) | (heatmap > FULL_SCALE)))
        write_png(self.folder / facts["map"], to_16_bits(heatmap))
        try:
            drawn = draw_map(picture_of(position), heatmap)
        except DataError as error:  # a file that has gone or changed since it was scored
            self.errors[name] = str(error)
        else:
            facts["overlay"] = f"{stem}-overlay.png"
            write_png(self.folder / facts["overlay"], drawn)
        return facts

    def finish(self) -> Path:
        """Write ``maps.json`` and return its path."""
        scale = {"unit": _UNIT, "level": LEVEL, "full_scale": FULL_SCALE, "value": f"pixel / {_HIGHEST} * {FULL_SCALE:g}"}
        text = json.dumps({**scale, "rows": self.rows, "errors": dict(sorted(self.errors.items()))}, indent=1, ensure_ascii=False)
        path = self.folder / "maps.json"
        with replacing(path) as handle:
            handle.write(f"{text}\n".encode())
        return path


def to_16_bits(heatmap: NDArray[Any]) -> NDArray[np.uint16]:
    """Return a map as pixels in 0..65535, `FULL_SCALE` being the highest.

    Examples
    --------
    >>> to_16_bits(np.array([[-1.0, 0.0, 1.0, 9.0]])).tolist()
    [[0, 0, 16384, 65535]]
    """
    return np.rint(np.clip(np.asarray(heatmap, dtype=np.float64) / FULL_SCALE, 0, 1) * _HIGHEST).astype(np.uint16)


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write pixels as a PNG, complete or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as handle:
        # Of photos, the lowest compression takes a fifth of the time for files a tenth larger.
        Image.fromarray(pixels).save(handle, format="PNG", compress_level=1)
