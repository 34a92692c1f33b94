import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.data import ArraySource, ImageSpec, open_source
from insphere.errors import DataError, InsphereError, ParameterError


def test_source_is_returned_as_it_is():
    source = ArraySource(np.ones((2, 2)))
    assert open_source(source) is source
    assert open_source(source, spec=ImageSpec(2, 2, 1)) is source


def test_source_of_images_is_brought_to_the_spec(write_tree, png):
    source = open_source(write_tree({"a.png": png()}))
    assert open_source(source, spec=source.spec) is source
    assert open_source(source, spec=ImageSpec(2, 3, 3)).load().X.shape == (1, 2, 3, 3)


def test_arrays_and_lists_are_wrapped_and_table_options_refused():
    assert len(open_source([[1, 2], [3, 4]])) == 2
    assert open_source(np.zeros((2, 4, 4), np.uint8)).dtype == np.uint8
    with pytest.raises(ParameterError, match="`label_column` does not apply to an array"):
        open_source([[1, 2]], label_column="y")


@pytest.mark.parametrize("source", [None, 3, {"a": 1}, object(), {1, 2}, "", b"bytes"])
def test_other_objects_are_refused(source):
    with pytest.raises(DataError):
        open_source(source)


def test_bad_options_are_refused_before_anything_is_read():
    for options in ({"split": "training"}, {"mode": "gray"}, {"image_size": 0}):
        with pytest.raises(ParameterError):
            open_source("nowhere", **options)
    with pytest.raises(ParameterError, match="Did you mean 'train'"):
        open_source("nowhere", split="training")


def test_missing_paths_and_unknown_data_sets(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="does not exist"):
        open_source("C:\\nowhere\\x.csv")
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        open_source("digit")
    with pytest.raises(ParameterError, match="Did you mean 'mnist'"):
        open_source("mnst:8")
    with pytest.raises(ParameterError, match="lacks the normal class"):
        open_source("mnist")


def test_path_goes_before_a_data_set_of_the_same_name(tmp_path, monkeypatch, png):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    Path("digits/a.png").write_bytes(png())
    assert len(open_source("digits")) == 1


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    assert len(open_source("~/x.npy")) == 3


def test_unknown_suffixes_are_refused(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(DataError, match=r"suffix '\.pkl', which is not read; give \.npy"):
        open_source(tmp_path / "model.pkl")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_a_source_or_an_error_of_ours(text):
    try:
        open_source(text + "/nowhere")
    except InsphereError:
        return


def test_import_is_light():
    heavy = "PIL", "pyarrow", "sklearn", "scipy", "torch", "matplotlib", "huggingface_hub"
    code = f"import sys, insphere.data; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
