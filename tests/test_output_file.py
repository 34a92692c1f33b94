"""Files are complete or not there."""

import errno
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from insphere import output_file
from insphere.errors import InsphereError
from insphere.output_file import OutputError, append_whole, check_writable, drop_torn_end, locked, make_folder, replacing


def test_the_content_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as handle:
        handle.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as handle:
        handle.write(b"new")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_of_a_new_file_follow_the_umask(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a.txt") as handle:
            handle.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == expected


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o444, 0o755])
def test_an_overwritten_file_keeps_its_permissions_from_the_first_byte(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    path.chmod(mode)
    with replacing(path) as handle:
        handle.write(b"secret")
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()} == {mode}
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"secret"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_what_replaces_a_private_file_was_never_public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.touch(mode=0o600)
    monkeypatch.delattr(Path, "chmod")  # set as the file is made, not a moment later
    with replacing(path) as handle:
        handle.write(b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_through_a_link_the_file_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "there" / "a.txt")
    for content in (b"created", b"replaced"):
        with replacing(link) as handle:
            handle.write(content)
        assert link.is_symlink() and (tmp_path / "there" / "a.txt").read_bytes() == content
    assert os.listdir(tmp_path / "there") == ["a.txt"]


def test_a_link_into_a_missing_folder_names_that_folder(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "missing" / "a.txt")
    with pytest.raises(OutputError, match=r"the folder .*missing does not exist"), replacing(tmp_path / "link.txt"):
        pass


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputError, match="Too many levels of symbolic links"), replacing(tmp_path / "loop"):
        pass


KILLED = """
import os, signal, sys
from insphere.output_file import replacing
with replacing(sys.argv[1]) as handle:
    handle.write(b"half")
    handle.flush()
    print("written", flush=True)
    if sys.argv[2] == "waits":
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def a_new_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insphere.output_file._swept", {})


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by other means there")
def test_what_a_killed_process_left_is_removed_by_the_next_run_and_nothing_else(tmp_path: Path, a_new_run: None) -> None:
    path = tmp_path / "scores.csv"
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "model.insphere"), "dies"], check=False, stdout=subprocess.DEVNULL)
    (killed,) = tmp_path.iterdir()
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path), "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        assert alive.stdout is not None and alive.stdout.readline() == b"written\n"
        (held,) = set(tmp_path.iterdir()) - {killed}
        foreign = [tmp_path / name for name in (".insphere-notes.partial", "0123456789ab.partial")]
        link = tmp_path / ".insphere-0123456789ab-0123456789ab.partial"
        link.symlink_to(foreign[0])
        for leftover in foreign:
            leftover.touch()
            age(leftover, 9000)
        for seconds in (9000, -9000):  # whatever the clock says
            age(held, seconds)
        check_writable(path)
        assert killed.exists()  # too young: its writer might be about to lock it
        age(killed, 60)
        output_file._swept.clear()
        check_writable(path)
        assert set(tmp_path.iterdir()) == {held, link, *foreign}
        alive.kill()
    output_file._swept.clear()
    with replacing(path) as handle:
        handle.write(b"whole")
    assert set(tmp_path.iterdir()) == {path, link, *foreign}


def test_where_files_cannot_be_locked_only_what_is_old_is_removed(tmp_path: Path, a_new_run: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insphere.output_file._lock", lambda descriptor: None)
    old, young = (tmp_path / f".insphere-0123456789ab-00000000000{number}.partial" for number in range(2))
    for leftover, seconds in ((old, 3700), (young, 3500)):
        leftover.touch()
        age(leftover, seconds)
    check_writable(tmp_path / "x.csv")
    assert set(tmp_path.iterdir()) == {young}


def test_a_failed_write_cleans_up_after_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "model.insphere"
    with pytest.raises(ValueError), replacing(path) as handle:
        handle.write(b"half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_the_longest_legal_name_works(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".csv")
    check_writable(path)
    with replacing(path) as handle:
        handle.write(b"x")
    assert path.exists()


def test_check_writable_leaves_no_trace(tmp_path: Path) -> None:
    assert check_writable(str(tmp_path / "m.insphere")) == tmp_path / "m.insphere"
    assert os.listdir(tmp_path) == []


def test_check_writable_refuses(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*missing does not exist.*mkdir"):
        check_writable(tmp_path / "missing" / "m.insphere")
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="A part of the path is a file"):
        (tmp_path / "file").write_text("")
        check_writable(tmp_path / "file" / "m.insphere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OutputError, match="device, pipe or socket"):
            check_writable(tmp_path / "s")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")
def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    for path in ("/dev/null", tmp_path / "link"):
        with pytest.raises(OutputError, match="device, pipe or socket"), replacing(path):
            pass
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_null_character_in_the_name_is_refused() -> None:
    for attempt in (check_writable, lambda path: replacing(path).__enter__()):
        with pytest.raises(OutputError, match=r"'a\\x00b': embedded null.*Choose another name"):
            attempt("a\0b")


def test_a_folder_that_takes_no_file_is_refused() -> None:
    # /proc takes no new file even from root, whom permissions do not stop.
    if not Path("/proc").is_dir():
        pytest.skip("needs a /proc file system")
    with pytest.raises(OutputError, match=r"Cannot write /proc/m\.insphere: .*Nothing half-written was left there"):
        check_writable("/proc/m.insphere")


def test_make_folder_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write .*demo: File exists"):
        make_folder(tmp_path / "demo")


def test_own_errors_pass_through_unchanged(tmp_path: Path) -> None:
    original = OutputError("as it was")
    with pytest.raises(OutputError) as caught, replacing(tmp_path / "a.txt"):
        raise original
    assert caught.value is original


@pytest.mark.parametrize("n_bytes", [6000, 6_000_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, n_bytes: int) -> None:
    # The smaller content fails where the block ends, the larger one at the write itself.
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes")
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))
from insphere.output_file import OutputError, replacing
try:
    with replacing({str(tmp_path / "big")!r}) as handle:
        handle.write(bytes({n_bytes}))
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "big: File too large. The disk or a limit of this account allows no file that large" in done.stdout
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_block_that_is_not_about_the_file_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt") as handle:
        handle.write(Path(tmp_path / "missing").read_bytes())
    assert os.listdir(tmp_path) == []


def test_append_adds_all_or_nothing_and_needs_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with pytest.raises(OutputError, match="Cannot write"):
        append_whole(path, b"x")
    path.write_bytes(b"one\n")
    append_whole(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OutputError, match="I/O error"):
        append_whole(path, b"three\n")
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize(("content", "left"), [(b"", b""), (b"torn", b""), (b"one\n", b"one\n"), (b"one\n\ntorn", b"one\n\n")])
def test_a_torn_end_is_dropped(content: bytes, left: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(content)
    assert drop_torn_end(tmp_path / "journal") == len(content) - len(left)
    assert (tmp_path / "journal").read_bytes() == left


def test_a_lock_keeps_others_out_until_its_block_ends(tmp_path: Path) -> None:
    busy = InsphereError("Another one writes here; wait for it.")
    with locked(tmp_path / "lock", busy):
        with pytest.raises(InsphereError, match="Another one") as caught, locked(tmp_path / "lock", busy):
            pass
        assert caught.value is busy
    with locked(tmp_path / "lock", busy):
        pass
    with pytest.raises(OutputError, match="Cannot write"), locked(tmp_path, busy):
        pass
