import errno
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from PIL import Image
from safetensors.numpy import save as save_safetensors

from insphere import model_file
from insphere.errors import ModelFileError, ParameterError
from insphere.model_file import FORMAT_VERSION, read, write

HEADER = {"parameters": {"alpha": 0.01, "epochs": 40, "latent_dim": None}, "history": [1.5, 0.5], "note": "größer \u2192 \U0001f600"}
ARRAYS: dict[str, Any] = {
    "network/encoder.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "calibration": np.linspace(0, 1, 7),
    "centre": np.array([0.5, -1.5]),
    "flags": np.array([True, False]),
}
DTYPES = ["?", "e", "f", "d", "b", "h", "i", "q", "B", "H", "I", "Q"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
any_array = st.builds(np.dtype, st.sampled_from([order + code for order in "<>" for code in DTYPES])).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.insphere"
    write(path, "detector", HEADER, ARRAYS)
    return path


def same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    little = other.dtype.newbyteorder("<")
    return one.shape == other.shape and one.dtype == other.dtype.newbyteorder("=") and one.tobytes() == other.astype(little).tobytes()


class TestRoundTrip:
    @given(
        header=st.dictionaries(st.text(), json_values, max_size=4),
        arrays=st.dictionaries(st.from_regex(r"\A[\w.:/-]+\Z", fullmatch=True).filter(str.isascii), any_array, max_size=4),
    )
    def test_everything_comes_back_bit_by_bit(
        self, tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], arrays: dict[str, Any]
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "round-trip.insphere"
        write(path, "detector", header, arrays)
        found = read(path, "detector")
        assert found.header == header
        assert json.dumps(found.header) == json.dumps(header)  # also the order of keys, 1 against 1.0, and -0.0
        assert found.arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            assert same_bits(found.arrays[name], array)

    @pytest.mark.parametrize(
        "array",
        [
            np.array(3.5),
            np.float32(3.5),
            np.zeros((0, 3), dtype=np.float32),
            np.arange(12, dtype=">f8").reshape(3, 4),
            np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
            np.arange(10)[::-2],
            np.broadcast_to(np.float32(1), (3, 4)),
            np.array([np.nan, np.inf, -0.0], dtype=np.float32),
            np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        ],
        ids=["0-d", "scalar", "empty", "big-endian", "transposed", "reversed", "broadcast", "not finite", "fortran"],
    )
    def test_any_layout(self, tmp_path: Path, array: Any) -> None:
        write(tmp_path / "m", "detector", {}, {"x": array})
        found = read(tmp_path / "m", "detector").arrays["x"]
        assert same_bits(found, array)
        assert found.flags.c_contiguous
        assert found.flags.writeable

    def test_header_may_hold_tuples_mappings_and_numpy_floats(self, tmp_path: Path) -> None:
        write(tmp_path / "m", "detector", {"shape": (28, 28), "options": MappingProxyType({"a": (1,)}), "auroc": np.float64(0.5)}, {})
        assert read(tmp_path / "m", "detector").header == {"shape": [28, 28], "options": {"a": [1]}, "auroc": 0.5}

    def test_same_content_same_bytes(self, model: Path, tmp_path: Path) -> None:
        write(tmp_path / "again", "detector", HEADER, ARRAYS)
        assert (tmp_path / "again").read_bytes() == model.read_bytes()

    def test_path_may_be_text(self, model: Path) -> None:
        assert read(str(model), "detector").header == HEADER

    def test_is_a_plain_safetensors_file(self, model: Path) -> None:
        from safetensors import safe_open

        with safe_open(model, framework="np") as file:
            entry = json.loads(file.metadata()["insphere"])
        assert entry.keys() == {"format_version", "kind", "header", "arrays", "sha256"}
        assert (entry["format_version"], entry["kind"]) == (FORMAT_VERSION, "detector")


class TestRefusedContent:
    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ({"loss": float("nan")}, "`header.loss` must be finite"),
            ({"history": [{"loss": 1.0}, {"loss": float("inf")}]}, r"`header.history\[1\].loss` must be finite"),
            ({"epochs": np.int64(3)}, "`header.epochs` must be a JSON value, got int64"),
            ({"x": np.zeros(2)}, "`header.x` must be a JSON value, got ndarray"),
            ({"x": {1, 2}}, "`header.x` must be a JSON value, got set"),
            ({"classes": {3: "three"}}, "`header.classes` must have text keys"),
            ([], "`header` must be a mapping"),
        ],
    )
    def test_header_that_json_would_alter(self, tmp_path: Path, header: Any, words: str) -> None:
        with pytest.raises(ParameterError, match=words):
            write(tmp_path / "m", "detector", header, {})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "arrays",
        [
            {"x": np.array([object()])},
            {"x": np.array(["text"])},
            {"x": np.zeros(2, dtype=complex)},
            {"x": np.zeros(2, dtype="datetime64[s]")},
            {"x": np.zeros(2, dtype=[("a", "f4")])},
            {"x": np.ones(1, dtype=np.longdouble)},
            {"x": [1.0]},
            {"": np.zeros(1)},
            {"__metadata__ ": np.zeros(1)},
            {"größe": np.zeros(1)},
            {"x\udc80": np.zeros(1)},
            {3: np.zeros(1)},
        ],
    )
    def test_arrays_that_the_format_does_not_hold(self, tmp_path: Path, arrays: Any) -> None:
        with pytest.raises(ParameterError, match="`arrays"):
            write(tmp_path / "m", "detector", {}, arrays)
        assert list(tmp_path.iterdir()) == []

    def test_reserved_array_name(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="__metadata__"):
            write(tmp_path / "m", "detector", {}, {"__metadata__": np.zeros(1)})

    @pytest.mark.parametrize("kind", ["", None, 3])
    def test_kind_is_a_word(self, tmp_path: Path, kind: Any) -> None:
        with pytest.raises(ParameterError, match="`kind`"):
            write(tmp_path / "m", kind, {}, {})

    def test_header_too_large_for_the_format(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model_file, "_MAX_HEADER_BYTES", 1000)
        with pytest.raises(ParameterError, match="below 1,000 bytes"):
            write(tmp_path / "m", "detector", {"long": "x" * 1000}, {})
        assert list(tmp_path.iterdir()) == []


