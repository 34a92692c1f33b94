"""A file counts as arrived when it is complete, once in each version."""

import os
from pathlib import Path

import pytest

from insphere.errors import DataError
from insphere.watching.arrivals import Arrival, Arrivals


def arrivals(folder: Path, **options: object) -> Arrivals:
    return Arrivals(folder, (".png", ".jpg"), settled_after=60.0, **options)


def names(found: list[Arrival]) -> list[str]:
    return [arrival.name for arrival in found]


def test_a_file_that_grows_is_waited_for(tmp_path: Path) -> None:
    watched, path = arrivals(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    assert names(watched.look()) == [] and watched.n_unsettled == 1
    path.write_bytes(b"12")
    assert names(watched.look()) == []
    assert names(watched.look()) == ["a.png"] and watched.n_unsettled == 0


def test_an_old_file_is_taken_at_once_and_a_clock_ahead_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"1")
    (tmp_path / "future.png").write_bytes(b"1")
    os.utime(tmp_path / "old.png", (1000, 1000))
    os.utime(tmp_path / "future.png", (2**34, 2**34))
    watched = arrivals(tmp_path)
    assert names(watched.look()) == ["old.png"]
    assert names(watched.look()) == ["old.png", "future.png"]


def test_a_renamed_file_arrives_under_its_last_name(tmp_path: Path) -> None:
    watched = arrivals(tmp_path)
    (tmp_path / "a.png.part").write_bytes(b"1")
    (tmp_path / ".a.png").write_bytes(b"1")
    assert names(watched.look()) == [] and watched.n_unsettled == 0
    os.utime(tmp_path / "a.png.part", (1000, 1000))
    (tmp_path / "a.png.part").rename(tmp_path / "a.PNG")
    assert names(watched.look()) == ["a.PNG"]


def test_a_scored_version_is_not_seen_again_and_a_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    watched = arrivals(tmp_path)
    watched.look()
    (found,) = watched.look()
    assert found.name == "deep/er/a.jpg" and found.is_unchanged()
    watched.mark(found.name, found.version)
    assert watched.look() == []
    path.write_bytes(b"12")
    assert not found.is_unchanged() and watched.look() == []
    assert names(watched.look()) == ["deep/er/a.jpg"]
    path.unlink()
    assert not found.is_unchanged() and watched.look() == []


def test_the_journal_links_without_end_and_folders_named_like_images_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scores.png").mkdir()
    (tmp_path / "scores.png" / "part.png").write_bytes(b"1")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    watched = arrivals(tmp_path, ignored=tmp_path / "scores.png", clock=lambda: 2.0**40)
    assert watched.look() == []


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be listed"):
        arrivals(tmp_path / "gone").look()
