"""What is appended comes back, in every format; what was cut off in the middle is dropped and nothing else."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insphere.errors import DataError, ParameterError
from insphere.output_file import OutputError
from insphere.visible import one_line
from insphere.watching import journal as module
from insphere.watching.journal import JOURNAL_SUFFIXES, Entry, open_journal

TEXTS = st.text(min_size=1, max_size=20).map(one_line)
SCORED = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.booleans(), st.none())
FAILED = st.tuples(st.none(), st.none(), st.none(), TEXTS)
ENTRIES = st.builds(
    lambda path, answer, size, time: Entry(path, *answer, size, time, "2030-01-01T00:00:00+00:00"),
    TEXTS,
    st.one_of(SCORED, FAILED),
    st.integers(0, 2**40),
    st.integers(0, 2**62),
)


def entry(number: int) -> Entry:
    return Entry(f'{number}, "ü".png', number / 3, 0.5, number % 2 == 0, None, number, 10**18 + number, "2030-01-01T00:00:00+00:00")


@pytest.fixture(params=JOURNAL_SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"scores{request.param}"


@given(batches=st.lists(st.lists(ENTRIES, min_size=1, max_size=4), max_size=4))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_entries_come_back_as_they_were(path: Path, tmp_path_factory: pytest.TempPathFactory, batches: list[list[Entry]]) -> None:
    path = tmp_path_factory.mktemp("journal") / path.name
    for batch in batches:
        open_journal(path).append(batch)
    assert list(open_journal(path).entries()) == [entry for batch in batches for entry in batch]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_cut_at_any_byte_the_complete_lines_stay(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    open_journal(whole).append([entry(1), entry(2)])
    content = whole.read_bytes()
    for length in {*range(0, len(content), 9), *range(len(content) - 5, len(content) + 1)}:
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(content[:length])
        found = list(open_journal(cut).entries())
        assert found == [entry(1), entry(2)][: len(found)]
        open_journal(cut).append([entry(3)])
        assert list(open_journal(cut).entries()) == [*found, entry(3)]


def test_a_refused_write_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = tmp_path / "scores.csv"
    journal = open_journal(path)
    journal.append([entry(1)])
    real, calls = os.write, []

    def full_disk(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:5])

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        journal.append([entry(2)])
    assert list(journal.entries()) == [entry(1)]


def test_parquet_parts_are_one_table_and_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PARTS_TO_MERGE", 4)
    path = tmp_path / "scores.parquet"
    journal = open_journal(path)
    for number in range(30):
        journal.append([entry(number)])
    assert pq.read_table(path)["n_bytes"].to_pylist() == list(range(30))
    assert len(list(path.iterdir())) < 15
    assert list(open_journal(path).entries()) == [entry(number) for number in range(30)]


def test_a_merge_that_was_cut_off_leaves_no_row_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PARTS_TO_MERGE", 4)
    path = tmp_path / "scores.parquet"
    journal = open_journal(path)
    for number in range(3):
        journal.append([entry(number)])
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # killed after the merged part was written
    journal.append([entry(3)])
    monkeypatch.undo()
    assert len(list(path.glob("rows-*"))) == 5
    again = open_journal(path)
    assert list(again.entries()) == [entry(number) for number in range(4)]
    again.clean_up()
    assert len(list(path.glob("rows-*"))) == 1
    assert list(again.entries()) == [entry(number) for number in range(4)]


def test_opening_a_journal_takes_nothing_from_a_watch_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second watch opens the journal before it finds it locked: amid a merge of the first, parts look left over that it still reads."""
    monkeypatch.setattr(module, "_PARTS_TO_MERGE", 4)
    path = tmp_path / "scores.parquet"
    journal = open_journal(path)
    for number in range(3):
        journal.append([entry(number)])
    unlink, found = Path.unlink, []

    def opened_meanwhile(part: Path, missing_ok: bool = False) -> None:
        found.append(len(list(open_journal(path).entries())))
        unlink(part, missing_ok)

    monkeypatch.setattr(Path, "unlink", opened_meanwhile)
    journal.append([entry(3)])
    assert found[-4:] == [4] * 4  # the last four removed are the parts that were merged
    assert list(journal.entries()) == [entry(number) for number in range(4)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"path,score\nx,1\ny,2"),
        ("a.csv", b"my only notes"),
        ("a.csv", b"\xff\xfe\n"),
        ("a.jsonl", b'{"path": "x"}\n{"path": "y"}'),
        ("a.jsonl", b"\x00\xff\n"),
        ("a.jsonl", b"[1]"),
    ],
)
def test_foreign_files_are_refused_and_kept(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="was not written by insphere watch"):
        list(open_journal(tmp_path / name).entries())
    assert (tmp_path / name).read_bytes() == content


def test_a_parquet_file_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="nothing can be appended"):
        open_journal(tmp_path / "one.parquet")
    with pytest.raises(ParameterError, match="Did you mean '.jsonl'"):
        open_journal(tmp_path / "scores.json")
    with pytest.raises(OutputError, match="does not exist"):
        open_journal(tmp_path / "no" / "scores.csv")
