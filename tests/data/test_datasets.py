import gzip
import json
import struct
import sys
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insphere.data import DATASETS, ImageSpec, list_datasets, load_dataset, local_folder, open_source
from insphere.data.dataset_files import read_idx
from insphere.data.datasets import parse_name
from insphere.errors import DataError, DatasetNotFoundError, ParameterError


@pytest.fixture(autouse=True)
def no_folder_and_no_hub(monkeypatch):
    """Tests here see neither the real data nor a network."""
    monkeypatch.delenv("INSPHERE_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def write_parquet(path, png, labels, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array([{"bytes": png(32, 32, value=label), "path": None} for label in labels])
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path)
    return path


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_digits_are_bundled_and_split_without_overlap():
    train = [load_dataset(f"digits:{digit}") for digit in range(10)]
    test = load_dataset("digits:3", "test")
    assert sum(map(len, train)) + len(test) == 1797 == len(load_dataset("digits:3", "all"))
    assert train[3].labels.sum() == 0 and set(train[3].types) == {"3"}
    X = test.load().X
    assert X.dtype == np.uint8 and X.shape == (len(test), 8, 8, 1) and X.max() == 255
    assert [test.types[row] for row in np.flatnonzero(test.labels == 0)] == ["3"] * (test.labels == 0).sum()


def test_digits_can_be_brought_to_another_size():
    assert open_source("digits:3", image_size=16, mode="rgb").row_shape == (16, 16, 3)
    assert load_dataset("digits:3", spec=ImageSpec(4, 4, 1, "float32")).load().X.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("mnist:8", 8),
        ("fashion-mnist:bag", 8),
        ("fashion-mnist:Ankle boot", 9),
        ("cifar10:automobile", 1),
        ("gtsrb32:14", 14),
        ("gtsrb32:stop", 14),
    ],
)
def test_classes_by_number_or_name(name, number):
    entry, normal = parse_name(name)
    assert entry is DATASETS[name.partition(":")[0]] and normal == number


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits:8", "Did you mean 'mnist'"),
        ("mnist:10", "no class '10'"),
        ("mnist:-1", "no class '-1'"),
        ("mnist:", "lacks the normal class"),
        ("cifar10:automobil", "Did you mean 'automobile'"),
        ("gtsrb32:43", "from 0 to 42"),
        ("digits:\u0663", "no class"),
        ("plates:scratch", "'scratch' can't be the normal class of plates; write plates:good"),
        ("plates:1", "write plates:good"),
        ("plates:goood", "one of good. Did you mean"),
    ],
)
def test_unknown_names_and_classes(name, message):
    with pytest.raises(ParameterError, match=message):
        load_dataset(name)


def test_table_is_consistent():
    assert [entry.name for entry in list_datasets()] == list(DATASETS)
    assert [len(entry.classes) for entry in list_datasets()] == [10, 10, 10, 10, 43, 5]
    assert all(len(set(entry.classes)) == len(entry.classes) for entry in list_datasets())


def test_local_parquet_shards(tmp_path, png, monkeypatch):
    write_parquet(tmp_path / "cifar10" / "train-00000-of-00002.parquet", png, [0, 1, 2])
    write_parquet(tmp_path / "cifar10" / "train-00001-of-00002.parquet", png, [1, 1])
    write_parquet(tmp_path / "cifar10" / "test-00000-of-00001.parquet", png, [1, 9])
    train = load_dataset("cifar10:1", data_dir=tmp_path)
    assert len(train) == 3 and train.load().X.shape == (3, 32, 32, 3) and set(train.types) == {"automobile"}
    monkeypatch.setenv("INSPHERE_DATA", str(tmp_path))
    test = open_source("cifar10:automobile", split="test")
    assert test.labels.tolist() == [0, 1] and test.types == ("automobile", "truck") and test.groups is None
    assert len(open_source("cifar10:1", split="all")) == 7
    assert local_folder("cifar10") == tmp_path / "cifar10" and local_folder("mnist") is None


def test_tracks_are_groups_of_training_rows(tmp_path, png):
    write_parquet(tmp_path / "gtsrb32" / "train-0.parquet", png, [14, 14, 13], track=[0, 1, 0])
    write_parquet(tmp_path / "gtsrb32" / "test-0.parquet", png, [14], track=[-1])
    assert load_dataset("gtsrb32:14", data_dir=tmp_path).groups == ("14-0", "14-1")
    assert load_dataset("gtsrb32:14", "test", data_dir=tmp_path).groups is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dots", [False, True])
