import contextlib
import io
import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from insphere.data.image_sizes import LONGEST_SIDE, check_image_size, choose_spec
from insphere.data.images import ImageHeader, ImageSpec, bring_array_to, decode, probe
from insphere.errors import DataError, ParameterError

NOISE = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def encode(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_formats_keep_every_grey_pixel(format):
    pixels = NOISE[:, :, 0]
    data = encode(Image.fromarray(pixels), format)
    assert probe(data) == (6, 4, "grey")
    assert np.array_equal(decode(data, ImageSpec(6, 4, 1))[:, :, 0], pixels)


def test_webp_is_read():
    data = encode(Image.fromarray(NOISE), "WEBP", lossless=True)
    assert probe(data) == (6, 4, "rgb")
    assert np.array_equal(decode(data, ImageSpec(6, 4, 3)), NOISE)


def test_path_and_file_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "noise.png"
    path.write_bytes(encode(Image.fromarray(NOISE)))
    spec = ImageSpec(6, 4, 3)
    with path.open("rb") as file:
        assert np.array_equal(decode(file, spec), NOISE)
    assert np.array_equal(decode(path, spec), NOISE)
    assert np.array_equal(decode(os.fspath(path), spec), NOISE)


@pytest.mark.parametrize(("mode", "kind"), [("1", "grey"), ("L", "grey"), ("LA", "grey"), ("P", "rgb"), ("RGB", "rgb"), ("RGBA", "rgb")])
def test_probe_names_the_kind_of_every_png_mode(mode, kind):
    assert probe(encode(Image.fromarray(NOISE).convert(mode))) == (6, 4, kind)


def test_palette_of_greys_counts_as_grey():
    image = Image.fromarray(NOISE[:, :, 0]).convert("P")
    assert probe(encode(image)) == (6, 4, "grey")


def test_palette_is_looked_up():
    image = Image.fromarray(NOISE).quantize(256)
    assert np.array_equal(decode(encode(image), ImageSpec(6, 4, 3)), np.array(image.convert("RGB")))


def test_one_bit_spans_the_full_range():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode(encode(image), ImageSpec(1, 2, 1)).ravel().tolist() == [0, 255]


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparency_is_laid_over_white(alpha):
    colour = np.array([200, 100, 0])
    expected = np.rint(255 + (colour - 255) * alpha / 255)
    pixels = decode(encode(Image.new("RGBA", (3, 2), (*colour.tolist(), alpha))), ImageSpec(2, 3, 3))
    assert np.abs(pixels.astype(float) - expected).max() <= 1


def test_grey_with_alpha_and_palette_with_transparency_are_laid_over_white():
    assert decode(encode(Image.new("LA", (1, 1), (10, 0))), ImageSpec(1, 1, 1)).item() == 255
    palette = Image.fromarray(np.zeros((1, 2), np.uint8))
    palette.putpixel((1, 0), 1)
    palette = palette.convert("P")
    palette.putpalette([10, 10, 10, 20, 20, 20])
    data = encode(palette, transparency=1)
    assert decode(data, ImageSpec(1, 2, 1)).ravel().tolist() == [10, 255]


def test_cmyk_jpeg_becomes_colour():
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = decode(data, ImageSpec(8, 8, 3))[4, 4].tolist()
    assert red > 230 and green < 30 and blue < 30


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_by_257(format):
    values = np.array([[0, 257, 65535], [128, 1000, 30000]], dtype=np.uint16)
    data = encode(Image.fromarray(values), format)
    assert probe(data).kind == "grey16"
    exact = decode(data, ImageSpec(2, 3, 1, "float32"))
    assert exact.dtype == np.float32
    assert np.allclose(exact[:, :, 0], values / 257, atol=1e-5)
    assert np.array_equal(decode(data, ImageSpec(2, 3, 1))[:, :, 0], np.rint(values / 257))
    assert np.array_equal(*np.moveaxis(decode(data, ImageSpec(2, 3, 3, "float32"))[:, :, :2], 2, 0))


def test_sixteen_bit_pgm_is_scaled_like_the_others():
    values = np.array([[0, 257, 65535]], dtype=">u2")
    data = b"P5 3 1 65535\n" + values.tobytes()
    assert probe(data).kind == "grey16"
    assert decode(data, ImageSpec(1, 3, 1)).ravel().tolist() == [0, 1, 255]


def test_eight_bits_in_a_float_spec_keep_their_values():
    data = encode(Image.fromarray(NOISE))
    assert np.array_equal(decode(data, ImageSpec(6, 4, 3, "float32")), NOISE.astype(np.float32))


def test_pixels_beyond_sixteen_bits_and_floating_pixels_are_refused():
    with pytest.raises(DataError, match=r"outside the 16 bits 0\.\.65535"):
        decode(encode(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"), ImageSpec(2, 2, 1))
    with pytest.raises(DataError, match="floating-point pixels"):
        decode(encode(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), ImageSpec(2, 2, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_exif_orientation_is_honoured(orientation, format):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif)
    assert probe(data)[:2] == (16, 32)
    assert np.abs(decode(data, ImageSpec(16, 32, 3)).astype(int) - upright).max() < 40


def test_sixteen_bit_image_is_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(np.array([[257, 514]], np.uint16)), exif=exif)
    assert decode(data, ImageSpec(2, 1, 1)).ravel().tolist() == [1, 2]


def test_damaged_exif_counts_as_upright():
    data = encode(Image.fromarray(NOISE), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    with warnings.catch_warnings():
        # Pillow's own warning about the EXIF is welcome.
        warnings.simplefilter("ignore", UserWarning)
        assert probe(data) == (6, 4, "rgb")
        assert decode(data, ImageSpec(6, 4, 3)).shape == (6, 4, 3)


def test_first_frame_of_an_animation_is_read():
    frames = [Image.new("L", (2, 2), value) for value in (50, 200)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, ImageSpec(2, 2, 1))[0, 0, 0] == 50


def test_resizing_is_antialiased():
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = decode(encode(Image.fromarray(checkerboard)), ImageSpec(8, 8, 1))
    assert np.abs(small[1:-1, 1:-1].astype(int) - 127).max() <= 3


def test_one_pixel_image_is_legal():
    data = encode(Image.new("L", (1, 1), 7))
    assert probe(data) == (1, 1, "grey")
    assert decode(data, ImageSpec(1, 1, 1)).item() == 7


def test_huge_image_is_refused_by_its_header(huge_png):
    for read in (probe, lambda data: decode(data, ImageSpec(8, 8, 1))):
        with pytest.raises(DataError, match="89,478,485"):
            read(huge_png)


def test_image_just_over_the_limit_is_refused_and_just_under_is_probed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DataError, match="10,000 x 9,000"):
            probe(b"P5 10000 9000 255\n")
    assert probe(b"P5 10000 8900 255\n") == (8900, 10000, "grey")


@pytest.mark.parametrize("data", [b"", b"just some text\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x80\x04K\x01."])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DataError, match="not an image in a format that is read"):
        decode(data, ImageSpec(8, 8, 1))


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
def test_truncated_jpeg_is_not_completed(jpeg, fraction):
    with pytest.raises(DataError, match="truncated"):
        decode(jpeg[: int(len(jpeg) * fraction)], ImageSpec(8, 8, 1))


def test_more_channels_than_files_have_are_refused():
    with pytest.raises(DataError, match="5 are asked for"):
        decode(encode(Image.fromarray(NOISE)), ImageSpec(6, 4, 5))


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\x00", b"P5 ", b"RIFF"])
)
def test_any_bytes_give_pixels_or_a_data_error(data, magic):
    with contextlib.suppress(DataError):
        assert decode(magic + data, ImageSpec(3, 4, 1)).shape == (3, 4, 1)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), st.data())
