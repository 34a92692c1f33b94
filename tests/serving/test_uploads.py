"""Bodies from outside: whatever the bytes, rows or a refusal come out."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import insphere
from insphere.detectors.base import AbstractDetector
from insphere.serving.answers import Refusal
from insphere.serving.inference import InferRequest
from insphere.serving.models import ServedModel
from insphere.serving.uploads import Upload, decode_uploads, read_json, read_multipart, read_rows
from serving.conftest import digits, encoded, fitted

TYPE = "multipart/form-data; boundary=frontier"
DATA = st.binary(max_size=200).filter(lambda data: b"--frontier" not in data)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["rows", "inputs", "name", "shape", "data", "columns", "id"]), inner)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def served_images(images: AbstractDetector) -> ServedModel:
    return ServedModel("digits", "1", images, max_rows=16)


@pytest.fixture(scope="module")
def served_vectors(vectors: AbstractDetector) -> ServedModel:
    return ServedModel("sensors", "1", vectors, max_rows=16)


def form(parts: list[tuple[bytes, bytes]]) -> bytes:
    head = b'--frontier\r\nContent-Disposition: form-data; name="images"; filename="%s"\r\n\r\n'
    return b"".join(head % name + data + b"\r\n" for name, data in parts) + b"--frontier--\r\n"


@given(st.lists(DATA, min_size=1, max_size=5))
def test_a_form_gives_back_the_bytes_that_were_put_in(files: list[bytes]) -> None:
    assert [upload.data for upload in read_multipart(form([(b"a.png", data) for data in files]), TYPE, 10).images] == files


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_form_of_any_bytes_is_read_or_refused(noise: bytes, cut: int) -> None:
    whole = form([(b"a.png", b"abc"), (b"b.png", noise)])
    for body in (noise, whole[:cut], whole[:cut] + noise + whole[cut:]):
        try:
            uploads = read_multipart(body, TYPE, 10).images
        except Refusal as refusal:
            assert refusal.status in (400, 422)
        else:
            assert all(isinstance(upload.data, bytes) for upload in uploads)


@given(st.text(st.characters(codec="latin-1"), max_size=60))  # as servers hand headers on
def test_content_types_of_any_text_are_read_or_refused(text: str) -> None:
    try:
        read_multipart(form([(b"a", b"b")]), f"multipart/form-data; {text}", 10)
    except Refusal as refusal:
        assert refusal.status in (400, 422)


def test_a_cut_form_is_refused_at_every_place() -> None:
    body = form([(b"a.png", b"abc"), (b"b.png", b"def")])
    for cut in range(len(body) - 4):
        with pytest.raises(Refusal):
            read_multipart(body[:cut], TYPE, 10)


def test_too_many_files_are_refused() -> None:
    with pytest.raises(Refusal, match="limit of 2"):
        read_multipart(form([(b"a", b"")] * 3), TYPE, 2)


@given(data=st.binary(max_size=300), place=st.integers(0, 200))
def test_images_of_any_bytes_are_decoded_or_say_why(served_images: ServedModel, data: bytes, place: int) -> None:
    good = digits(1)[0]
    damaged = good[:place] + data + good[place + len(data) :]
    decoded = decode_uploads([Upload(None, data), Upload(None, damaged), Upload(None, good)], served_images, 1000, 10_000)
    assert len(decoded.X) == 3 - len(decoded.errors)
    assert 2 not in decoded.errors
    assert decoded.X.shape[1:] == (8, 8, 1)


@given(value=JSON)
def test_json_of_any_shape_is_read_or_refused(served_images: ServedModel, served_vectors: ServedModel, value: Any) -> None:
    body = json.dumps(value).encode()
    for read in (
        lambda: read_rows(body, served_vectors),
        lambda: InferRequest(body, served_vectors),
        lambda: InferRequest(body, served_images),
    ):
        with pytest.raises(Refusal) as refused:
            read()
        assert refused.value.status in (400, 422)


@given(st.binary(max_size=100))
def test_json_of_any_bytes_is_read_or_refused(body: bytes) -> None:
    try:
        read_json(body)
    except Refusal as refusal:
        assert refusal.status in (400, 422)


@given(rows=st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1, max_size=16))
def test_rows_keep_every_bit(served_vectors: ServedModel, rows: list[list[float]]) -> None:
    assert read_rows(json.dumps({"rows": rows}).encode(), served_vectors).tolist() == rows
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(rows), 3], "data": rows}
    assert InferRequest(json.dumps({"inputs": [tensor]}).encode(), served_vectors).X.tolist() == rows


@pytest.mark.parametrize("field", ["rows", "data"])
def test_rows_go_by_the_names_of_their_columns(served_vectors: ServedModel, field: str) -> None:
    expected = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    by_columns = {"columns": ["drift", "heat", "hum"], field: [[3, 1, 2], [6, 4, 5]]}
    by_objects = {field: [{"hum": 2, "drift": 3, "heat": 1}, {"heat": 4, "hum": 5, "drift": 6}]}
    for content in (by_columns, by_objects):
        assert read_rows(json.dumps(content).encode(), served_vectors).tolist() == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"columns": ["heat", "hum"], "rows": [[1, 2]]}, "missing: drift"),
        ({"columns": ["heat", "hum", "drit"], "rows": [[1, 2, 3]]}, "missing: drift; unknown: drit. Did you mean 'drift'?"),
        ({"columns": ["heat", "hum", "drift", "x"], "rows": [[1, 2, 3, 4]]}, "unknown: x"),
        ({"columns": ["heat", "hum", "drift", "heat"], "rows": [[1, 2, 3, 4]]}, "there twice"),
        ({"columns": "heat", "rows": [[1, 2, 3]]}, "list of names"),
        ({"columns": [1, 2, 3], "rows": [[1, 2, 3]]}, "list of names"),
        ({"rows": [{"heat": 1, "hum": 2}]}, "Row 0 must have the features heat, hum, drift; missing: drift"),
        ({"rows": [[1, 2, 3]], "data": [[1, 2, 3]]}, "both rows and data"),
        ({"rows": [[1, None, 3]]}, "must be a number"),
        ({"row": [[1, 2, 3]], "data": [[1, 2, 3]]}, "unknown field 'row'"),
    ],
)
def test_columns_that_do_not_fit_are_named(served_vectors: ServedModel, content: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_rows(json.dumps(content).encode(), served_vectors)
    assert caught.value.status == 422 and message in str(caught.value)


def test_columns_of_a_model_without_names_and_features_that_may_be_missing() -> None:
    X = np.random.default_rng(0).normal(size=(120, 3))
    X[::7, 1] = np.nan
    model = ServedModel("filled", "1", fitted(insphere.KNN(random_state=0, missing="impute"), X), max_rows=4)
    assert model.input_shape == (3,) and model.describe()["input"]["shape"] == [3]
    rows = read_rows(b'{"rows": [[0.1, null, 0.2]]}', model)
    assert np.isnan(rows[0, 1]) and np.isfinite(model.score(rows).anomaly_score).all()
    with pytest.raises(Refusal, match="must be a number"):
        read_rows(b'{"rows": [[null, 1, 0.2]]}', model)
    with pytest.raises(Refusal, match="without names"):
        read_rows(b'{"columns": ["a", "b", "c"], "rows": [[1, 1, 0.2]]}', model)


def test_what_a_request_costs_is_bounded_before_it_is_read(served_images: ServedModel, served_vectors: ServedModel) -> None:
    tiny = b'--frontier\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    assert len(read_multipart(tiny * 100 + form([(b"a.png", b"x")]), TYPE, 1).images) == 1
    for body in (tiny * 102 + b"--frontier--\r\n", tiny * 500_000):
        with pytest.raises(Refusal, match="100 other fields"):
            read_multipart(body, TYPE, 1)
    with pytest.raises(Refusal) as caught:
        read_multipart(b"--frontier\r\n" + b"a: b\r\n" * 9 + b"\r\n\r\n--frontier--\r\n", TYPE, 1)
    assert caught.value.status == 400
    with pytest.raises(Refusal, match="more than 70 bytes") as caught:
        read_multipart(b"", f"multipart/form-data; boundary={'x' * 300}", 1)
    assert caught.value.status == 400
    with pytest.raises(Refusal, match="250,000 values") as caught:
        read_rows(b'{"rows":[' + b"[1]," * 600_000 + b"[1]]}", served_vectors)
    assert caught.value.status == 413


def test_pixels_of_a_request_are_counted_before_any_image_is_decoded(served_images: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = [Upload(None, encoded(np.zeros((10, 10), np.uint8))) for _ in range(5)] + [Upload(None, b"no image")]
    assert len(decode_uploads(uploads, served_images, 100, 500).X) == 5
    assert len(decode_uploads(uploads, served_images, 99, 99).errors) == 6
    monkeypatch.setattr("insphere.serving.uploads.decode_telling", lambda *_: pytest.fail("decoded"))
    with pytest.raises(Refusal, match="500 pixels together"):
        decode_uploads(uploads, served_images, 100, 499)
