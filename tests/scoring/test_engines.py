"""Daft, Ray and an object store: the same bits as on this machine; skipped with a reason where they are not installed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from insphere.errors import DataError
from insphere.scoring import BulkOptions, score_in_bulk
from insphere.scoring.places import file_system, list_images, pattern_expression
from scoring.conftest import N_BROKEN, N_READABLE


def rows_of(folder: Path | str) -> list[dict[str, Any]]:
    return sorted(ds.dataset(folder, format="parquet").to_table().to_pylist(), key=lambda row: row["path"])


@pytest.fixture(scope="module")
def on_this_machine(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("local") / "scores"
    score_in_bulk(model, photos, folder, BulkOptions(n_workers=0))
    return rows_of(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the engines warn of is theirs
@pytest.mark.parametrize("engine", ["daft", "ray"])
def test_an_engine_gives_the_same_rows(
    engine: str, model: Path, photos: Path, tmp_path: Path, on_this_machine: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(engine, reason=f"the engine {engine} is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]))
    options = BulkOptions(engine, n_workers=2)
    done = score_in_bulk(model, photos / "line0", tmp_path / "first", options)
    assert (done.n_scored, done.n_errors) == (20, 1)
    done = score_in_bulk(model, photos, tmp_path / "scores", options)
    assert (done.n_scored, done.n_errors) == (N_READABLE, N_BROKEN)
    assert rows_of(tmp_path / "scores") == on_this_machine
    assert score_in_bulk(model, photos, tmp_path / "scores", options).n_before == N_READABLE + N_BROKEN


@pytest.fixture(scope="module")
def store(photos: Path) -> Iterator[str]:
    """A bucket with the photos, on this machine; the links that lead nowhere stay behind."""
    server = pytest.importorskip("moto.server", reason="moto, a stand-in for S3, is not installed")
    boto3 = pytest.importorskip("boto3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="plant")
        for path in photos.rglob("*"):
            if path.is_file():
                client.put_object(Bucket="plant", Key=f"photos/{path.relative_to(photos).as_posix()}", Body=path.read_bytes())
        yield "s3://plant"
        running.stop()


@pytest.mark.filterwarnings("ignore")
def test_an_object_store_is_read_and_written(
    store: str, model: Path, tmp_path: Path, on_this_machine: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = score_in_bulk(model, f"{store}/photos/**/*.*", f"{store}/scores", BulkOptions(n_workers=0, rows_per_part=20))
    assert (done.n_scored, done.n_errors) == (N_READABLE, 2)
    assert "Masks" in " ".join(map(str, done.notices))
    system, path = file_system(f"{store}/scores")
    found = ds.dataset(path, filesystem=system, format="parquet").to_table()
    unversioned = ("path", "anomaly_score", "p_value", "is_anomaly", "error")
    rows = sorted(found.select(unversioned).to_pylist(), key=lambda row: row["path"])
    expected = [{name: row[name] for name in unversioned} for row in on_this_machine if row["path"] != "line2/gone.png"]
    assert rows == expected
    again = score_in_bulk(model, f"{store}/photos", f"{store}/scores", BulkOptions(n_workers=0))
    assert (again.n_before, again.n_scored) == (62, 0)
    with pytest.raises(DataError, match="no image"):
        score_in_bulk(model, f"{store}/photos/*.gif", tmp_path / "none")


@pytest.mark.filterwarnings("ignore")
def test_an_object_that_goes_between_listing_and_reading_is_an_error_row(store: str, model: Path, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="plant", Key="brief/1.png", Body=b"")
    from insphere.scoring.scorer import Chunk, Scorer, Task

    scorer = Scorer(Task((str(model),), f"{store}/brief"))
    rows = scorer.score(Chunk(["1.png", "2.png"], [0, 10], [0, 0])).to_pylist()
    assert "not an image" in rows[0]["error"]
    assert "not exist" in rows[1]["error"]


def test_listing_of_a_store_that_fsspec_knows(photos: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    memory = fsspec.filesystem("memory")
    for name in ("a/1.png", "a/b/2.png", "a/note.txt", "a/.hidden/3.png"):
        memory.pipe(f"/shelf/{name}", b"12345")
    found = list_images("memory://shelf/a/**/*")
    assert (found.base, found.names, found.n_bytes.tolist()) == ("memory://shelf/a", ["1.png", "b/2.png"], [5, 5])
    assert list_images("memory://shelf").names == ["a/1.png", "a/b/2.png"]


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(DataError, match="environment") as refused:
        list_images("s3://key:secret@plant/photos")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.png", "1.png", True),
        ("*.png", "a/1.png", False),
        ("**/*.png", "1.png", True),
        ("**/*.png", "a/b/1.png", True),
        ("a/**", "a/b/1.png", True),
        ("line?/1.png", "line1/1.png", True),
        ("line?/1.png", "line/1.png", False),
        ("line[12]/1.png", "line2/1.png", True),
        ("line[!12]/1.png", "line2/1.png", False),
        ("line[!12]/1.png", "line3/1.png", True),
        ("a+b/(1).png", "a+b/(1).png", True),
    ],
)
def test_patterns_mean_what_they_do_on_this_machine(pattern: str, name: str, matches: bool) -> None:
    assert (pattern_expression(pattern).fullmatch(name) is not None) == matches


def test_a_part_has_the_columns_that_are_promised(model: Path, photos: Path, tmp_path: Path) -> None:
    score_in_bulk(model, photos / "line0" / "000.png", tmp_path / "scores", BulkOptions(n_workers=0))
    [part] = (tmp_path / "scores").glob("*.parquet")
    names = ["path", "n_bytes", "modified_ns", "anomaly_score", "p_value", "is_anomaly", "error"]
    assert pq.read_schema(part).names == names
