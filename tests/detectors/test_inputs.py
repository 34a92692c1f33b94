import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import insphere
from contract import fit_quietly, pictures
from insphere.data import ArraySource, ImageSpec, TableSpec, open_source
from insphere.detectors.inputs import InputContract, is_plain_table
from insphere.detectors.stored import restore, to_file
from insphere.errors import DataError, ModelFileError
from insphere.model_file import ModelFile

NAMES = ["temp", "volt", "rpm"]


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(200, 3)) * [1, 100, 10_000]


@pytest.fixture
def detector(rows):
    return insphere.KNN(random_state=0).fit(ArraySource(rows, feature_names=NAMES))


def write_csv(path, names, X):
    path.write_text("\n".join([",".join(names), *(",".join(map(repr, row)) for row in X.tolist())]) + "\n")
    return path


@pytest.mark.parametrize(
    "contract",
    [
        InputContract((3,)),
        InputContract((3,), table=TableSpec(("a", "b", "c"), "state", "ok", "film")),
        InputContract((4, 5, 3), ImageSpec(4, 5, 3), from_files=True),
    ],
)
def test_contract_survives_its_json_form(contract):
    assert InputContract.from_json(contract.to_json()) == contract


def test_header_of_older_files_is_read():
    old = {"shape": [2], "image": None, "from_files": False, "feature_names": ["a", "b"]}
    assert InputContract.from_json(old) == InputContract((2,), table=TableSpec(("a", "b")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": []},
        {"shape": [2, 3]},
        {"shape": [0]},
        {"shape": [True]},
        {"shape": "3"},
        {"shape": [4, 5, 3]},
        {"feature_names": ["a"]},
        {"feature_names": [1, 2, 3]},
        {"label_column": 7},
    ],
)
def test_header_that_breaks_a_rule_is_refused(wrong):
    with pytest.raises(ValueError):
        InputContract.from_json(InputContract((3,)).to_json() | wrong)


def test_damaged_input_of_a_model_file_is_a_model_file_error(detector):
    header, arrays = to_file(detector)
    header["input"] |= {"feature_names": ["a"]}
    with pytest.raises(ModelFileError, match="one name per feature"):
        restore(insphere.KNN, ModelFile(header, arrays))


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0]])
def test_columns_go_by_name_at_every_door(detector, rows, order, tmp_path):
    detector.save(tmp_path / "m.insphere")
    loaded = insphere.load(tmp_path / "m.insphere")
    assert loaded.feature_names_ == NAMES and list(loaded.feature_names_in_) == NAMES and loaded.n_features_in_ == 3
    names, turned = [NAMES[column] for column in order], rows[:, order]
    expected = detector.anomaly_score(rows)
    table = pa.table(dict(zip(names, turned.T, strict=True)))
    doors = [ArraySource(turned, feature_names=names), write_csv(tmp_path / "t.csv", names, turned), table]
    for door in doors:
        np.testing.assert_array_equal(loaded.anomaly_score(door), expected)
    np.testing.assert_array_equal(loaded.anomaly_score(rows), expected)


def test_further_columns_are_left_aside_and_told(detector, rows, tmp_path):
    path = write_csv(tmp_path / "t.csv", ["site", *NAMES], np.c_[np.arange(200), rows])
    source = detector.open(path)
    np.testing.assert_array_equal(detector.anomaly_score(source), detector.anomaly_score(rows))
    assert [(notice.kind, notice.count, notice.examples) for notice in source.notices] == [("left out", 1, ("site",))]
    assert detector.open(ArraySource(np.c_[rows, rows[:, 0]], feature_names=[*NAMES, "x"])).notices[0].examples == ("x",)


def test_missing_and_repeated_columns_are_named(detector, rows, tmp_path):
    with pytest.raises(DataError, match=r"t\.csv has no column 'rpm', .*Did you mean 'rpn'"):
        detector.anomaly_score(write_csv(tmp_path / "t.csv", ["temp", "volt", "rpn"], rows))
    with pytest.raises(DataError, match="no column 'rpm'"):
        detector.anomaly_score(ArraySource(rows, feature_names=["temp", "volt", "x"]))
    with pytest.raises(DataError, match="several columns named 'rpm'"):
        detector.anomaly_score(ArraySource(np.c_[rows, rows[:, 0]], feature_names=[*NAMES, "rpm"]))


def test_label_options_of_the_fit_need_not_be_said_again(rows, tmp_path):
    states = ["ok"] * 150 + ["bad"] * 50
    lines = [",".join([state, *map(repr, row)]) for state, row in zip(states, rows.tolist(), strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["state,temp,volt,rpm", *lines]) + "\n")
    options = {"label_column": "state", "normal_label": "ok"}
    detector = insphere.KNN(random_state=0).fit(open_source(path, split="train", **options))
    detector.save(tmp_path / "m.insphere")
    source = insphere.load(tmp_path / "m.insphere").open(path)
    assert source.feature_names == tuple(NAMES) and source.labels.tolist() == [0] * 150 + [1] * 50 and source.notices == ()
    unlabelled = detector.open(write_csv(tmp_path / "u.csv", NAMES, rows))
    assert unlabelled.labels is None and len(unlabelled) == 200


