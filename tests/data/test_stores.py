import threading

import numpy as np
import pytest

from insphere.data.images import ImageSpec
from insphere.data.rows import RowFacts
from insphere.data.stores import MAX_BYTES, BytesStore, FileStore, ImageSource, check_bytes, probe_store
from insphere.errors import DataError


def test_order_is_kept_and_errors_are_placed(png):
    blobs = [png(2, 2, value=number % 256) for number in range(300)]
    for bad in (0, 77, 299):
        blobs[bad] = b"text"
    blobs[5] = None
    source = ImageSource("many", BytesStore(blobs), RowFacts(), ImageSpec(2, 2, 1))
    for batch_size in (1000, 64, 7):
        rows = list(source.batches(batch_size))
        index = np.concatenate([part.index for part in rows])
        assert index.tolist() == [number for number in range(300) if number not in (0, 5, 77, 299)]
        assert np.array_equal(np.concatenate([part.X for part in rows])[:, 0, 0, 0], index % 256)
        errors = {position: text for part in rows for position, text in part.errors.items()}
        assert list(errors) == [0, 5, 77, 299] and errors[5] == "has no bytes."


def test_batches_may_be_left_early_without_leaving_threads(png):
    source = ImageSource("many", BytesStore([png()] * 100), RowFacts(), ImageSpec(2, 2, 1))
    before = threading.active_count()
    batches = source.batches(10)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_vanished_file_and_too_large_file_are_error_rows(tmp_path, png, monkeypatch):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "large.png").write_bytes(png() + bytes(5000))
    monkeypatch.setattr("insphere.data.stores.MAX_BYTES", 4000)
    source = ImageSource(
        "three", FileStore([tmp_path / name for name in ("a.png", "gone.png", "large.png")]), RowFacts(), ImageSpec(2, 2, 1)
    )
    rows = source.load()
    assert rows.index.tolist() == [0]
    assert rows.errors[1] == "cannot be read: No such file or directory."
    assert "more than the limit" in rows.errors[2]


def test_limit_is_inclusive():
    check_bytes(MAX_BYTES)
    with pytest.raises(DataError):
        check_bytes(MAX_BYTES + 1)


def test_take_and_another_spec(png):
    source = ImageSource("two", BytesStore([png(value=1), png(value=2)]), RowFacts(ids=("a", "b")), ImageSpec(2, 2, 1))
    second = source.take([1])
    assert second.ids == ("b",) and second.load().X.max() == 2
    brought = second.brought_to(ImageSpec(3, 4, 3, "float32"))
    assert brought.row_shape == (3, 4, 3) and brought.dtype == np.float32 and brought.load().X.shape == (1, 3, 4, 3)


def test_no_images_and_no_readable_images_are_refused():
    with pytest.raises(DataError, match="no images"):
        ImageSource("none", BytesStore([]), RowFacts(), ImageSpec(1, 1, 1))
    with pytest.raises(DataError, match=r"no image that can be read \(2 tried\); the first one is not an image"):
        probe_store(BytesStore([b"text", b""]), "both")