def test_idx_files(tmp_path, packed, dots):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    labels = np.array([8, 0, 8, 9], dtype=np.uint8)
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        data = gzip.compress(idx(array)) if packed else idx(array)
        (folder / f"{name.replace('-idx', '.idx') if dots else name}{'.gz' if packed else ''}").write_bytes(data)
    source = load_dataset("fashion-mnist:bag", data_dir=tmp_path)
    assert np.array_equal(source.load().X[..., 0], images[[0, 2]])


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x00\x08\x01", b"\x00\x00\x08\x01\x00\x00\x00\x05abc", b"\x00\x00\x08\x01\x00\x00\x00\x01abc", b"PNG?" * 9]
)
def test_damaged_idx_files(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match="download it again"):
        read_idx(tmp_path / "x")


def test_idx_header_that_promises_too_much_is_not_believed(tmp_path):
    (tmp_path / "x").write_bytes(b"\x00\x00\x08\x04" + b"\xff" * 16 + b"abc")
    with pytest.raises(DataError, match="should hold"):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize("place", ["gtsrb32", "gtsrb32/GTSRB", "gtsrb"])
def test_official_archives_of_gtsrb(tmp_path, place):
    root = tmp_path / place
    images = root / "Final_Training" / "Images"
    for number in (3, 14):
        (images / f"{number:05d}").mkdir(parents=True)
        lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
        for name in ("00000_00000.ppm", "00000_00001.ppm", "00001_00000.ppm"):
            (images / f"{number:05d}" / name).write_bytes(b"P6 10 12 255 " + bytes([number] * 360))
            lines.append(f"{name};10;12;1;1;9;9;{number}")
        (images / f"{number:05d}" / f"GT-{number:05d}.csv").write_text("\n".join(lines))
    tests = root / "Final_Test" / "Images"
    tests.mkdir(parents=True)
    (tests / "00000.ppm").write_bytes(b"P6 10 12 255 " + bytes([14] * 360))
    (root / "GT-final_test.csv").write_text("Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n00000.ppm;10;12;1;1;9;9;14\n")
    train = load_dataset("gtsrb32:14", data_dir=tmp_path)
    assert train.groups == ("14-00000", "14-00000", "14-00001")
    assert train.load().X.shape == (3, 32, 32, 3) and (train.load().X == 14).all()
    test = load_dataset("gtsrb32:3", "test", data_dir=tmp_path)
    assert test.labels.tolist() == [1] and test.types == ("stop",)
    assert len(load_dataset("gtsrb32:14", "all", data_dir=tmp_path)) == 7
    (root / "GT-final_test.csv").write_text("Filename;ClassId\n../../x.ppm;14\n")
    with pytest.raises(DataError, match="plain file names"):
        load_dataset("gtsrb32:14", "test", data_dir=tmp_path)


def test_nothing_local_and_no_hub_says_what_and_both_remedies(tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFoundError, match=r"INSPHERE_DATA is not set.*--data-dir.*pip install 'insphere\[hub\]'"):
        load_dataset("mnist:8")
    with pytest.raises(DatasetNotFoundError, match=r"nowhere does not exist"):
        load_dataset("mnist:8", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("INSPHERE_DATA", str(tmp_path))
    with pytest.raises(DatasetNotFoundError, match=r"mnist/test-\*\.parquet, mnist/t10k-images-idx3-ubyte\[\.gz\]"):
        load_dataset("mnist:8", "test")
    with pytest.raises(DatasetNotFoundError, match=r"not on the hub.*GTSRB_Final_Training_Images\.zip"):
        load_dataset("gtsrb32:14")


def test_download_from_the_hub(tmp_path, png, monkeypatch):
    asked = []

    def hf_hub_download(repository, file, *, repo_type):
        asked.append((repository, file, repo_type))
        return str(write_parquet(tmp_path / file, png, [1, 8], img_path=["a", "b"]))

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
    assert len(load_dataset("cifar10:ship")) == 1
    assert asked == [("uoft-cs/cifar10", "plain_text/train-00000-of-00001.parquet", "dataset")]


def test_hub_that_cannot_be_reached_is_one_clear_error(monkeypatch):
    def hf_hub_download(*_, **__):
        raise ConnectionError("offline\nwith details")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
    with pytest.raises(DatasetNotFoundError, match=r"download of mnist/train-.* failed \(offline\).*connect to the network"):
        load_dataset("mnist:8")


def test_parquet_without_labels_is_refused(tmp_path):
    (tmp_path / "mnist").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "mnist" / "train-0.parquet")
    with pytest.raises(DataError, match="must have a column with images and one named 'label'"):
        load_dataset("mnist:8", data_dir=tmp_path)


def test_table_options_do_not_apply():
    with pytest.raises(ParameterError, match="does not apply to a named data set"):
        open_source("digits:3", columns=["a"])


def test_entries_are_json_able():
    assert json.loads(json.dumps([[entry.name, entry.summary, *entry.classes] for entry in list_datasets()]))