def test_groups_go_by_position_never_by_label(rows):
    class Labelled:  # as a pandas Series with a shuffled index
        def __init__(self, values, index):
            self.values, self.place = list(values), {label: row for row, label in enumerate(index)}

        def __len__(self):
            return len(self.values)

        def __iter__(self):
            return iter(self.values)

        def __getitem__(self, label):
            return self.values[self.place[label]]

    rng = np.random.default_rng(0)
    part, order = np.repeat(np.arange(40), 5), rng.permutation(200)
    X = rows[part] + 0.01 * rng.normal(size=(200, 3))
    by_list = fit_quietly(insphere.KNN(random_state=0), X[order], groups=part[order].tolist())
    by_series = fit_quietly(insphere.KNN(random_state=0), X[order], groups=Labelled(part[order], order))
    np.testing.assert_array_equal(by_series.conformal_.scores, by_list.conformal_.scores)
    labels = (part[order] > 30).astype(int)
    assert ArraySource(X, labels=Labelled(labels, order)).labels.tolist() == labels.tolist()
    assert ArraySource(X, groups=Labelled(labels, order)).groups == tuple(map(str, labels))


def test_names_are_absent_where_there_were_none(rows):
    detector = insphere.KNN(random_state=0)
    assert not hasattr(detector, "n_features_in_") and not hasattr(detector, "feature_names_in_")
    detector.fit(rows)
    assert detector.feature_names_ is None and not hasattr(detector, "feature_names_in_") and detector.n_features_in_ == 3
    images = insphere.KNN(random_state=0).fit(np.random.default_rng(0).integers(0, 255, (120, 8, 8, 1), dtype=np.uint8))
    assert not hasattr(images, "n_features_in_")


def test_plain_tables():
    assert is_plain_table([[1.0]]) and is_plain_table(np.ones((2, 3))) and is_plain_table(np.ones(3))
    assert not is_plain_table(np.ones((2, 3, 3))) and not is_plain_table("x.csv") and not is_plain_table(pa.table({"a": [1]}))


