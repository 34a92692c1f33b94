"""Three of the four rules of what goes in and comes out, each at every door; the fourth, of graphs, is in export/test_user_rows.py.

1. Whatever is left out is counted and told. 2. A guessed meaning is told, or refused with the remedy. 3. Names and positions survive.
"""

import functools
import io
import json
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

import insphere
from contract import fit_quietly
from data.doors import csv_file, named_array, pandas_frame, parquet_file, parquet_folder, polars_frame
from insphere.data import AbstractSource, open_source
from insphere.detectors.base import AbstractDetector
from insphere.errors import InsphereError
from insphere.export import export_onnx
from insphere.export import graph as onnx_graph
from insphere.serving import make_app
from insphere.watching import Watcher, WatchOptions, open_journal

RNG = np.random.default_rng(0)
GREY = [RNG.integers(0, 256, (9, 8), dtype=np.uint8) for _ in range(24)]
NAMES = ("temp", "volt", "rpm")
X = RNG.normal(size=(200, 3)) * [1, 100, 10_000]

Told = list[tuple[int, str]]
"""What a user is told: of how many rows, files or columns, and the text."""


def png(number: int) -> bytes:
    return _encoded([Image.fromarray(GREY[number])], "PNG")


def two_pages(number: int = 0) -> bytes:
    return _encoded([Image.fromarray(GREY[number]), Image.fromarray(GREY[number + 1])], "TIFF")


def coloured() -> bytes:
    return _encoded([Image.fromarray(RNG.integers(0, 256, (28, 28, 3), dtype=np.uint8))], "PNG")


