import os

import pytest

from insphere.data import ImageSpec, folder, open_source
from insphere.data.folders import is_image_name, read_layout, wrapper
from insphere.errors import DataError, ParameterError


@pytest.fixture
def mvtec(write_tree, png):
    return write_tree(
        {
            "train/good/1.png": png(value=1),
            "train/good/0.png": png(value=2),
            "test/good/0.png": png(value=3),
            "test/crack/0.png": png(value=4),
            "ground_truth/crack/0_mask.png": png(value=255),
            "readme.txt": b"hello",
        }
    )


def test_flat_folder_is_sorted_and_has_no_labels(write_tree, png):
    root = write_tree({"b.PNG": png(), "a.jpeg": png(), "c/d.png": png(), "notes.txt": b"x", ".hidden.png": b"x", "__MACOSX/._a.png": b"x"})
    source = open_source(root)
    assert list(source.ids) == ["a.jpeg", "b.PNG", "c/d.png"]
    assert source.labels is None and source.types is None and source.name == "tree"
    assert [len(open_source(root, split=split)) for split in ("train", "test", "all")] == [3, 3, 3]


def test_mvtec_layout(mvtec):
    train, test, everything = (open_source(mvtec, split=split) for split in ("train", "test", "all"))
    assert list(train.ids) == ["train/good/0.png", "train/good/1.png"] and train.labels.tolist() == [0, 0]
    assert train.load().X[:, 0, 0, 0].tolist() == [2, 1]
    assert list(test.ids) == ["test/crack/0.png", "test/good/0.png"]
    assert test.labels.tolist() == [1, 0] and list(test.types) == ["crack", "good"]
    assert len(everything) == 4 and list(everything.parts) == ["test", "test", "train", "train"]


def test_subfolders_of_the_layout_can_be_opened_by_themselves(mvtec):
    assert open_source(mvtec / "train" / "good").labels is None
    assert open_source(mvtec / "test").labels.tolist() == [1, 0]


def test_outer_folder_around_a_layout_is_looked_through(mvtec):
    outer = open_source(mvtec.parent, split="test")
    assert list(outer.ids) == ["test/crack/0.png", "test/good/0.png"]
    assert outer.load().X.shape == (2, 6, 5, 1)


@pytest.mark.parametrize("normal", ["good", "normal", "OK"])
def test_class_folders(write_tree, png, normal):
    root = write_tree({f"{normal}/0.png": png(), "scratch/0.png": png(), "dent/deep/0.png": png()})
    assert open_source(root).labels.tolist() == [0 if name.startswith(normal) else 1 for name in open_source(root).ids]
    assert set(open_source(root, split="test").types) == {normal, "scratch", "dent"}
    assert list(open_source(root, split="train").ids) == [f"{normal}/0.png"]


def test_normal_folder_of_another_name(write_tree, png):
    root = write_tree({"cats/0.png": png(), "dogs/0.png": png()})
    assert open_source(root).labels is None
    assert open_source(root, normal_label="cats").labels.tolist() == [0, 1]
    assert list(open_source(root, split="train", normal_label="cats").ids) == ["cats/0.png"]
    with pytest.raises(DataError, match=r"no folder 'birds'.*cats, dogs"):
        open_source(root, normal_label="birds")


def test_images_beside_class_folders_are_never_trained_on(write_tree, png):
    root = write_tree({"good/0.png": png(), "crack/0.png": png(), "unsorted.png": png()})
    assert list(open_source(root, split="train").ids) == ["good/0.png"]
    assert open_source(root, split="train").labels.tolist() == [0]
    assert open_source(root).labels is None


def test_images_that_nobody_has_judged_are_neither_normal_nor_anomalies(write_tree, png):
    tree = write_tree({f"{folder}/{number}.png": png() for folder in ("good", "New", "crack") for number in range(2)})
    source = open_source(tree, split="all")
    assert len(source) == 6 and source.labels is None
    (told,) = (notice.text for notice in source.notices if notice.kind == "taken as")
    assert "normal: good (2); anomalies: crack (2); of unknown kind: New (2)" in told and "measured on the other folders" in told
    assert open_source(tree, split="train").ids == ("good/0.png", "good/1.png")
    assert open_source(tree, split="all", normal_label="new").labels.tolist().count(0) == 2


def test_missing_parts_say_what_was_looked_for(write_tree, png):
    only_train = write_tree({"train/good/0.png": png()}, "a")
    with pytest.raises(DataError, match=r"no rows in the split 'test'; looked for test/ and found train/good \(1\)"):
        open_source(only_train, split="test")
    unnamed = write_tree({"train/cats/0.png": png(), "test/cats/0.png": png()}, "b")
    with pytest.raises(DataError, match=r"no normal rows to train on.*good or normal or ok.*train/cats.*normal_label"):
        open_source(unnamed, split="train")
    assert len(open_source(unnamed, split="train", normal_label="cats")) == 1


def test_flat_train_folder_is_normal(write_tree, png):
    root = write_tree({"train/0.png": png(), "test/0.png": png(), "test/crack/1.png": png()})
    assert open_source(root, split="train").labels.tolist() == [0]
    assert open_source(root, split="test").labels is None