def test_damaged_images_give_pixels_or_a_data_error(format, data):
    encoded = bytearray(encode(Image.fromarray(NOISE), format))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    encoded = bytes(encoded[: data.draw(st.integers(1, len(encoded)))])
    for read in (probe, lambda image: decode(image, ImageSpec(3, 4, 3))):
        try:
            read(encoded)
        except DataError as error:
            assert "\n" not in str(error)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA"]), st.integers(1, 20), st.integers(1, 20)
)
def test_every_size_and_mode_is_brought_to_the_spec(height, width, mode, to_height, to_width):
    data = encode(Image.new("RGB", (width, height), (9, 90, 200)).convert(mode))
    for channels in (1, 3):
        for dtype in ("uint8", "float32", "float64"):
            pixels = decode(data, ImageSpec(to_height, to_width, channels, dtype))
            assert pixels.shape == (to_height, to_width, channels) and pixels.dtype == dtype


def test_common_small_size_is_kept():
    assert choose_spec([ImageHeader(24, 40, "grey")] * 3) == ImageSpec(24, 40, 1)


def test_mixed_sizes_give_the_median_within_the_limit():
    headers = [ImageHeader(100, 50, "grey"), ImageHeader(200, 100, "rgb"), ImageHeader(900, 130, "grey")]
    assert choose_spec(headers) == ImageSpec(LONGEST_SIDE, 32, 3)