class TestDamage:
    def test_every_flipped_byte_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "small.insphere"
        write(path, "detector", {"seed": 7, "name": "x"}, {"centre": np.ones(2, dtype=np.float32), "radius": np.array(3.0)})
        whole = path.read_bytes()
        random = np.random.default_rng(0)
        for position in range(len(whole)):
            for change in (1, 0x20, 0x80, int(random.integers(1, 256))):
                broken = bytearray(whole)
                broken[position] ^= change
                path.write_bytes(broken)
                with pytest.raises(ModelFileError, match=r"small\.insphere.*[.;] ?"):
                    read(path, "detector")

    def test_every_truncation_is_noticed(self, model: Path) -> None:
        whole = model.read_bytes()
        for length in range(len(whole)):
            model.write_bytes(whole[:length])
            with pytest.raises(ModelFileError, match="is empty" if length == 0 else "bytes"):
                read(model, "detector")

    def test_half_a_file_says_truncated(self, model: Path) -> None:
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
        with pytest.raises(ModelFileError, match=r"truncated: .* copy or save it again"):
            read(model, "detector")

    @given(cut=st.data())
    def test_appended_and_moved_bytes_are_noticed(self, tmp_path_factory: pytest.TempPathFactory, cut: st.DataObject) -> None:
        path = tmp_path_factory.getbasetemp() / "moved.insphere"
        write(path, "detector", HEADER, ARRAYS)
        whole = path.read_bytes()
        start = cut.draw(st.integers(0, len(whole)))
        end = cut.draw(st.integers(start, len(whole)))
        middle = cut.draw(st.binary(max_size=20))
        broken = whole[:start] + middle + whole[end:]
        path.write_bytes(broken)
        if broken == whole:
            assert read(path, "detector").header == HEADER
        else:
            with pytest.raises(ModelFileError):
                read(path, "detector")

    @given(st.binary(max_size=200))
    def test_any_bytes_are_no_model(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        path = tmp_path_factory.getbasetemp() / "bytes.insphere"
        for data in (content, len(content).to_bytes(8, "little") + content, (len(content) + 1).to_bytes(8, "little") + b"{" + content):
            path.write_bytes(data)
            with pytest.raises(ModelFileError):
                read(path, "detector")


def rewritten(entry: Any, arrays: dict[str, Any] | None = None) -> bytes:
    """Return a safetensors file with this metadata entry, as a person with an editor could make it."""
    return save_safetensors(arrays or {}, metadata={"insphere": entry if isinstance(entry, str) else json.dumps(entry)})


class TestForeignFiles:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b"x", "has 1 bytes only"),
            (b"hello, this is some text\n" * 10, "not an insphere model file"),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
            (b"PK\x03\x04" + bytes(100), "zip archive"),
            (b"\x93NUMPY\x01\x00" + bytes(100), "a .npy array"),
            (pickle.dumps({"weights": [1.0] * 100}), "a Python pickle, which insphere never opens"),
            (save_safetensors({"x": np.zeros(3)}), "safetensors file that insphere did not write"),
            (save_safetensors({"x": np.zeros(3)}, metadata={"format": "pt"}), "safetensors file that insphere did not write"),
            ((2**63).to_bytes(8, "little") + b"{", "not an insphere model file"),
            ((50).to_bytes(8, "little") + b"{" + b"[" * 49, "altered"),
            ((20_000).to_bytes(8, "little") + b'{"a":' + b"[" * 19_995, "altered"),
        ],
    )
    def test_are_named(self, tmp_path: Path, content: bytes, words: str) -> None:
        path = tmp_path / "foreign"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=words):
            read(path, "detector")

    def test_image(self, tmp_path: Path) -> None:
        Image.new("L", (8, 8)).save(tmp_path / "image.png")
        with pytest.raises(ModelFileError, match=r"a PNG image. Name a file that insphere saved"):
            read(tmp_path / "image.png", "detector")

    def test_pickle_is_not_executed(self, tmp_path: Path) -> None:
        class Attack:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "executed"),)

        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            (tmp_path / "m").write_bytes(pickle.dumps(Attack(), protocol))
            with pytest.raises(ModelFileError):
                read(tmp_path / "m", "detector")
        assert not (tmp_path / "executed").exists()

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="does not exist; check the path"):
            read(tmp_path / "none", "detector")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="is a folder"):
            read(tmp_path, "detector")

    def test_path_through_a_file(self, model: Path) -> None:
        with pytest.raises(ModelFileError, match="cannot be read"):
            read(model / "inside", "detector")

    def test_null_character_in_the_path(self) -> None:
        with pytest.raises(ModelFileError, match="null"):
            read("a\0b", "detector")
        with pytest.raises(ModelFileError, match="null"):
            write("a\0b", "detector", {}, {})

    @pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")
    def test_device(self) -> None:
        with pytest.raises(ModelFileError, match="device"):
            read("/dev/null", "detector")

    def test_other_kind(self, model: Path) -> None:
        with pytest.raises(ModelFileError, match="holds a 'detector', and a 'checkpoint' is needed"):
            read(model, "checkpoint")

    def test_newer_format_is_said_before_anything_else(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(rewritten({"format_version": 2, "all": "different"}))
        with pytest.raises(ModelFileError, match=r"has format 2, .* up to 1; upgrade it: pip install -U insphere"):
            read(tmp_path / "m", "detector")

    @pytest.mark.parametrize(
        "change",
        [
            {"format_version": 0},
            {"format_version": True},
            {"format_version": "1"},
            {"format_version": None},
            {"kind": 3},
            {"header": []},
            {"header": {"x": 1}},
            {"arrays": {}},
            {"arrays": {"x": {"dtype": "float32", "shape": [3]}}},
            {"arrays": {"x": {"dtype": "float64", "shape": [1, 3]}}},
            {"arrays": []},
            {"sha256": "0" * 64},
            {"sha256": None},
            {"extra": 1},
        ],
    )
    def test_edited_entry(self, tmp_path: Path, change: dict[str, Any]) -> None:
        array = np.zeros(3)
        write(tmp_path / "m", "detector", {}, {"x": array})
        raw = (tmp_path / "m").read_bytes()
        entry = json.loads(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["insphere"])
        (tmp_path / "m").write_bytes(rewritten(entry, {"x": array}))
        assert read(tmp_path / "m", "detector").header == {}
        (tmp_path / "m").write_bytes(rewritten(entry | change, {"x": array}))
        with pytest.raises(ModelFileError, match="altered"):
            read(tmp_path / "m", "detector")

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "no JSON",
            "[]",
            "3",
            "null",
            "{}",
            "[" * 20_000,
            '{"format_version": 1, "kind": "detector", "header": {"x": NaN}, "arrays": {}, "sha256": ""}',
            '{"format_version": 1, "kind": "detector", "header": {"x": 1e999}, "arrays": {}, "sha256": ""}',
            '{"format_version": 1, "kind": "detector", "header": {"x": ' + "9" * 5000 + '}, "arrays": {}, "sha256": ""}',
        ],
        ids=range(10),
    )
    def test_entry_that_is_no_header(self, tmp_path: Path, entry: str) -> None:
        (tmp_path / "m").write_bytes(rewritten(entry))
        with pytest.raises(ModelFileError, match="altered"):
            read(tmp_path / "m", "detector")

    @pytest.mark.parametrize(
        "row",
        [
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
            {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
            {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
            {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
            {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
            {"dtype": "NONE", "shape": [1], "data_offsets": [0, 4]},
            {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**70]},
            {"dtype": "F32", "shape": [1], "data_offsets": "04"},
            {"dtype": "F32", "shape": [1], "data_offsets": [None, None]},
            {"dtype": "F32", "shape": [1], "data_offsets": []},
            {"dtype": "F32", "shape": [1]},
            [],
            None,
        ],
    )
    def test_table_of_arrays_that_lies(self, tmp_path: Path, row: Any) -> None:
        entry = {"format_version": 1, "kind": "detector", "header": {}, "arrays": {"x": {"dtype": "float32", "shape": [1]}}, "sha256": ""}
        table = json.dumps({"__metadata__": {"insphere": json.dumps(entry)}, "x": row}).encode()
        (tmp_path / "m").write_bytes(len(table).to_bytes(8, "little") + table + bytes(4))
        with pytest.raises(ModelFileError, match=r"altered|truncated"):
            read(tmp_path / "m", "detector")


def fail(code: int) -> Any:
    def raise_error(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return raise_error


class TestFailedWrite:
    @pytest.fixture(params=[True, False], ids=["over an older file", "new file"])
    def target(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        """Yield a target; afterwards the folder must look as before."""
        path = tmp_path / "model.insphere"
        if request.param:
            path.write_bytes(b"older")
        before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
        yield path
        assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_disk_full(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = os.open

        def open_on_a_full_disk(path: str, flags: int, *mode: int) -> int:
            descriptor, full = opened(path, flags, *mode), opened("/dev/full", os.O_WRONLY)
            os.dup2(full, descriptor)
            os.close(full)
            return descriptor

        monkeypatch.setattr(os, "open", open_on_a_full_disk)
        with pytest.raises(ModelFileError, match=r"Cannot write .*: No space left on device\. Free some space") as caught:
            write(target, "detector", HEADER, ARRAYS)
        assert isinstance(caught.value.__cause__, OSError)

    def test_disk_full_at_the_flush(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))
        with pytest.raises(ModelFileError, match="Free some space"):
            write(target, "detector", HEADER, ARRAYS)

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
    def test_folder_read_only(self, target: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        monkeypatch.setattr(os, "open", fail(code))
        with pytest.raises(ModelFileError, match=r"Cannot write .*\. Choose a folder that"):
            write(target, "detector", HEADER, ARRAYS)

    def test_rename_refused(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "replace", fail(errno.EBUSY))
        with pytest.raises(ModelFileError, match="or choose another place"):
            write(target, "detector", HEADER, ARRAYS)

    def test_ctrl_c(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(target, "detector", HEADER, ARRAYS)

    def test_folder_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="Create it first"):
            write(tmp_path / "none" / "m", "detector", {}, {})
        assert list(tmp_path.iterdir()) == []

    def test_folder_is_a_file(self, model: Path) -> None:
        before = model.read_bytes()
        with pytest.raises(ModelFileError, match="A part of the path is a file"):
            write(model / "m", "detector", {}, {})
        assert model.read_bytes() == before

    def test_target_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(ModelFileError, match="it is a folder. Name a file"):
            write(tmp_path / "out", "detector", {}, {})

    def test_name_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="Choose a shorter name"):
            write(tmp_path / ("m" * 300), "detector", {}, {})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_target_is_a_pipe_or_device(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="pipe"):
            write(tmp_path / "pipe", "detector", {}, {})
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
    def test_kill_in_the_middle_leaves_the_old_file(self, model: Path) -> None:
        before = model.read_bytes()
        program = """
            import os, signal, sys
            import numpy as np
            from insphere.model_file import write

            os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # written, not yet renamed
            write(sys.argv[1], "detector", {"new": True}, {"x": np.zeros(1000)})
        """
        killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(model)], check=False, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert model.read_bytes() == before
        assert read(model, "detector").header == HEADER
        write(model, "detector", {"new": True}, {})
        assert read(model, "detector").header == {"new": True}

    def test_name_of_the_longest_legal_length(self, tmp_path: Path) -> None:
        write(tmp_path / ("m" * 255), "detector", {}, {})
        assert read(tmp_path / ("m" * 255), "detector").header == {}


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
class TestPermissionsAndLinks:
    @pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_new_file_follows_the_umask(self, tmp_path: Path, umask: int, expected: int) -> None:
        before = os.umask(umask)
        try:
            write(tmp_path / "m", "detector", {}, {})
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == expected

    def test_overwritten_file_keeps_its_permissions(self, model: Path) -> None:
        model.chmod(0o640)
        write(model, "detector", {}, {})
        assert stat.S_IMODE(model.stat().st_mode) == 0o640

    def test_link_stays_a_link(self, model: Path, tmp_path: Path) -> None:
        link = tmp_path / "latest.insphere"
        link.symlink_to(model.name)
        write(link, "detector", {"new": True}, {})
        assert link.is_symlink()
        assert read(model, "detector").header == {"new": True}
