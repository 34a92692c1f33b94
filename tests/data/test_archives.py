import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insphere.data import open_source
from insphere.errors import DataError


def pack(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def files(png):
    return {
        "tiles/train/good/b.png": png(value=1),
        "tiles/train/good/a.png": png(value=2),
        "tiles/test/good/a.png": png(value=3),
        "tiles/test/crack/a.png": png(value=4, height=9),
        "tiles/ground_truth/crack/a.png": png(value=5),
        "__MACOSX/tiles/train/good/._a.png": b"resource fork",
        "tiles/.DS_Store": b"x",
    }


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_zip_equals_its_unpacked_folder(tmp_path, write_tree, files, compression, split):
    packed = open_source(pack(tmp_path / "tiles.zip", files, compression=compression), split=split)
    unpacked = open_source(write_tree(files) / "tiles", split=split)
    assert packed.name == "tiles.zip" and list(packed.ids) == list(unpacked.ids)
    assert packed.types == unpacked.types and np.array_equal(packed.labels, unpacked.labels)
    assert np.array_equal(packed.load().X, unpacked.load().X)
    assert np.array_equal(np.concatenate([rows.X for rows in packed.batches(1)]), unpacked.load().X)


def test_flat_zip_in_one_folder(tmp_path, png):
    source = open_source(pack(tmp_path / "p.zip", {"p/b.png": png(), "p/a.png": png()}))
    assert list(source.ids) == ["a.png", "b.png"] and source.labels is None


def test_backslashes_are_separators(tmp_path, png):
    info = zipfile.ZipInfo("x")
    info.filename = "good\\a.png"
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr(info, png())
        archive.writestr("crack/a.png", png())
    assert open_source(tmp_path / "w.zip").labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "name", ["../a.png", "x/../../a.png", "/etc/a.png", "C:/a.png", "C:a.png", "..\\a.png", "\\a.png", "x/../notes.txt"]
)
def test_names_that_lead_out_are_refused(tmp_path, png, name):
    with pytest.raises(DataError, match="leads out of the archive"):
        open_source(pack(tmp_path / "bad.zip", {"ok.png": png(), name: png()}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


def test_encrypted_damaged_and_too_large_members_are_error_rows(tmp_path, png, monkeypatch):
    path = pack(
        tmp_path / "mixed.zip", {"a.png": png(), "b.png": png(), "c.png": png() + bytes(6000), "d.png": png(value=9), "e.png": b"text"}
    )
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 1)
    raw[entry + 8] |= 1
    damaged = raw.index(b"d.png") + 40
    raw[damaged] ^= 0xFF
    path.write_bytes(raw)
    monkeypatch.setattr("insphere.data.stores.MAX_BYTES", 5000)
    rows = open_source(path).load()
    assert rows.index.tolist() == [0]
    assert "encrypted" in rows.errors[1] and "more than the limit" in rows.errors[2] and "CRC" in rows.errors[3]
    assert "not an image" in rows.errors[4]


def test_what_is_no_zip_or_has_no_image_is_refused(tmp_path, jpeg):
    (tmp_path / "text.zip").write_bytes(b"only text")
    (tmp_path / "empty.zip").write_bytes(b"")
    for name in ("text.zip", "empty.zip"):
        with pytest.raises(DataError, match="not a zip archive"):
            open_source(tmp_path / name)
    with pytest.raises(DataError, match="no image among its 1 members"):
        open_source(pack(tmp_path / "docs.zip", {"a.txt": b"x"}))
    whole = pack(tmp_path / "whole.zip", {"a.jpg": jpeg}).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a zip archive"):
        open_source(tmp_path / "half.zip")


def test_archive_that_vanishes_between_opening_and_reading(tmp_path, png):
    path = pack(tmp_path / "p.zip", {"a.png": png()})
    source = open_source(path)
    path.unlink()
    with pytest.raises(DataError, match=r"p\.zip cannot be read: No such file"):
        source.load()


def _example():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good/a.pgm", b"P5 3 2 255 " + bytes(6))
        archive.writestr("crack/b.pgm", b"P5 2 2 255 " + bytes(4))
    return stream.getvalue()


EXAMPLE = _example()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=5), st.integers(0, 40))
def test_damaged_archives_give_rows_or_a_data_error(tmp_path, changes, cut):
    raw = bytearray(EXAMPLE)
    for place, value in changes:
        raw[place] = value
    path = tmp_path / "fuzz.zip"
    path.write_bytes(raw[: len(raw) - cut])
    try:
        source = open_source(path)
        rows = source.load()
    except DataError:
        return
    assert len(rows.X) + len(rows.errors) == len(source)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12), min_size=1, max_size=4, unique=True)
)
def test_any_member_names_give_rows_or_a_data_error(tmp_path, names):
    path = pack(tmp_path / "names.zip", {f"{name}.pgm": b"P5 1 1 255 0" for name in names})
    try:
        source = open_source(path)
    except DataError:
        return
    assert len(source.load().X) == len(source)