def test_extremely_long_images_keep_at_least_one_pixel():
    assert choose_spec([ImageHeader(1, 5000, "grey")]) == ImageSpec(1, 64, 1)


def test_sixteen_bits_make_the_spec_a_float_and_options_win():
    headers = [ImageHeader(8, 8, "grey"), ImageHeader(8, 8, "grey16")]
    assert choose_spec(headers).dtype == "float32"
    assert choose_spec(headers, image_size=(4, 6), mode="rgb") == ImageSpec(4, 6, 3, "float32")
    assert choose_spec([ImageHeader(8, 8, "rgb")], image_size=5, mode="grey") == ImageSpec(5, 5, 1)


@pytest.mark.parametrize("value", [0, -3, 2.5, "32", (3,), (3, 0), (1, 2, 3), True])
def test_bad_image_sizes_are_refused(value):
    with pytest.raises(ParameterError, match="image_size"):
        check_image_size(value)


def test_bad_specs_are_refused():
    for fields in ((0, 1, 1), (1, 1, 0), (1, 1.5, 1), (1, 1, 1, "int8"), (100_000, 100_000, 1)):
        with pytest.raises(ParameterError):
            ImageSpec(*fields)


def test_spec_survives_json():
    spec = ImageSpec(3, 4, 1, "float32")
    assert ImageSpec(**spec.to_json()) == spec


def test_arrays_are_brought_like_files():
    spec = ImageSpec(3, 3, 1)
    assert np.array_equal(bring_array_to(NOISE[np.newaxis], spec)[0], decode(encode(Image.fromarray(NOISE)), spec))
    assert bring_array_to(NOISE[np.newaxis, :, :, :1], ImageSpec(6, 4, 1)) is not None


def test_a_drafted_jpeg_is_read_at_a_fraction_of_its_size_and_others_as_they_are() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
    held: dict[str, bytes] = {}
    for kind, exif in (("jpeg", 1), ("png", 1), ("turned", 6)):
        stream = io.BytesIO()
        tags = Image.Exif()
        tags[0x0112] = exif
        smooth.save(stream, "png" if kind == "png" else "jpeg", exif=tags)
        held[kind] = stream.getvalue()
    full, drafted = ImageSpec(75, 100, 3), ImageSpec(75, 100, 3, jpeg_draft=True)
    with Image.open(io.BytesIO(held["jpeg"])) as image:
        image.draft(None, (100, 75))
        assert image.size == (100, 75)
        np.testing.assert_array_equal(decode(held["jpeg"], drafted), np.asarray(image))
    assert 0 < np.abs(decode(held["jpeg"], drafted).astype(float) - decode(held["jpeg"], full)).mean() < 4
    np.testing.assert_array_equal(decode(held["png"], drafted), decode(held["png"], full))
    upright = ImageSpec(150, 100, 3, jpeg_draft=True)
    assert decode(held["turned"], upright).shape == (150, 100, 3)
    # Where a fraction would be too small, all pixels are read.
    tall = [decode(held["jpeg"], ImageSpec(301, 100, 3, jpeg_draft=drafts)) for drafts in (True, False)]
    np.testing.assert_array_equal(*tall)


def test_the_specification_says_whether_files_are_drafted() -> None:
    assert ImageSpec(2, 3, 1).to_json() == {"height": 2, "width": 3, "channels": 1, "dtype": "uint8"}
    assert ImageSpec(**ImageSpec(2, 3, 1, jpeg_draft=True).to_json()) == ImageSpec(2, 3, 1, jpeg_draft=True)
    with pytest.raises(ParameterError, match="jpeg_draft"):
        ImageSpec(2, 3, 1, jpeg_draft=1)  # type: ignore[arg-type]
