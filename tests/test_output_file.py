"""Files are complete or not there."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from insphere.output_file import OutputError, check_writable, make_folder, output_errors, replacing


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


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.txt") as handle:
            handle.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


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
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        (tmp_path / "file").write_text("")
        check_writable(tmp_path / "file" / "m.insphere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OutputError, match="device, pipe or socket"):
            check_writable(tmp_path / "s")


def test_a_folder_that_takes_no_file_is_refused() -> None:
    # /proc takes no new file even from root, whom permissions do not stop.
    if not Path("/proc").is_dir():
        pytest.skip("needs a /proc file system")
    with pytest.raises(OutputError, match=r"Cannot write /proc/m\.insphere: .*Nothing was left there"):
        check_writable("/proc/m.insphere")


def test_make_folder_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write .*demo: File exists"):
        make_folder(tmp_path / "demo")


def test_own_errors_pass_through_unchanged() -> None:
    original = OutputError("as it was")
    with pytest.raises(OutputError) as caught, output_errors("elsewhere"):
        raise original
    assert caught.value is original


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes")
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))
from insphere.output_file import OutputError, replacing
try:
    with replacing({str(tmp_path / "big")!r}) as handle:
        handle.write(bytes(6000))
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Cannot write" in done.stdout
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []
