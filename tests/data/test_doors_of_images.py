"""Images behind every door: what is left out is counted and told, what folders mean is found at any depth or refused."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import insphere
from contract import fit_quietly
from insphere.checking import check_source
from insphere.data import AbstractSource, ImageSpec, one_class_split, open_source
from insphere.data.folder_names import ABNORMAL_FOLDERS, MASK_FOLDERS, NORMAL_FOLDERS, sense, word
from insphere.errors import DataError, ParameterError, SourceNotice

RNG = np.random.default_rng(0)
GREY = [RNG.integers(0, 256, (9, 8), dtype=np.uint8) for _ in range(12)]


def folder(files: dict[str, bytes], root: Path) -> Any:
    for name, data in files.items():
        place = root / "photos" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
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
    return [str(base / name) for name in files]


def pictures(files: dict[str, bytes], root: Path) -> Any:
    return [Image.open(io.BytesIO(data)) for data in files.values()]


def table(files: dict[str, bytes], root: Path) -> Any:
    pq.write_table(pa.table({"image": [{"bytes": data, "path": name} for name, data in files.items()]}), root / "photos.parquet")
    return root / "photos.parquet"


def items(files: dict[str, bytes], root: Path) -> Any:
    """A data set as those of Hugging Face: a length, and items with fields by name."""

    class Items:
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, row: int) -> dict[str, Any]:
            return {"image": Image.open(io.BytesIO(list(files.values())[row]))}

    return Items()


TREES = (folder, archive, pattern)
DOORS = (*TREES, paths, pictures, table, items)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey(number: int = 0) -> bytes:
    return encoded(Image.fromarray(GREY[number]))


def read(source: AbstractSource) -> dict[str, int]:
    """Return each notice's text and count, once all rows are read."""
    source.load()
    return {notice.text: notice.count for notice in source.notices}


def said(source: AbstractSource, *words: str) -> int:
    """Return the count of the one notice that has all the words."""
    (count,) = [count for text, count in read(source).items() if all(part in text for part in words)]
    return count


class TestLeftOut:
    """Rule 1: whatever is left out is counted and told."""

    @pytest.mark.parametrize("door", DOORS)
    def test_pages_after_the_first(self, door: Callable[..., Any], tmp_path: Path) -> None:
        pages = [Image.fromarray(image) for image in GREY[:3]]
        many = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
        source = open_source(door({"a.tif": many, "b.tif": many, "c.tif": encoded(pages[0], "TIFF")}, tmp_path))
        assert said(source, "more than one page", "pages left out: 4") == 2
        np.testing.assert_array_equal(source.load().X[0, :, :, 0], GREY[0])

    @pytest.mark.parametrize("door", DOORS)
    def test_colour_seen_by_a_grey_model(self, door: Callable[..., Any], tmp_path: Path) -> None:
        stained = Image.fromarray(np.stack([GREY[0], GREY[1], GREY[2]], axis=2))
        plain = Image.fromarray(np.stack([GREY[0]] * 3, axis=2))  # stored in three channels, and grey all the same
        rows = door({"a.png": encoded(stained), "b.png": encoded(plain), "c.png": grey()}, tmp_path)
        assert said(open_source(rows, mode="grey"), "colours that a grey model does not see") == 1
        assert not read(open_source(rows, mode="rgb"))

    @pytest.mark.parametrize("door", [door for door in DOORS if door not in (pictures, items)])
    def test_more_than_eight_bits_of_colour(self, door: Callable[..., Any], tmp_path: Path) -> None:
        deep = deep_colour_png()
        assert said(open_source(door({"a.png": deep, "b.png": grey()}, tmp_path)), "more than 8 bits of grey or a colour") == 1

    @pytest.mark.parametrize("door", [door for door in DOORS if door is not items])
    def test_grey_of_sixteen_bits_seen_by_a_model_of_eight(self, door: Callable[..., Any], tmp_path: Path) -> None:
        deep = encoded(Image.fromarray(GREY[0].astype(np.uint16) * 16), "TIFF")
        source = open_source(door({"a.tif": deep, "b.tif": deep}, tmp_path), spec=ImageSpec(9, 8, 1))
        assert said(source, "more than 8 bits of grey") == 2
        (tmp_path / "again").mkdir()
        assert not read(open_source(door({"a.tif": deep, "b.tif": deep}, tmp_path / "again")))  # kept as fractions

    @pytest.mark.parametrize("door", TREES)
    def test_other_suffixes_and_hidden_files(self, door: Callable[..., Any], tmp_path: Path) -> None:
        files = {f"{number}.png": grey() for number in range(3)} | {"notes.txt": b"x", "b.heic": b"x", "c.heic": b"x", ".hid.png": grey()}
        source = open_source(door(files, tmp_path))
        assert len(source) == 3
        assert said(source, "do not end like images", ".heic: 2", ".txt: 1") == 3
        if door is not pattern:  # which does not match hidden files
            assert said(source, "Hidden files") == 1

    def test_members_of_a_zip_that_are_there_twice(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file, pytest.warns(UserWarning, match="Duplicate name"):
            for number in (0, 1, 0):
                file.writestr(f"{number}.png", grey(number))
        assert said(open_source(tmp_path / "a.zip"), "have the name of a later one") == 1

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
    def test_what_is_not_a_file_is_never_read(self, tmp_path: Path) -> None:
        root = folder({"0.png": grey(), "1.png": grey(1)}, tmp_path)
        os.mkfifo(root / "pipe.png")
        (root / "endless.png").symlink_to("/dev/zero")
        for rows in (open_source(root), open_source(str(root / "*.png"))):
            assert said(rows, "Pipes, sockets and devices") == 2 and len(rows) == 2

    @pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
    def test_folders_that_cannot_be_listed_stop_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = folder({"0.png": grey(), "closed/1.png": grey(1)}, tmp_path)
        listed = os.scandir

        def scandir(place: Any) -> Any:
            if Path(place).name == "closed":
                raise PermissionError(13, "Permission denied", str(place))
            return listed(place)

        monkeypatch.setattr("insphere.data.folders.os.scandir", scandir)
        source = open_source(root)
        assert len(source) == 1 and said(source, "cannot be listed") == 1

    def test_the_library_and_check_tell_it(self, tmp_path: Path) -> None:
        root = folder({f"{number}.png": grey(number) for number in range(12)} | {"notes.txt": b"x"}, tmp_path)
        with pytest.warns(SourceNotice, match="Files that do not end like images are left out: 1"):
            detector = fit_quietly(insphere.KNN(random_state=0), root)
        with pytest.warns(SourceNotice, match="do not end like images"):
            detector.anomaly_score(root)
        assert [finding.n_rows for finding in check_source(open_source(root)).findings if finding.name == "left out"] == [1]


def deep_colour_png() -> bytes:
    """Return a PNG of 16 bits a colour, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + RNG.integers(0, 65536, 24, dtype=np.uint16).astype(">u2").tobytes() for _ in range(9))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 9, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class TestMeaning:
    """Rule 2: a guessed meaning is told, and refused with the remedy where the guess can be badly wrong."""

    @pytest.mark.parametrize("door", TREES)
    @pytest.mark.parametrize(
        ("normal", "anomaly", "ignored"),
        [
            ("good", "crack", "ground_truth/crack"),
            ("Good", "Crack", "Ground_Truth/Crack"),
            ("line1/ok", "line1/ng", "line1/masks"),
            ("normal_dir", "abnormal_dir", "mask_dir"),
            ("Images/Normal", "Images/Anomaly", "Masks/Anomaly"),
            ("a/b/c/OK images", "a/b/c/NG images", "a/b/gt"),
            ("pass", "fail", "segmentation"),
            ("train/good", "test/crack", "ground_truth/crack"),
            ("Training/Good", "Testing/Crack", "Ground Truth/Crack"),
            ("training/normal", "testing/abnormal", "testing/mask"),
            ("bottle/train/good", "bottle/test/crack", "bottle/ground_truth/crack"),
            ("OK_1", "NG_1", "masks"),
            ("camera/ok2", "camera/ng2", "camera/gt"),
            ("good line 1", "bad_scratch", "masks"),
            ("No Defects", "Defects", "masks"),
            ("WithoutDefect", "WithDefect", "masks"),
            ("non-anomalous", "anomaly_scratch", "masks"),
            ("i.O.", "n.i.O.", "masks"),
            ("train_normal", "test_anomaly", "masks"),
            ("train_good", "test_blob", "ground_truth/blob"),
            ("TrainOK", "TestNG", "gt"),
            ("line 3/ok-train", "line 3/ng-test", "line 3/masks"),
            ("defect_detection/ok", "defect_detection/monday", "defect_detection/mask"),
        ],
    )
    def test_folders_mean_the_same_at_any_depth(
        self, door: Callable[..., Any], normal: str, anomaly: str, ignored: str, tmp_path: Path
    ) -> None:
        files = {f"{normal}/{number}.png": grey(number) for number in range(9)}
        files |= {f"{anomaly}/{number}.png": grey(number) for number in range(9, 12)}
        files |= {f"{ignored}/{number}_mask.png": grey() for number in range(9, 12)}
        rows = door(files, tmp_path)
        everything = open_source(rows)
        assert len(everything) == 12 and everything.labels is not None and everything.labels.sum() == 3
        train = open_source(rows, split="train")
        assert len(train) == 9 and train.labels is not None and not train.labels.any()
        assert said(everything, "Folders are taken as normal") == 12 and said(everything, "taken as masks") == 3
        masks = [mask for mask in everything.facts.masks or () if mask]
        assert len(masks) == 3 and all("_mask" in mask for mask in masks)
        np.testing.assert_array_equal([mask is not None for mask in everything.facts.masks or ()], everything.labels == 1)

    @pytest.mark.parametrize("door", TREES)
    @pytest.mark.parametrize(
        "names",
        [
            ("train_normal", "test_normal", "test_anomaly"),
            ("TrainGood", "TestGood", "TestScratchy"),
            ("good-train", "good-test", "bad-test"),
            ("train", "test_ok", "test_blob"),
            ("train/good", "val_good", "val_bad"),
            ("a/training normal", "a/testing normal", "a/testing other"),
        ],
    )
    def test_normal_images_to_test_on_are_not_learned(self, door: Callable[..., Any], names: tuple[str, str, str], tmp_path: Path) -> None:
        files = {f"{names[number // 3]}/{number}.png": grey(number) for number in range(9)}
        rows = door(files, tmp_path)
        split = one_class_split(rows)
        labels = {int(Path(name).stem): label for name, label in zip(split.test.ids or (), split.labels.tolist(), strict=True)}
        assert len(split.train) == 3 and labels == {3: 0, 4: 0, 5: 0, 6: 1, 7: 1, 8: 1}
        assert set(open_source(rows).parts or ()) == {"train", "test"}

    def test_names_are_taken_apart_only_beside_a_part_to_train_on(self, tmp_path: Path) -> None:
        rows = folder({f"{name}/{number}.png": grey(number) for name in ("good_test", "bad_test") for number in range(3)}, tmp_path)
        assert len(open_source(rows, split="train")) == 3 and open_source(rows).parts is None
        shutil.rmtree(rows)
        rows = folder({f"{name}/{number}.png": grey(number) for name in ("test_bench", "train_station") for number in range(3)}, tmp_path)
        assert open_source(rows).parts is None and len(open_source(rows, split="train")) == 6
        assert len(open_source(rows, split="train", normal_label="test_bench")) == 3

    @pytest.mark.parametrize("wanted", ["monday", "train_monday"])
    def test_the_normal_folder_is_named_with_or_without_its_part(self, wanted: str, tmp_path: Path) -> None:
        files = {f"{name}/{number}.png": grey(number) for name in ("train_monday", "test_monday", "test_sunday") for number in range(3)}
        split = one_class_split(folder(files, tmp_path), normal_label=wanted)
        assert len(split.train) == 3 and split.labels.tolist() == [0, 0, 0, 1, 1, 1]

    @pytest.mark.parametrize("name", NORMAL_FOLDERS)
    def test_names_of_normal_folders(self, name: str, tmp_path: Path) -> None:
        rows = folder({f"{name.upper().replace('_', '-')}/0.png": grey(), "other/1.png": grey()}, tmp_path)
        assert open_source(rows).labels is not None and open_source(rows).labels.tolist() == [0, 1]  # type: ignore[union-attr]

    @pytest.mark.parametrize("door", TREES)
    @pytest.mark.parametrize("name", ABNORMAL_FOLDERS)
    def test_anomalies_without_normal_images_are_not_learned(self, door: Callable[..., Any], name: str, tmp_path: Path) -> None:
        rows = door({f"{name}/{number}.png": grey(number) for number in range(10)} | {"p/x.png": grey(11)}, tmp_path)
        with pytest.raises(DataError, match="sound like anomalies.*normal_label"):
            insphere.KNN().fit(rows)
        assert len(open_source(rows)) == 11  # to be scored they are welcome

    @pytest.mark.parametrize("door", TREES)
    @pytest.mark.parametrize(
        "name", ["bad_scratch", "NG_3", "ng3", "defect-type-a", "AnomalyScratch", "not good", "with_defect", "abnormals"]
    )
    def test_longer_names_of_anomalies_are_not_learned(self, door: Callable[..., Any], name: str, tmp_path: Path) -> None:
        rows = door({f"{name}/{number}.png": grey(number) for number in range(10)} | {"p/x.png": grey(11)}, tmp_path)
        with pytest.raises(DataError, match="sound like anomalies.*normal_label"):
            insphere.KNN().fit(rows)
        assert open_source(rows, split="train", normal_label="p").load().X.shape[0] == 1

    @pytest.mark.parametrize("door", TREES)
    @pytest.mark.parametrize("names", [("0", "1"), ("Negative", "Positive"), ("a/true", "a/false")])
    def test_two_kinds_are_not_learned_as_one(self, door: Callable[..., Any], names: tuple[str, str], tmp_path: Path) -> None:
        rows = door({f"{names[number % 2]}/{number}.png": grey(number) for number in range(12)}, tmp_path)
        with pytest.raises(DataError, match="two kinds.*6.*6.*normal_label"):
            insphere.KNN().fit(rows)
        wanted = names[0].rpartition("/")[2]
        labels = open_source(rows, normal_label=wanted).labels
        assert labels is not None and labels.sum() == 6 and len(open_source(rows)) == 12

    def test_ten_classes_are_not_a_pair(self, tmp_path: Path) -> None:
        rows = folder({f"{number}/{number}.png": grey(number) for number in range(10)}, tmp_path)
        assert open_source(rows, split="train").doubt is None

    @pytest.mark.parametrize("door", TREES)
    def test_several_data_sets_are_not_one(self, door: Callable[..., Any], tmp_path: Path) -> None:
        files = {f"{product}/train/good/{number}.png": grey(number) for product in ("bottle", "cable") for number in range(6)}
        with pytest.raises(DataError, match="holds 2 data sets.*bottle, cable.*give one"):
            open_source(door(files | {"bottle/test/crack/1.png": grey()}, tmp_path))

    @pytest.mark.parametrize("door", TREES)
    @pytest.mark.parametrize("places", [("Data/Images/Normal", "Data/Images/Anomaly"), ("train_normal", "test_anomaly")])
    def test_two_products_side_by_side_are_two(self, door: Callable[..., Any], places: tuple[str, str], tmp_path: Path) -> None:
        products = ("candle", "cashew")
        files = {f"{product}/{place}/{number}.png": grey(number) for product in products for place in places for number in range(6)}
        with pytest.raises(DataError, match="holds 2 data sets.*candle, cashew.*give one"):
            open_source(door(files, tmp_path))
        (tmp_path / "one").mkdir()
        one = door({name: data for name, data in files.items() if "candle" in name}, tmp_path / "one")
        assert len(open_source(one, split="train")) == 6

    @pytest.mark.parametrize("door", TREES)
    def test_normal_images_in_several_places_are_told(self, door: Callable[..., Any], tmp_path: Path) -> None:
        files = {f"{line}/{kind}/{number}.png": grey(number) for line in ("line1", "line2") for kind in ("ok", "ng") for number in range(3)}
        assert said(open_source(door(files, tmp_path)), "Normal images lie in 2 places", "line1, line2", "give one of them") == 2
        (tmp_path / "parts").mkdir()
        parts = {f"{part}/good/{number}.png": grey(number) for part in ("train", "test") for number in range(3)}
        assert not any("places" in text for text in read(open_source(door(parts, tmp_path / "parts"))))

    def test_folders_that_say_nothing_are_told(self, tmp_path: Path) -> None:
        rows = folder({"monday/1.png": grey(), "tuesday/2.png": grey(1)}, tmp_path)
        assert said(open_source(rows), "taken as of one kind", "monday (1), tuesday (1)") == 2

    def test_a_mask_next_to_its_picture(self, tmp_path: Path) -> None:
        source = open_source(folder({"good/1.png": grey(), "bad/2.png": grey(1), "bad/2_mask.png": grey(2)}, tmp_path))
        assert list(source.ids or ()) == ["bad/2.png", "good/1.png"] and source.facts.masks == ("bad/2_mask.png", None)

    @pytest.mark.parametrize("name", ["labels", "Label", "targets"])
    def test_a_folder_of_labels_holds_masks_where_each_has_its_picture(self, name: str, tmp_path: Path) -> None:
        files = {"good/1.png": grey(), "bad/2.png": grey(1), f"{name}/bad/2.png": grey(2)}
        source = open_source(folder(files, tmp_path / "with"))
        assert list(source.ids or ()) == ["bad/2.png", "good/1.png"] and source.facts.masks == (f"{name}/bad/2.png", None)
        assert said(source, "taken as masks") == 1
        source = open_source(folder({"good/1.png": grey(), f"{name}/bad/2.png": grey(2)}, tmp_path / "without"))
        assert source.labels is not None and source.labels.tolist() == [int("bad" in item) for item in source.ids or ()]
        assert said(source, "Folders are taken as", f"{name}/bad") == 2

    def test_masks_asked_for_by_name_are_images(self, tmp_path: Path) -> None:
        root = folder({"ground_truth/crack/1_mask.png": grey(), "good/1.png": grey()}, tmp_path)
        assert len(open_source(root / "ground_truth")) == 1

    def test_words(self) -> None:
        assert all(word(name) == name for name in (*NORMAL_FOLDERS, *ABNORMAL_FOLDERS, *MASK_FOLDERS))
        assert {sense(name) for name in NORMAL_FOLDERS} == {0, None} and {sense(name) for name in ABNORMAL_FOLDERS} == {1, None}
        assert not {*NORMAL_FOLDERS} & {*ABNORMAL_FOLDERS} and not {*NORMAL_FOLDERS, *ABNORMAL_FOLDERS} & {*MASK_FOLDERS}


def labelled_items(labels: list[Any], root: Path) -> Any:
    return [{"image": GREY[row], "label": label} for row, label in enumerate(labels)]


def labelled_pairs(labels: list[Any], root: Path) -> Any:
    class Pairs:
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, row: int) -> tuple[Any, Any]:
            return Image.fromarray(GREY[row]), labels[row]

    return Pairs()


def labelled_table(labels: list[Any], root: Path) -> Any:
    images = [{"bytes": grey(row), "path": f"{row}.png"} for row in range(len(labels))]
    pq.write_table(pa.table({"image": images, "label": labels}), root / "photos.parquet")
    return root / "photos.parquet"


def listed_pairs(labels: list[Any], root: Path) -> Any:
    return [(GREY[row], label) for row, label in enumerate(labels)]


@pytest.mark.parametrize("door", [labelled_items, labelled_pairs, listed_pairs, labelled_table])
class TestLabelsThatAreNotAskedFor:
    @pytest.mark.parametrize("labels", [[0, 1] * 6, ["good", "crack", "hole"] * 4, ["a"] * 11 + ["b"]])
    def test_kinds_are_not_learned_as_one(self, door: Callable[..., Any], labels: list[Any], tmp_path: Path) -> None:
        rows = door(labels, tmp_path)
        with pytest.raises(DataError, match="nothing says which kind is normal.*normal_label"):
            insphere.KNN().fit(rows)
        with pytest.raises(DataError, match="nothing says which kind is normal"):
            open_source(rows, split="train")
        assert said(open_source(rows), "is not read: all 12 images") == 12  # to be scored they are welcome
        assert len(open_source(rows, split="train", normal_label=labels[0])) == labels.count(labels[0])

    def test_classes_are_told(self, door: Callable[..., Any], tmp_path: Path) -> None:
        source = open_source(door([0, 1, 2] * 4, tmp_path), split="train")
        assert len(source) == 12 and said(source, "is not read", "0 (4), 1 (4), 2 (4)") == 12

    def test_one_label_says_nothing(self, door: Callable[..., Any], tmp_path: Path) -> None:
        assert not read(open_source(door([3] * 12, tmp_path), split="train"))


def test_columns_next_to_images_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": grey()}], "lot": [1], "site": ["a"]}), tmp_path / "i.parquet")
    (notice,) = open_source(tmp_path / "i.parquet").notices
    assert (notice.count, notice.examples) == (2, ("lot", "site"))


class TestGroups:
    @pytest.mark.parametrize("door", (*TREES, paths))
    @pytest.mark.parametrize("pattern_", ["(?P<group>film[0-9])_", "(film[0-9])_", "film[0-9]"])
    def test_groups_are_found_in_paths(self, door: Callable[..., Any], pattern_: str, tmp_path: Path) -> None:
        files = {f"good/film{number // 4}_{number}.png": grey(number) for number in range(12)}
        assert list(open_source(door(files, tmp_path), groups_by=pattern_).groups or ()) == sorted(f"film{n // 4}" for n in range(12))

    def test_a_folder_a_group(self, tmp_path: Path) -> None:
        rows = folder({f"f{number % 3}/{number}.png": grey(number) for number in range(12)}, tmp_path)
        detector = fit_quietly(insphere.KNN(random_state=0), open_source(rows, groups_by="folder"))
        assert len(detector.decision_) <= 2 and detector.decision_.n_rows == 4 * len(detector.decision_)

    @pytest.mark.parametrize("wrong", ["(", "nowhere"])
    def test_what_finds_nothing_is_refused(self, wrong: str, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="groups_by"):
            open_source(folder({"1.png": grey()}, tmp_path), groups_by=wrong)


class TestOpenedSources:
    """Options narrow an opened source or are refused; none is dropped."""

    def test_a_named_set_is_narrowed_to_normal_rows(self) -> None:
        everything = open_source("digits:3")
        assert len(everything) > len(open_source(everything, split="train")) == len(open_source("digits:3", split="train")) == 122
        assert fit_quietly(insphere.KNN(random_state=0), everything).data_["n_rows"] == 122

    @pytest.mark.parametrize("door", TREES)
    def test_a_tree_is_narrowed_to_normal_rows(self, door: Callable[..., Any], tmp_path: Path) -> None:
        files = {f"train/good/{number}.png": grey(number) for number in range(9)} | {
            "test/good/9.png": grey(9),
            "test/crack/1.png": grey(10),
        }
        opened = open_source(door(files, tmp_path))
        split = one_class_split(opened)
        assert (len(split.train), len(split.test), split.labels.sum()) == (9, 2, 1)
        assert split.train.labels is not None and not split.train.labels.any()
        small = open_source(opened, split="test", spec=ImageSpec(4, 4, 1))
        assert len(small) == 2 and small.row_shape == (4, 4, 1)

    @pytest.mark.parametrize(
        "option",
        [
            {"label_column": "y"},
            {"normal_label": "ok"},
            {"columns": ["a"]},
            {"groups": "g"},
            {"groups_by": "folder"},
            {"image_size": 4},
            {"mode": "rgb"},
            {"header": True},
            {"channels": "first"},
            {"data_dir": "x"},
        ],
    )
    @pytest.mark.parametrize("kind", ["array", "images"])
    def test_options_that_come_too_late_are_refused(self, option: dict[str, Any], kind: str, tmp_path: Path) -> None:
        opened = open_source(np.zeros((4, 2)) if kind == "array" else folder({"1.png": grey()}, tmp_path))
        with pytest.raises(ParameterError, match=next(iter(option))):
            open_source(opened, **option)


class TestLists:
    @pytest.mark.parametrize("door", (paths, pictures, items))
    def test_images_come_one_by_one(self, door: Callable[..., Any], tmp_path: Path) -> None:
        rows = door({f"{number}.png": grey(number) for number in range(12)}, tmp_path)
        detector = fit_quietly(insphere.KNN(random_state=0), rows)
        np.testing.assert_array_equal(detector.anomaly_score(rows), detector.anomaly_score(np.stack(GREY)))
        assert detector.input_shape_ == (9, 8, 1)

    def test_arrays_and_pairs_with_labels(self) -> None:
        listed = open_source(GREY)
        assert listed.row_shape == (9, 8, 1) and len(listed) == 12

        class Pairs:
            def __len__(self) -> int:
                return 12

            def __getitem__(self, row: int) -> tuple[Any, int]:
                return GREY[row], row // 9

        assert len(open_source(Pairs(), normal_label=0, split="train")) == 9
        assert open_source(Pairs()).labels is None

    def test_one_picture_and_arrays_of_paths(self, tmp_path: Path) -> None:
        assert open_source(Image.fromarray(GREY[0])).load().X[..., 0].tolist() == [GREY[0].tolist()]
        listed = paths({"b.png": grey(1), "a.png": grey(0)}, tmp_path)
        for rows in (np.array(listed), pd.Series(listed, index=[7, 3])):
            np.testing.assert_array_equal(open_source(rows).load().X[..., 0], GREY[1::-1])

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ((picture for picture in GREY), "list"),
            (Path().glob("*.png"), "list"),
            (torch.utils.data.DataLoader(GREY, batch_size=2), "its `dataset`"),  # type: ignore[arg-type]
            ([GREY[0], GREY[1][:5]], "2 shapes"),
            ([Image.fromarray(GREY[0]), GREY[1]], "Item 1 of the list is not a Pillow image"),
            (["/nowhere/a.png"], "does not exist"),
            ([], "The list is empty; give at least one path, image or row of numbers"),
            ((), "The tuple is empty"),
            ([{"voice": 1}], "dicts has no columns; give a data frame"),
            ({"volt": [1.0]}, "A dict is not rows; give a data frame"),
            ({1.0, 2.0}, "set is not rows in an order"),
            (None, "NoneType is not rows"),
        ],
    )
    def test_what_does_not_fit_is_told(self, rows: Any, words: str) -> None:
        with pytest.raises((DataError, ValueError, TypeError), match=words):
            open_source(rows)


class Items:
    """A data set as people write them: some items raise."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        if isinstance(self.items[row], Exception):
            raise self.items[row]
        return self.items[row]


PICTURES = [Image.fromarray(image) for image in GREY]


class TestItemsOfDataSets:
    @pytest.mark.parametrize(
        ("usual", "broken", "words"),
        [
            (PICTURES, OSError("gone"), "cannot be read: OSError: gone"),
            (PICTURES, None, "is None"),
            (GREY, None, "is None"),
            ([(image, 0) for image in PICTURES], (PICTURES[0], 0, 1), "tuple of 3"),
            ([(image, 0) for image in PICTURES], (0, PICTURES[0]), "tuple of 2"),
            ([(image,) for image in GREY], KeyError("x"), "KeyError"),
            ([{"image": image} for image in PICTURES], {"picture": PICTURES[0]}, "not made as the others"),
            ([{"image": image} for image in PICTURES], {"image": None}, "has no image"),
            (
                [{"image": {"bytes": grey(row), "path": None}} for row in range(12)],
                {"image": {"bytes": b"x", "path": None}},
                "not an image",
            ),
            ([grey(row) for row in range(12)], b"x", "not an image"),
        ],
    )
    def test_a_broken_one_is_a_row_error_and_stops_no_other(self, usual: list[Any], broken: Any, words: str) -> None:
        for place in (0, 5, 12):
            rows = open_source(Items([*usual[:place], broken, *usual[place:]])).load()
            assert list(rows.errors) == [place] and words in rows.errors[place]
            np.testing.assert_array_equal(rows.X[..., 0], np.stack(GREY))

    @pytest.mark.parametrize(
        ("items", "words"),
        [
            ([None] * 3, "None of the 3 items can be read .item 0 is None"),
            ([ValueError("no")] * 3, "None of the 3 items can be read .item 0 cannot be read: ValueError: no"),
            ([(0, image) for image in PICTURES], "tuples of 2 .int, Image.; give the image alone, .image, label., or fields by name"),
            ([(image, 0, 1) for image in PICTURES], "tuples of 3 .Image, int, int."),
        ],
    )
    def test_what_no_item_fits_is_refused_with_the_remedy(self, items: list[Any], words: str) -> None:
        with pytest.raises(DataError, match=words):
            open_source(Items(items))

    def test_a_label_of_a_broken_item_is_not_needed(self) -> None:
        source = open_source(Items([*((image, row % 2) for row, image in enumerate(PICTURES)), None]), normal_label=0)
        assert source.labels is not None and source.labels.tolist() == [0, 1] * 6 + [0] and list(source.load().errors) == [12]

    def test_tensors_of_vectors_are_vectors(self) -> None:
        rows = torch.arange(20.0).reshape(4, 5)
        for source in (torch.utils.data.TensorDataset(rows), torch.utils.data.TensorDataset(rows, torch.zeros(4))):
            np.testing.assert_array_equal(open_source(source).load().X, rows.numpy())

    def test_masked_values_are_missing_at_every_door(self) -> None:
        rows = np.ma.masked_array(RNG.normal(size=(40, 3)), mask=np.zeros((40, 3), dtype=bool))
        rows[7, 1] = 1e9
        rows[7, 1] = np.ma.masked
        with pytest.warns(UserWarning, match="1 of 40 training rows were left out"):
            detector = insphere.KNN(random_state=0).fit(rows)
        assert detector.training_errors_ == {"7": "feature 1 is nan"}
        with pytest.warns(UserWarning, match="1 of 40 rows could not be read"):
            assert np.isnan(detector.anomaly_score(rows)).nonzero()[0].tolist() == [7]
        with pytest.warns(UserWarning, match="1 of 40 training rows were left out"):
            assert insphere.KNN(random_state=0).fit(list(rows)).training_errors_ == {"7": "feature 1 is nan"}
        with pytest.warns(UserWarning, match="1 of 40 rows could not be read"):
            assert np.isnan(detector.anomaly_score(tuple(rows))).nonzero()[0].tolist() == [7]
        picture = np.ma.masked_array(GREY[0], mask=GREY[0] > 128)
        assert list(open_source([picture, GREY[1]]).load().errors) == [0]


def test_a_link_that_leads_nowhere_is_an_error_row_of_a_glob_too(tmp_path: Path) -> None:
    root = folder({"a.png": grey()}, tmp_path)
    (root / "b.png").symlink_to(tmp_path / "nowhere.png")
    for source in (open_source(str(root / "*.png")), open_source(root)):
        assert list(source.load().errors) == [1] and not [text for text in read(source) if "Pipes" in text]


@pytest.mark.parametrize(
    "rows", [(row for row in [[1.0]]), None, {"volt": [1.0] * 20}, {1.0}, [{"volt": 1.0}] * 20], ids=lambda rows: type(rows).__name__
)
def test_fit_says_the_same_of_what_is_not_rows(rows: Any) -> None:
    with pytest.raises(DataError, match="give"):
        insphere.KNN(random_state=0).fit(rows)


def test_a_picture_that_is_open_at_a_page_stays_there() -> None:
    pages = [Image.fromarray(image) for image in GREY[:3]]
    picture = Image.open(io.BytesIO(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])))
    picture.seek(1)
    np.testing.assert_array_equal(open_source([picture]).load().X[0, :, :, 0], GREY[1])
    assert picture.tell() == 1