def test_empty_folder_and_folder_without_images(write_tree):
    for root in (write_tree({}, "empty"), write_tree({"notes.txt": b"x", "sub/more.doc": b"x"}, "texts")):
        with pytest.raises(DataError, match=r"no image and no Parquet file.*looked for files ending in \.png"):
            open_source(root)


def test_bad_files_are_error_rows(write_tree, png, jpeg, huge_png):
    root = write_tree(
        {"good.png": png(), "text.png": b"only text", "cut.jpg": jpeg[:-200], "huge.png": huge_png, "empty.png": b"", "one.png": png(1, 1)}
    )
    source = open_source(root)
    rows = source.load()
    errors = {source.ids[position]: text for position, text in rows.errors.items()}
    assert [source.ids[position] for position in rows.index] == ["good.png", "one.png"]
    assert set(errors) == {"text.png", "cut.jpg", "huge.png", "empty.png"}
    assert "not an image" in errors["text.png"] and "truncated" in errors["cut.jpg"] and "89,478,485" in errors["huge.png"]


def test_only_bad_files(write_tree, png):
    root = write_tree({"text.png": b"only text"})
    with pytest.raises(DataError, match=r"no image that can be read \(1 tried\)"):
        open_source(root)
    assert open_source(root, spec=ImageSpec(2, 2, 1)).load().errors.keys() == {0}
    with pytest.raises(DataError, match="no image that can be read"):
        open_source(root / "text.png")


def test_mixed_sizes_and_modes_follow_the_stated_rule(write_tree, png):
    root = write_tree({"a.png": png(10, 20), "b.png": png(30, 20), "c.png": png(20, 40, mode="RGB")})
    assert open_source(root).spec == ImageSpec(20, 20, 3)
    assert open_source(root, mode="grey", image_size=(4, 8)).row_shape == (4, 8, 1)
    assert open_source(root, image_size=4).load().X.shape == (3, 4, 4, 3)
    assert open_source(root, spec=ImageSpec(7, 3, 1, "float32")).load().X.dtype == "float32"


def test_one_sixteen_bit_image_makes_all_floats(write_tree, png):
    root = write_tree({"a.png": png(value=3), "b.png": png(value=771, mode="I;16")})
    rows = open_source(root).load()
    assert rows.X.dtype == "float32" and rows.X[:, 0, 0, 0].tolist() == [3.0, 3.0]


def test_globs(mvtec, monkeypatch):
    assert list(open_source(str(mvtec / "train/*/*.png")).ids) == ["good/0.png", "good/1.png"]
    monkeypatch.chdir(mvtec)
    assert list(open_source("./train/good/*.png").ids) == ["0.png", "1.png"]
    assert len(open_source("**/*.png")) == 4
    assert open_source("test/*/*.png").labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="matches no image"):
        open_source("train/*.jpg")


def test_folder_whose_name_looks_like_a_glob(write_tree, png):
    assert len(open_source(str(write_tree({"a.png": png()}, "a[1]")))) == 1


def test_single_image(write_tree, png):
    source = open_source(write_tree({"a.png": png()}) / "a.png")
    assert len(source) == 1 and list(source.ids) == ["a.png"]


def test_options_of_tables_are_refused(mvtec):
    for option in ({"label_column": "y"}, {"columns": ["a"]}, {"groups": "g"}):
        with pytest.raises(ParameterError, match="does not apply to images"):
            open_source(mvtec, **option)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes as POSIX has them")
def test_links_are_followed_once_and_pipes_are_left_alone(write_tree, png):
    root = write_tree({"sub/a.png": png()})
    (root / "loop").symlink_to(root)
    (root / "broken.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "pipe.png")
    source = open_source(root)
    assert sorted(source.ids) == ["broken.png", "sub/a.png"]
    assert list(source.load().errors) == [0]


@pytest.mark.skipif(os.name == "nt", reason="names as bytes, as POSIX has them")
def test_names_that_are_no_unicode_stay_printable(write_tree, png):
    root = write_tree({"a.png": png()})
    try:
        os.rename(os.fsencode(root / "a.png"), os.fsencode(root) + b"/\xff.png")
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    source = open_source(root)
    source.ids[0].encode("utf-8")
    assert len(source.load().X) == 1


def test_folder_function_wants_a_folder(mvtec):
    assert len(folder(mvtec, split="test")) == 2
    for path in (mvtec / "readme.txt", mvtec / "nowhere"):
        with pytest.raises(DataError, match="is not a folder"):
            folder(path)


def test_wrapper_and_names():
    assert wrapper(["a/1.png", "b/1.png"]) == "" and wrapper(["a/b/1.png", "a/c/2.png"]) == "a/" and wrapper(["1.png"]) == ""
    assert not is_image_name("a/.b/1.png") and not is_image_name("1.txt") and is_image_name("a/1.TIFF")
    assert read_layout(["train/good/1.png", "misc/2.png"], name="x").positions == (0,)
