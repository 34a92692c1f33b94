"""Images in Parquet files are read as they are asked for: what is held is counted, and is the same however large the file."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insphere.data import open_source, parquet_store
from insphere.data.images import ImageSpec

MIB = 2**20


def write(path: Path, blobs: list[bytes | None], *, rows_a_group: int, **columns: Any) -> Path:
    images = pa.array([{"bytes": blob, "path": f"{number}.png"} for number, blob in enumerate(blobs)])
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=rows_a_group, use_dictionary=False, write_batch_size=8)
    return path


def values(rows: Any) -> list[int]:
    return rows.X[:, 0, 0, 0].tolist()


@pytest.fixture
def ballast(png: Any) -> Any:
    """Return encoded pictures of as many bytes as are asked for: what follows the end of a PNG is not looked at."""
    noise = np.random.default_rng(0).bytes(2**20)
    return lambda value, n_bytes=100_000: png(value=value) + noise[value : n_bytes + value]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the row groups that are read from their start, as they are."""
    groups: list[int] = []
    start = parquet_store._Cursor.__init__

    def counted(self: Any, file: Any, group: int, row: int) -> None:
        groups.append(group)
        start(self, file, group, row)

    monkeypatch.setattr(parquet_store._Cursor, "__init__", counted)
    return groups


@pytest.mark.parametrize("rows_a_group", [1000, 50])
def test_what_is_held_does_not_grow_with_the_file(tmp_path: Path, ballast: Any, monkeypatch: pytest.MonkeyPatch, rows_a_group: int) -> None:
    monkeypatch.setattr(parquet_store, "KEPT_BYTES", MIB)
    held, read = [], parquet_store._Cursor.read

    def counted(self: Any) -> Any:
        piece = read(self)
        held.append(tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before)
        return piece

    monkeypatch.setattr(parquet_store._Cursor, "read", counted)
    most = {}
    for n_images in (100, 400):
        path = write(tmp_path / f"{n_images}.parquet", [ballast(number % 200) for number in range(n_images)], rows_a_group=rows_a_group)
        assert path.stat().st_size > n_images * 100_000
        tracemalloc.start()
        before, held[:] = pa.total_allocated_bytes(), []
        source = open_source(path, spec=ImageSpec(6, 5, 1))
        seen = [value for rows in source.batches(64) for value in values(rows)]
        tracemalloc.stop()
        assert seen == [number % 200 for number in range(n_images)]
        most[n_images] = max(held)
    # 32 images are kept in any case, a piece of 4 MiB is turned into as many bytes, and Arrow holds a page (here a mebibyte).
    assert most[100] < 18 * MIB and most[400] < 18 * MIB < 400 * 100_000


@pytest.mark.parametrize("rows_a_group", [7, 1000])
def test_any_order_gives_the_same_images(tmp_path: Path, ballast: Any, monkeypatch: pytest.MonkeyPatch, rows_a_group: int) -> None:
    monkeypatch.setattr(parquet_store, "KEPT_BYTES", 10_000)
    monkeypatch.setattr(parquet_store, "_PIECE_BYTES", 5_000)
    for name, first in (("a", 0), ("b", 100)):
        blobs = [ballast(number, 1000) for number in range(first, first + 100)]
        write(tmp_path / f"{name}.parquet", blobs, rows_a_group=rows_a_group)
    source = open_source(tmp_path)
    order = np.random.default_rng(1).integers(0, 200, 300)  # some twice
    for batch_size in (1000, 64, 1):
        taken = [value for rows in source.take(order).take(np.arange(299, -1, -1)).batches(batch_size) for value in values(rows)]
        assert taken == order[::-1].tolist()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_pass_reads_row_groups_from_their_start_but_once(
    tmp_path: Path, ballast: Any, monkeypatch: pytest.MonkeyPatch, opened: list[int], reverse: bool
) -> None:
    monkeypatch.setattr(parquet_store, "KEPT_BYTES", 5_000)  # of 20,000 in a row group
    monkeypatch.setattr(parquet_store, "_KEPT_ROWS", 10)
    monkeypatch.setattr("insphere.data.stores._N_THREADS", 2)
    monkeypatch.setattr(parquet_store, "_PIECE_BYTES", 2_000)
    path = write(tmp_path / "i.parquet", [ballast(number, 1000) for number in range(200)], rows_a_group=20)
    source = open_source(path, spec=ImageSpec(6, 5, 1))
    assert not opened  # labels and names are read without the images
    source.take(np.arange(200)[:: -1 if reverse else 1]).load()
    # Once each, but for a thread that is held up while the other goes through a whole row group.
    assert set(opened) == set(range(10)) and len(opened) <= 15
    opened.clear()
    source.take([199, 3, 5]).load()
    assert sorted(opened) == [0, 9]


