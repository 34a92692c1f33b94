"""The file of rows that wait for a look: what stays, what is removed, and what a killed process leaves."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere import verdict_database
from insphere.decision.verdicts import VERDICTS, draw_number, row_id
from insphere.errors import DataError, ParameterError
from insphere.verdict_database import KeptRow, KeptRows, Origin, VerdictDatabase
from insphere.verdict_files import read_verdicts

ORIGIN = Origin("key", "fit")
SHARE = 0.2


def kept(number: int, *, p_value: float = 0.05, **more: object) -> KeptRow:
    name = row_id(number)
    row = KeptRow(name, draw_number(name, "key") < SHARE, None, 1.0 / p_value, p_value, p_value <= 0.05, None, "2030-01-01", b"x")
    return row._replace(**more)


def batch(*rows: KeptRow, origin: Origin = ORIGIN) -> KeptRows:
    return KeptRows(origin, "line", "1", rows)


@pytest.fixture
def database(tmp_path: Path) -> VerdictDatabase:
    return VerdictDatabase(tmp_path / "line.sqlite", SHARE)


def drawn_numbers(count: int) -> list[int]:
    return [number for number in range(20 * count) if kept(number).drawn][:count]


def test_drawn_rows_stay_and_the_oldest_unanswered_others_go(database: VerdictDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_database, "MOST_UNANSWERED", 5)
    rows = [kept(number) for number in range(100)]
    answered = [row.row_id for row in rows if not row.drawn][:2]
    database.add([batch(*rows[:9])])
    assert database.answer(ORIGIN, [(row, "real") for row in answered]) == [(None, None)] * 2
    database.add([batch(*rows[9:50]), batch(*rows[50:])])
    here = {record["row_id"] for record in database.records(ORIGIN)}
    others = [row.row_id for row in rows if not row.drawn]
    assert here == {row.row_id for row in rows if row.drawn} | set(answered) | set(others[-5:])


def test_the_queue_has_drawn_rows_in_their_order_then_those_near_the_threshold(database: VerdictDatabase) -> None:
    drawn = [kept(number, p_value=p) for number, p in zip(drawn_numbers(3), (0.9, 0.01, 0.5), strict=True)]
    others = [number for number in range(40) if not kept(number).drawn]
    far, near, nearest = (kept(number, p_value=p) for number, p in zip(others, (0.001, 0.1, 0.06), strict=False))
    database.add([batch(far, *drawn, near, nearest)])
    queue = database.queue(ORIGIN, 10, 0.05)
    assert queue.rows == [*drawn, nearest, near, far]
    assert database.queue(ORIGIN, 4, 0.05).rows == [*drawn, nearest]
    assert database.queue(ORIGIN, 2, 0.05).rows == drawn[:2]
    assert (queue.n_drawn, queue.n_others, queue.is_full) == (3, 3, False)
    assert database.queue(Origin("key", "another"), 10, 0.05).rows == []


def test_no_more_are_kept_than_may_be_answered(database: VerdictDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_database, "MOST_KEPT", 4)
    numbers = drawn_numbers(6)
    assert database.add([batch(*map(kept, numbers[:3]))]) == set()
    assert database.add([batch(*map(kept, numbers[3:]))]) == {ORIGIN}
    other = next(kept(number) for number in range(100) if not kept(number).drawn)
    assert database.add([batch(other)]) == {ORIGIN}
    assert [record["row_id"] for record in database.records(ORIGIN)] == [row_id(number) for number in numbers[:4]]
    assert database.queue(ORIGIN, 0, 0.05).is_full


def test_pictures_of_answered_rows_go_but_the_latest(database: VerdictDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_database, "_CONTENTS_KEPT", 2)
    numbers = drawn_numbers(5)
    database.add([batch(*map(kept, numbers))])
    for number in numbers[:4]:
        database.answer(ORIGIN, [(row_id(number), "unsure")])
    database.answer(ORIGIN, [(row_id(number), None) for number in numbers])
    assert [row.content for row in database.queue(ORIGIN, 9, 0.05).rows] == [None, None, b"x", b"x", b"x"]


def test_what_was_begun_by_others_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as file:
        file.execute("CREATE TABLE songs (name TEXT)")
    file.close()
    with pytest.raises(DataError, match="of another program"):
        VerdictDatabase(tmp_path / "other.db")
    VerdictDatabase(tmp_path / "line.sqlite", 0.5)
    with pytest.raises(ParameterError, match=r"begun with --draw 0.5, got 0.2: a changed share would break the check"):
        VerdictDatabase(tmp_path / "line.sqlite", 0.2)
    with sqlite3.connect(tmp_path / "line.sqlite") as file:
        file.execute("PRAGMA user_version = 9")
    file.close()
    with pytest.raises(DataError, match="has format 9"):
        VerdictDatabase(tmp_path / "line.sqlite")
    with pytest.raises(DataError, match="folder of"):
        VerdictDatabase(tmp_path / "none" / "line.sqlite")


def test_a_file_with_another_share_in_its_place_is_not_written_to(database: VerdictDatabase) -> None:
    database.path.unlink()
    VerdictDatabase(database.path, 0.5)
    with pytest.raises(DataError, match="replaced by a file with another share"):
        database.add([batch(kept(1))])


def test_a_draw_that_was_changed_in_the_file_is_found(database: VerdictDatabase) -> None:
    database.add([batch(*(kept(number) for number in range(50)))])
    database.answer(ORIGIN, [(kept(0).row_id, "unsure")])
    read_verdicts(database.path, *ORIGIN)
    with sqlite3.connect(database.path) as file:
        file.execute("UPDATE rows SET drawn = 1 - drawn WHERE number % 7 = 0")
    file.close()
    with pytest.raises(DataError, match="not that of a draw by this model"):
        read_verdicts(database.path, *ORIGIN)


@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from([*VERDICTS, None])), max_size=5))
def test_row_ids_are_never_more_than_values(tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str | None]]) -> None:
    database = VerdictDatabase(tmp_path_factory.mktemp("any") / "line.sqlite", SHARE)
    database.add([batch(kept(1))])
    before = database.records(ORIGIN)
    assert all(noted.problem is not None for noted in database.answer(ORIGIN, said))
    assert database.records(ORIGIN) == before


@given(st.data())
def test_a_damaged_file_is_an_error_in_plain_words_or_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    database = VerdictDatabase(folder / "line.sqlite", SHARE)
    database.add([batch(*(kept(number) for number in range(30)))])
    database.answer(ORIGIN, [(kept(number).row_id, "unsure") for number in range(30)])
    content = bytearray(database.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    database.path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for read in (lambda: read_verdicts(database.path, *ORIGIN), lambda: database.queue(ORIGIN, 9, 0.05), lambda: database.add([batch()])):
        try:
            read()
        except DataError as error:
            assert str(database.path) in str(error) or "verdict" in str(error) or "drawn" in str(error)


def test_who_only_reads_needs_no_right_to_write(database: VerdictDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_database, "_PATIENCE", 0.01)
    database.add([batch(kept(1))])
    with sqlite3.connect(database.path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")  # another process is about to write: readers go on, writers are refused
        assert len(VerdictDatabase(database.path).records(ORIGIN)) == 1
        with pytest.raises(DataError, match="locked"):
            database.add([batch(kept(2))])
        writer.execute("ROLLBACK")
    writer.close()


WRITER = """
import sys
from test_verdict_database import batch, kept
from insphere.verdict_database import VerdictDatabase
database = VerdictDatabase(sys.argv[1])
for number in range(10**9):
    database.add([batch(kept(2 * number), kept(2 * number + 1))])
    print(number, flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_every_request_whole(database: VerdictDatabase, tmp_path: Path) -> None:
    places = os.pathsep.join([str(Path(__file__).parent), str(Path(verdict_database.__file__).parent.parent)])
    command = [sys.executable, "-c", WRITER, str(database.path)]
    for attempt in range(2):
        database.path.unlink(missing_ok=True)
        VerdictDatabase(database.path, 1.0 if attempt else SHARE)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": places})
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 5 + attempt:
                break
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        said = [line, *process.stdout]
        process.wait()
        process.stdout.close()
        records = VerdictDatabase(database.path).records(ORIGIN)
        numbers = sorted(int(record["row_id"], 16) for record in records)
        # All that it said it had kept is there, and of the request in hand both rows or none.
        assert numbers == list(range(len(numbers))) and len(numbers) % 2 == 0
        assert len(numbers) // 2 >= 1 + max(int(text) for text in said if text.strip())


def test_a_later_verdict_says_which_one_it_replaces(database: VerdictDatabase) -> None:
    row = kept(drawn_numbers(1)[0])
    database.add([batch(row)])
    answers = [database.answer(ORIGIN, [(row.row_id, word)])[0] for word in ("normal", "normal", "unsure", None)]
    assert [noted.replaced for noted in answers] == [None, None, "normal", "unsure"] and not any(noted.problem for noted in answers)
