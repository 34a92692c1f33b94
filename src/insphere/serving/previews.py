"""What a person is shown of a row that waits for a verdict: its picture, with the detector's own heat-map, or its values by name."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.errors import InsphereError
from insphere.serving.heatmap import as_uri, own_maps
from insphere.serving.models import ServedModel
from insphere.verdict_database import KeptRow


def content_of(row: NDArray[Any]) -> bytes:
    """Return the values of a row, packed: all of them, so that scores and heat-maps can be made again."""
    return zlib.compress(np.ascontiguousarray(row).tobytes(), 1)


def previews(model: ServedModel, rows: Sequence[KeptRow]) -> list[dict[str, Any]]:
    """Return what is shown of each row: ``image``, ``heatmap`` and ``values``, None where there is none.

    A drawn row gets no heat-map: it would tell what the model thinks, and whoever looks at a random row should judge for himself.
    """
    found = [_unpacked(model, row.content) for row in rows]
    mapped = [place for place, row in enumerate(rows) if not row.drawn and found[place] is not None and model.detector.has_maps]
    maps = dict(zip(mapped, _maps(model, [found[place] for place in mapped]), strict=True))
    return [_preview(model, X, maps.get(place)) for place, X in enumerate(found)]


def _maps(model: ServedModel, images: Sequence[NDArray[Any] | None]) -> list[str | None]:
    try:
        return [*own_maps(model.detector, np.stack([X for X in images if X is not None]))] if images else []
    except InsphereError:  # a row without its map is still a row to look at
        return [None] * len(images)


def _preview(model: ServedModel, X: NDArray[Any] | None, heatmap: str | None) -> dict[str, Any]:
    if X is None:
        return {"image": None, "heatmap": None, "values": None}
    if model.is_image:
        from insphere.explain.overlays import as_rgb

        return {"image": as_uri(as_rgb(X)), "heatmap": heatmap, "values": None}
    names = model.feature_names or [f"feature {number}" for number in range(len(X))]
    values = [{"name": name, "value": value if math.isfinite(value) else None} for name, value in zip(names, X.tolist(), strict=True)]
    return {"image": None, "heatmap": None, "values": values}


def _unpacked(model: ServedModel, content: bytes | None) -> NDArray[Any] | None:
    """Return the row, or None where its content is gone or is not whole."""
    try:
        data = zlib.decompress(content) if isinstance(content, bytes) else b""
    except zlib.error:
        return None
    whole = len(data) == math.prod(model.input_shape) * model.dtype.itemsize
    return np.frombuffer(data, model.dtype).reshape(model.input_shape) if whole and data else None