def test_images_of_very_different_sizes(tmp_path: Path, ballast: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_store, "KEPT_BYTES", MIB)
    blobs = [ballast(number % 200, 900_000 if number % 50 == 7 else 100) for number in range(300)]
    rows = open_source(write(tmp_path / "i.parquet", blobs, rows_a_group=1000)).load()
    assert values(rows) == [number % 200 for number in range(300)]


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: Path, ballast: Any, opened: list[int]) -> None:
    path = write(tmp_path / "i.parquet", [ballast(number, 1000) for number in range(30)], rows_a_group=10, label=list(range(30)))
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[at : at + 40] = b"\xff" * 40
    path.write_bytes(data)
    for rows in (open_source(path).load(), open_source(path).take(np.arange(29, -1, -1)).load()):
        assert sorted(values(rows)) == [*range(10), *range(20, 30)] and len(rows.errors) == 10
        assert all("cannot be read from row group 1 of i.parquet" in text for text in rows.errors.values())
    assert opened.count(1) <= 4  # each pass finds the damage once, and does not try again for each row; the first looks at the headers


@pytest.mark.parametrize("n_rows", [20, 10])
def test_a_file_that_changes_under_way_is_told(tmp_path: Path, ballast: Any, n_rows: int) -> None:
    source = open_source(write(tmp_path / "i.parquet", [ballast(1, 100)] * 30, rows_a_group=15))
    write(tmp_path / "i.parquet", [ballast(2, 100)] * n_rows, rows_a_group=15)
    rows = source.load()
    changed = [row for row, text in rows.errors.items() if "has changed since it was opened" in text]
    assert changed == list(range(15 if n_rows == 20 else 0, 30))


def test_a_file_that_vanishes_is_told(tmp_path: Path, ballast: Any) -> None:
    source = open_source(write(tmp_path / "i.parquet", [ballast(1, 100)] * 3, rows_a_group=15))
    (tmp_path / "i.parquet").unlink()
    rows = source.load()
    assert len(rows.errors) == 3 and "No such file" in rows.errors[0]


def test_no_damage_of_a_files_end_ends_the_process(tmp_path: Path) -> None:
    """On some damaged statistics of columns Arrow aborts, so nothing may ask for them: tried in a process of its own."""
    write(tmp_path / "good.parquet", [b"P5 1 1 255 0"] * 4, rows_a_group=2, label=[0, 1, 0, 1])
    script = """
import sys, warnings
from pathlib import Path
from insphere.data import open_source
from insphere.errors import DataError
warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
good = (folder / "good.parquet").read_bytes()
end = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
done = 0
for place in range(end, len(good) - 8):
    damaged = bytearray(good)
    damaged[place] ^= 4
    (folder / "bad.parquet").write_bytes(damaged)
    try:
        source = open_source(folder / "bad.parquet")
        rows = source.load()
        assert len(rows.X) + len(rows.errors) == len(source)
    except DataError:
        pass
    done += 1
print(done)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and int(done.stdout) > 500, done.stderr[-500:]