def test_channels_first_of_the_fit_is_remembered(tmp_path):
    X = np.random.default_rng(0).integers(0, 255, (120, 3, 8, 9), dtype=np.uint8)
    np.save(tmp_path / "x.npy", X)
    insphere.KNN(random_state=0).fit(open_source(X, channels="first")).save(tmp_path / "m.insphere")
    loaded = insphere.load(tmp_path / "m.insphere")
    expected = loaded.anomaly_score(X.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(loaded.anomaly_score(X), expected)
    np.testing.assert_array_equal(loaded.anomaly_score(tmp_path / "x.npy"), expected)
    with pytest.raises(DataError, match="channels first"):
        insphere.KNN().fit(X)


def test_tables_without_names_go_by_position_and_say_so(detector, rows, tmp_path):
    path = write_csv(tmp_path / "t.csv", ["1.5", "2.5", "3.5"], rows)
    source = detector.open(path)
    assert len(source) == 201 and any("by position" in notice.text for notice in source.notices)
    np.testing.assert_array_equal(detector.anomaly_score(source)[1:], detector.anomaly_score(rows))
    nameless = insphere.KNN(random_state=0).fit(path)
    assert nameless.feature_names_ == ["f0", "f1", "f2"]
    assert any("by position" in notice.text for notice in nameless.open(write_csv(tmp_path / "n.csv", NAMES, rows)).notices)
    with pytest.raises(DataError, match="2 columns to use, but the detector takes 3"):
        detector.open(write_csv(tmp_path / "two.csv", ["1.5", "2.5"], rows[:, :2]))


def test_labels_that_are_only_remembered_never_refuse_rows(rows, tmp_path):
    states = ["ok"] * 150 + ["bad"] * 50
    table = pa.table(dict(zip(NAMES, rows.T, strict=True)) | {"state": states})
    detector = insphere.KNN(random_state=0).fit(open_source(table, split="train", label_column="state", normal_label="ok"))
    only_bad = detector.open(table.slice(150))
    assert only_bad.labels.tolist() == [1] * 50
    unknown = detector.open(table.set_column(3, "state", pa.array(["ok", None] * 100)))
    assert unknown.labels is None and "no value in row 1" in unknown.notices[0].text


def test_encoded_images_are_scored_as_files_with_these_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    detector = fit_quietly(insphere.KNN(random_state=0), pictures(80))
    for number, pixels in enumerate(pictures(5, seed=3)):
        Image.fromarray(pixels[:, :, 0]).save(folder / f"{number}.png")
    blobs = [path.read_bytes() for path in sorted(folder.iterdir())]
    scored = detector.score_encoded([blobs[0], b"text", *blobs[1:], None])
    assert scored.index.tolist() == [0, 2, 3, 4, 5]
    assert sorted(scored.errors) == [1, 6]
    np.testing.assert_array_equal(scored.anomaly_score, detector.anomaly_score(folder))
    with pytest.raises(DataError, match="no images"):
        detector.score_encoded([])
    table = fit_quietly(insphere.KNN(random_state=0), np.random.default_rng(0).normal(size=(40, 3)))
    with pytest.raises(DataError, match="rows of features"):
        table.score_encoded(blobs)


def test_a_file_that_fills_missing_values_against_its_own_word_is_refused(rows):
    X = rows.copy()
    X[::7, 1] = np.nan
    header, arrays = to_file(fit_quietly(insphere.KNN(missing="impute", random_state=0), X))
    del header["parameters"]["missing"]
    with pytest.raises(ModelFileError, match="fills missing values"):
        restore(insphere.KNN, ModelFile(header, arrays))


def labelled_arrays(folder: Path, good: np.ndarray, bad: np.ndarray) -> Path:
    np.savez(folder / "both.npz", X=np.concatenate([good, bad]), y=[1] * len(good) + [0] * len(bad))
    return folder / "both.npz"


def labelled_folders(folder: Path, good: np.ndarray, bad: np.ndarray) -> Path:
    for name, images in (("positive", good), ("negative", bad)):
        place = folder / "tree" / name
        place.mkdir(parents=True)
        for number, pixels in enumerate(images):
            Image.fromarray(pixels[:, :, 0]).save(place / f"{number:02}.png")
    return folder / "tree"


def labelled_parquet(folder: Path, good: np.ndarray, bad: np.ndarray) -> Path:
    encoded = []
    for pixels in np.concatenate([good, bad]):
        content = io.BytesIO()
        Image.fromarray(pixels[:, :, 0]).save(content, "PNG")
        encoded.append({"bytes": content.getvalue(), "path": None})
    pq.write_table(pa.table({"image": encoded, "label": [1] * len(good) + [0] * len(bad)}), folder / "i.parquet")
    return folder / "i.parquet"


def labelled_items(folder: Path, good: np.ndarray, bad: np.ndarray) -> list[tuple[np.ndarray, int]]:
    return [(pixels, 1) for pixels in good] + [(pixels, 0) for pixels in bad]


@pytest.mark.parametrize(
    ("write", "normal"),
    [(labelled_arrays, "1"), (labelled_folders, "positive"), (labelled_parquet, "1"), (labelled_items, 1)],
)
def test_what_is_normal_is_remembered_of_every_kind_of_source(tmp_path: Path, write, normal) -> None:
    images = pictures(30)
    source = write(tmp_path, images[:24], images[24:])
    detector = fit_quietly(insphere.KNN(random_state=0), open_source(source, split="train", normal_label=normal))
    detector.save(tmp_path / "m.insphere")
    found = insphere.load(tmp_path / "m.insphere").open(source, split="test")
    assert sorted(found.labels.tolist()) == [0] * 24 + [1] * 6
    assert found.labels.tolist() == detector.open(source, normal_label=normal).labels.tolist()
    contrary = "negative" if normal == "positive" else 0
    assert sorted(detector.open(source, normal_label=contrary).labels.tolist()) == [0] * 6 + [1] * 24


def test_labels_of_other_sources_are_not_read_by_a_name_they_do_not_have(tmp_path: Path) -> None:
    images = pictures(30)
    fitted = labelled_folders(tmp_path, images[:24], images[24:])
    detector = fit_quietly(insphere.KNN(random_state=0), open_source(fitted, split="train", normal_label="positive"))
    assert detector.open(fitted / "negative").labels is None
    (tmp_path / "later").mkdir()
    (fitted / "negative").rename(tmp_path / "later" / "negative")
    assert detector.open(tmp_path / "later").labels is None  # never taken for the normal ones
    np.savez(tmp_path / "a.npz", X=images, y=[0] * 24 + [1] * 6)
    assert detector.open(tmp_path / "a.npz").labels.tolist() == [0] * 24 + [1] * 6


def test_a_tree_without_the_remembered_folder_is_read_by_the_usual_names(tmp_path: Path) -> None:
    images = pictures(30)
    tree = labelled_folders(tmp_path, images[:24], images[24:])
    (tree / "positive").rename(tree / "class_a")
    detector = fit_quietly(insphere.KNN(random_state=0), open_source(tree, split="train", normal_label="class_a"))
    (tree / "class_a").rename(tree / "good")
    (tree / "negative").rename(tree / "scratch")
    assert detector.open(tree).labels.tolist() == [0] * 24 + [1] * 6