def test_a_tiff_of_64_bit_numbers_is_named(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.fromarray(GREY[0].astype(np.float32)), "TIFF"))
    at = data.index(bytes([0x02, 0x01, 3, 0, 1, 0, 0, 0, 32, 0]))  # the tag for bits a sample, a short, one value, 32
    data[at + 8] = 64
    rows = open_source(folder({"a.tif": bytes(data), "b.png": grey()}, tmp_path)).load()
    assert "TIFF whose kind of pixels is not read" in rows.errors[0]


def test_a_missing_folder_of_tests_is_not_taken_for_another(tmp_path: Path) -> None:
    root = folder({f"train/{number}.png": grey(number) for number in range(9)}, tmp_path)
    assert len(open_source(root, split="train")) == 9
    shutil.rmtree(root / "train")
    with pytest.raises(DataError, match="no image"):
        open_source(root)


def test_a_damaged_page_after_the_first_does_not_cost_the_first(tmp_path: Path) -> None:
    pages = [Image.fromarray(image) for image in GREY[:2]]
    data = bytearray(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    directory = int.from_bytes(data[4:8], "little")
    n_tags = int.from_bytes(data[directory : directory + 2], "little")
    at = directory + 2 + 12 * n_tags
    data[at : at + 4] = b"\xff\xff\xff\x7f"  # the second page lies behind the end
    rows = open_source(folder({"a.tif": bytes(data)}, tmp_path)).load()
    assert not rows.errors
    np.testing.assert_array_equal(rows.X[0, :, :, 0], GREY[0])
