"""Fixtures shared by the tests of `insphere.data`."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _png(height: int = 6, width: int = 5, *, value: int = 100, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height), value if mode in ("L", "I;16") else (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Encode a picture of one value."""
    return _png


@pytest.fixture
def jpeg() -> bytes:
    """Return a JPEG of noise, long enough to be cut anywhere."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def huge_png() -> bytes:
    """Return a valid grey PNG of 20,000 x 20,000 pixels in half a megabyte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(bytes(20_001 * 100)) for _ in range(200)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def write_tree(tmp_path: Path) -> Callable[..., Path]:
    """Write files, given as {relative path: bytes}, under a folder."""

    def write(files: dict[str, bytes], name: str = "tree") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for relative, data in files.items():
            place = root / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return root

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real data sets; skip where it is absent."""
    root = os.environ.get("INSPHERE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("INSPHERE_DATA names no folder with the real data sets")
    return Path(root)