def _encoded(pages: list[Image.Image], kind: str) -> bytes:
    stream = io.BytesIO()
    pages[0].save(stream, kind, **({"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}))
    return stream.getvalue()


def folder(files: dict[str, bytes], root: Path) -> Any:
    for name, data in files.items():
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / name).write_bytes(data)
    return root / "photos"


def archive(files: dict[str, bytes], root: Path) -> Any:
    with zipfile.ZipFile(root / "photos.zip", "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return root / "photos.zip"


def pattern(files: dict[str, bytes], root: Path) -> Any:
    return str(folder(files, root) / "**" / "*.*")


def paths(files: dict[str, bytes], root: Path) -> Any:
    base = folder(files, root)
    return [base / name for name in files]


def image_table(files: dict[str, bytes], root: Path, **columns: Any) -> Any:
    images = [{"bytes": data, "path": name} for name, data in files.items()]
    pq.write_table(pa.table({"image": images, **columns}), root / "photos.parquet")
    return root / "photos.parquet"


def columns(*names: str) -> dict[str, Any]:
    return {name: X[:, NAMES.index(name)] for name in names}


@functools.cache
def of_columns() -> AbstractDetector:
    return fit_quietly(insphere.KNN(random_state=0), pa.table(columns(*NAMES)))


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> AbstractDetector:
    root = folder({f"{number}.png": png(number) for number in range(20)}, tmp_path_factory.mktemp("images"))
    return fit_quietly(insphere.KNN(random_state=0), root)


def told(source: AbstractSource) -> Told:
    errors = source.load().errors
    return [(notice.count, str(notice)) for notice in source.notices] + ([(len(errors), str(errors))] if errors else [])


def warned(work: Callable[[], Any]) -> Told:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [(0, str(warning.message)) for warning in caught]


def refused(work: Callable[[], Any]) -> Told:
    with pytest.raises((InsphereError, ValueError)) as caught:
        work()
    return [(0, str(caught.value))]


def watched(model: AbstractDetector, place: Path, root: Path) -> tuple[Any, dict[str, Any]]:
    journal = open_journal(root / "scores.csv")
    summary = Watcher(model, place, journal, options=WatchOptions(once=True, poll=0.01, settled_after=0.0)).run(threading.Event())
    return summary, {entry.path: entry for entry in journal.entries()}


def answered(model: AbstractDetector, path: str, **request: Any) -> Any:
    with TestClient(make_app({"m": model})) as client:
        return client.post(path, **request).json()


# ---------------------------------------------------------------- 1. whatever is left out is counted and told


def _left_of_named_set(model: AbstractDetector, root: Path) -> Told:
    (root / "mnist").mkdir()
    images = [{"bytes": coloured(), "path": f"{number}.png"} for number in range(3)]
    pq.write_table(pa.table({"image": images, "label": [8, 8, 1]}), root / "mnist" / "train-0.parquet")
    return told(open_source("mnist:8", split="train", data_dir=root))


def _left_of_model_file(model: AbstractDetector, root: Path) -> Told:
    model.save(root / "m.insphere")
    place = folder({"1.png": png(1), "notes.txt": b"x", "more.txt": b"x"}, root)
    return [(2, text) for _, text in warned(lambda: insphere.load(root / "m.insphere").anomaly_score(place))]


def _left_of_graph(model: AbstractDetector, root: Path) -> Told:
    place = folder({"1.png": png(1), "2.png": png(2), "cut.png": png(3)[:40]}, root)
    return [(1, text) for _, text in warned(lambda: export_onnx(model, root / "m.onnx", rows=place))]


def _left_of_request(model: AbstractDetector, root: Path) -> Told:
    files = [("images", ("a.tif", two_pages())), ("images", ("b.png", png(3))), ("other", ("c.png", png(4)))]
    answer = answered(model, "/models/m/score", files=files, data={"threshold": "3"})
    assert len(answer["results"]) == 2
    return [(notice["count"], notice["text"]) for notice in answer["notices"]]


def _left_of_watch(model: AbstractDetector, root: Path) -> Told:
    files = {"a.tif": two_pages(), "b.png": png(3), "notes.txt": b"x", ".hidden.png": png(4), "day/more.csv": b"x"}
    summary, entries = watched(model, folder(files, root), root)
    assert set(entries) == {"a.tif", "b.png"} and summary.to_json()["notices"]
    return [(notice.count, str(notice)) for notice in summary.notices]


SOME = {"1.png": png(1), "2.png": png(2), "notes.txt": b"x", "more.txt": b"x"}
MISSING = np.where(np.arange(200)[:, None] % 50 == 7, np.nan, X)

LEFT_OUT: dict[str, tuple[Callable[[AbstractDetector, Path], Told], list[tuple[int, str]]]] = {
    "array": (lambda model, root: told(open_source(MISSING)), [(4, "feature 0 is nan")]),
    "frame": (lambda model, root: told(of_columns().open(pandas_frame({"site": X[:, 0], **columns(*NAMES)}, root))), [(1, "site")]),
    "polars": (lambda model, root: told(of_columns().open(polars_frame({"site": X[:, 0], **columns(*NAMES)}, root))), [(1, "site")]),
    "csv": (
        lambda model, root: told(of_columns().open(csv_file({"site": ["a"] * 200, **columns(*NAMES)}, root))),
        [(1, "site")],
    ),
    "parquet": (lambda model, root: told(of_columns().open(parquet_file({"site": X[:, 0], **columns(*NAMES)}, root))), [(1, "site")]),
    "shards": (lambda model, root: told(of_columns().open(parquet_folder({"site": X[:, 0], **columns(*NAMES)}, root))), [(1, "site")]),
    "folder": (lambda model, root: told(model.open(folder(SOME, root))), [(2, ".txt: 2")]),
    "zip": (lambda model, root: told(model.open(archive(SOME, root))), [(2, ".txt: 2")]),
    "glob": (lambda model, root: told(model.open(pattern(SOME, root))), [(2, ".txt: 2")]),
    "list": (lambda model, root: told(model.open(paths({"a.tif": two_pages(), "b.png": png(3)}, root))), [(1, "pages left out: 1")]),
    "image parquet": (
        lambda model, root: told(model.open(image_table({"a.tif": two_pages(), "b.png": png(3)}, root, lot=[1, 2]))),
        [(1, "pages left out: 1"), (1, "lot")],
    ),
    "named set": (_left_of_named_set, [(2, "colours that a grey model does not see")]),
    "model file": (_left_of_model_file, [(2, ".txt: 2")]),
    "onnx": (_left_of_graph, [(1, "1 of 3 rows could not be read and were not compared")]),
    "http": (_left_of_request, [(1, "pages left out: 1"), (2, "not files called images")]),
    "watch": (_left_of_watch, [(1, "pages left out: 1"), (2, ".txt: 1"), (1, "Hidden files")]),
}


@pytest.mark.parametrize("door", LEFT_OUT)
def test_whatever_is_left_out_is_counted_and_told(door: str, of_images: AbstractDetector, tmp_path: Path) -> None:
    ask, expected = LEFT_OUT[door]
    found = ask(of_images, tmp_path)
    for count, words in expected:
        assert [number for number, text in found if words in text] == [count], found


# ---------------------------------------------------------------- 2. a guessed meaning is told, or refused with the remedy


BAD = {f"bad/{number}.png": png(number) for number in range(10)} | {"p/x.png": png(11)}
LABELLED = {**columns(*NAMES), "is_fraud": np.arange(200) % 2}


def _learned(rows: Any) -> Told:
    return refused(lambda: insphere.KNN(random_state=0).fit(rows))


def _guess_of_model_file(model: AbstractDetector, root: Path) -> Told:
    of_columns().save(root / "m.insphere")
    (root / "bare.csv").write_text("\n".join(",".join(map(repr, row)) for row in X.tolist()))
    return told(insphere.load(root / "m.insphere").open(root / "bare.csv"))


def _guess_of_graph(model: AbstractDetector, root: Path) -> Told:
    far = X / [1, 100, 10_000] + [1.7e9, 0, 0]
    detector = fit_quietly(insphere.KNN(random_state=0), far)
    assert export_onnx(detector, root / "m.onnx", rows=far).input_dtype == "float64"
    return refused(lambda: export_onnx(detector, root / "n.onnx", rows=far, vectors="float32"))


def _guess_of_request(model: AbstractDetector, root: Path) -> Told:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 9, 8], "data": GREY[0].ravel().tolist()}
    unnamed = {"columns": ["temp", "volt", "rpn"], "rows": X[:1].tolist()}
    answers = [answered(model, "/v2/models/m/infer", json={"inputs": [tensor]}), answered(of_columns(), "/score", json=unnamed)]
    return [(0, answer["error"]) for answer in answers]


def _guess_of_watch(model: AbstractDetector, root: Path) -> Told:
    files = {"bad/1.png": png(1), "ground_truth/bad/1_mask.png": png(2), "2.png": png(3), "2_mask.png": png(4)}
    summary, entries = watched(model, folder(files, root), root)
    assert set(entries) == {"bad/1.png", "2.png"}
    return [(notice.count, str(notice)) for notice in summary.notices]


GUESSED: dict[str, tuple[Callable[[AbstractDetector, Path], Told], list[str]]] = {
    "array": (lambda model, root: refused(lambda: open_source(np.zeros((20, 3, 32, 32)))), ['channels="first"']),
    "frame": (lambda model, root: _learned(pandas_frame(LABELLED, root)), ["label_column"]),
    "polars": (lambda model, root: _learned(polars_frame(LABELLED, root)), ["label_column"]),
    "csv": (lambda model, root: _learned(csv_file(LABELLED, root)), ["label_column"]),
    "parquet": (lambda model, root: _learned(parquet_file(LABELLED, root)), ["label_column"]),
    "shards": (lambda model, root: _learned(parquet_folder(LABELLED, root)), ["label_column"]),
    "folder": (lambda model, root: _learned(folder(BAD, root)), ["normal_label"]),
    "zip": (lambda model, root: _learned(archive(BAD, root)), ["normal_label"]),
    "glob": (lambda model, root: _learned(pattern(BAD, root)), ["normal_label"]),
    "list": (lambda model, root: _learned(paths(BAD, root)), ["normal_label"]),
    "image parquet": (
        lambda model, root: _learned(image_table({f"{row}.png": png(row) for row in range(12)}, root, label=[0, 1] * 6)),
        ["normal_label"],
    ),
    "named set": (lambda model, root: refused(lambda: open_source("digits")), ["write digits:CLASS"]),
    "model file": (_guess_of_model_file, ["by position"]),
    "onnx": (_guess_of_graph, ["--vectors float64"]),
    "http": (_guess_of_request, ["The shape of images must be [n, 9, 8, 1]", "missing: rpm; unknown: rpn"]),
    "watch": (_guess_of_watch, ["taken as masks"]),
}


@pytest.mark.parametrize("door", GUESSED)
def test_a_guessed_meaning_is_told_or_refused_with_the_remedy(door: str, of_images: AbstractDetector, tmp_path: Path) -> None:
    ask, expected = GUESSED[door]
    found = ask(of_images, tmp_path)
    for words in expected:
        assert any(words in text for _, text in found), found


# ---------------------------------------------------------------- 3. names and positions survive


ORDER = ("rpm", "temp", "volt")
SHUFFLED = np.random.default_rng(3).permutation(20)

Pair = tuple[Any, Any]
"""What a door gives, and what it must give."""


def _by_columns(door: Any) -> Callable[[AbstractDetector, Path], Pair]:
    return lambda model, root: (of_columns().anomaly_score(door(columns(*ORDER), root)), of_columns().anomaly_score(X))


def _by_ids(door: Any) -> Callable[[AbstractDetector, Path], Pair]:
    """Return what asks for the scores of images, in whatever order, by the number in each one's name."""

    def ask(model: AbstractDetector, root: Path) -> Pair:
        source = model.open(door({f"line{number % 3}/{number}.png": png(number) for number in SHUFFLED.tolist()}, root))
        return _numbered(source.ids or (), model.anomaly_score(source)), _scores_of_pixels(model)

    return ask


def _numbered(names: Any, scores: Any) -> NDArray[Any]:
    by_number = {int(Path(name).stem): score for name, score in zip(names, scores, strict=True)}
    return np.array([by_number[number] for number in range(20)])


def _scores_of_pixels(model: AbstractDetector) -> NDArray[np.float64]:
    return model.anomaly_score(np.stack(GREY[:20])[..., None])


def _positions_of_array(model: AbstractDetector, root: Path) -> Pair:
    groups = [f"film {row // 4}" for row in range(200)]
    labelled = pd.Series(groups, index=np.arange(200)[::-1])
    return tuple(fit_quietly(insphere.KNN(random_state=0), X, groups=each).decision_.calibration.scores for each in (labelled, groups))  # type: ignore[return-value]


def _positions_of_named_set(model: AbstractDetector, root: Path) -> Pair:
    source = open_source("digits:3")
    order = np.random.default_rng(0).permutation(len(source))
    types = np.array(source.types)
    return (source.take(order).types, *source.take(order).labels), (tuple(types[order]), *(types[order] != "3").astype(int))  # type: ignore[misc]


def _names_of_model_file(model: AbstractDetector, root: Path) -> Pair:
    of_columns().save(root / "m.insphere")
    loaded = insphere.load(root / "m.insphere")
    assert loaded.feature_names_ == list(NAMES)
    return loaded.anomaly_score(csv_file(columns(*ORDER), root)), of_columns().anomaly_score(X)


def _names_of_graph(model: AbstractDetector, root: Path) -> Pair:
    export_onnx(of_columns(), root / "m.onnx", rows=csv_file(columns(*ORDER), root), vectors="float64")
    session = onnx_graph.session((root / "m.onnx").read_bytes())
    names = json.loads(session.get_modelmeta().custom_metadata_map["input"])["feature_names"]
    scores = session.run(["anomaly_score"], {"x": np.column_stack([X[:, NAMES.index(name)] for name in names])})[0]
    return [names, *np.round(scores, 6)], [list(NAMES), *np.round(of_columns().anomaly_score(X), 6)]


def _names_of_request(model: AbstractDetector, root: Path) -> Pair:
    body = {"columns": list(ORDER), "rows": X[:, [2, 0, 1]].tolist()}
    found = answered(of_columns(), "/score", json=body)["results"]
    uploads = [("images", (f"{number}.png", png(number))) for number in SHUFFLED.tolist()]
    results = answered(model, "/score", files=uploads)["results"]
    photos = _numbered([result["name"] for result in results], [result["anomaly_score"] for result in results])
    expected = [*of_columns().anomaly_score(X), *_scores_of_pixels(model)]
    return [*(result["anomaly_score"] for result in found), *photos], expected


def _names_of_watch(model: AbstractDetector, root: Path) -> Pair:
    place = folder({f"line{number % 3}/{number}.png": png(number) for number in SHUFFLED.tolist()}, root)
    _, entries = watched(model, place, root)
    assert set(entries) == set(model.open(place).ids or ())
    return _numbered(entries, [entry.anomaly_score for entry in entries.values()]), _scores_of_pixels(model)


KEPT: dict[str, Callable[[AbstractDetector, Path], Pair]] = {
    "array": _positions_of_array,
    "named array": _by_columns(named_array),
    "frame": _by_columns(pandas_frame),
    "polars": _by_columns(polars_frame),
    "csv": _by_columns(csv_file),
    "parquet": _by_columns(parquet_file),
    "shards": _by_columns(parquet_folder),
    "folder": _by_ids(folder),
    "zip": _by_ids(archive),
    "glob": _by_ids(pattern),
    "list": _by_ids(paths),
    "image parquet": _by_ids(image_table),
    "named set": _positions_of_named_set,
    "model file": _names_of_model_file,
    "onnx": _names_of_graph,
    "http": _names_of_request,
    "watch": _names_of_watch,
}


@pytest.mark.parametrize("door", KEPT)
def test_names_and_positions_survive(door: str, of_images: AbstractDetector, tmp_path: Path) -> None:
    found, expected = KEPT[door](of_images, tmp_path)
    np.testing.assert_equal(found, expected)
