"""Plain image files: depth, colour, orientation, and refusals."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from freezeframe.imaging.decode import UnreadableImage, count_frames, decode
from freezeframe.imaging.image import MAX_PIXELS

RAMP_16 = (np.arange(30 * 40, dtype=np.uint16) * 54 + 3).reshape(30, 40)
RAMP_8 = (np.arange(30 * 40) % 256).astype(np.uint8).reshape(30, 40)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_every_value(tmp_path: Path, name: str):
    Image.fromarray(RAMP_16).save(tmp_path / name)
    image = decode(tmp_path / name)
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels, RAMP_16)
    assert image.attributes["bits"] == 16


def test_big_endian_16_bit_tiff_keeps_every_value(tmp_path: Path):
    Image.frombytes("I;16B", (40, 30), RAMP_16.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    pixels = decode(tmp_path / "a.tif").pixels
    assert pixels.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(pixels, RAMP_16)


def test_32_bit_integers_that_fit_16_bits_keep_every_value(tmp_path: Path):
    Image.fromarray(RAMP_16.astype(np.int32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").pixels, RAMP_16)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_8_bit_grey_is_exact_in_lossless_formats(tmp_path: Path, name: str):
    Image.fromarray(RAMP_8).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    pixels = decode(tmp_path / name).pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP_8)


def test_jpeg_is_what_pillow_reads(tmp_path: Path):
    Image.fromarray(RAMP_8).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(
        decode(tmp_path / "a.jpg").pixels, np.asarray(Image.open(tmp_path / "a.jpg"))
    )


def test_floating_point_from_0_to_1_fills_16_bits(tmp_path: Path):
    Image.fromarray((RAMP_16 / np.float32(65535)).astype(np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").pixels, RAMP_16)


@pytest.mark.parametrize("values", [[-1000.0, 3000.0], [0.0, 2.5], [0.0, np.nan]])
def test_floating_point_of_unknown_range_is_refused(tmp_path: Path, values: list[float]):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match="what is black and white is not said"):
        decode(tmp_path / "a.tif")


def test_one_bit_becomes_black_and_white(tmp_path: Path):
    Image.fromarray(RAMP_8 > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, np.where(RAMP_8 > 100, 255, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_exif_orientation_is_applied(tmp_path: Path, name: str, orientation: int):
    # How the stored image is made from the upright one (TIFF 6.0, Orientation), undone by the decoder.
    stored = {
        1: RAMP_8,
        2: RAMP_8[:, ::-1],
        3: RAMP_8[::-1, ::-1],
        4: RAMP_8[::-1],
        5: RAMP_8.T,
        6: np.rot90(RAMP_8),
        7: RAMP_8[::-1, ::-1].T,
        8: np.rot90(RAMP_8, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / name).pixels, RAMP_8)


def test_palette_and_cmyk_become_colour(tmp_path: Path):
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[:2] = (255, 0, 0)
    colour[2:] = (0, 0, 255)
    Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(decode(tmp_path / "palette.png").pixels, colour)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(decode(tmp_path / "cmyk.tif").pixels, colour)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_on_black(tmp_path: Path, mode: str):
    image = Image.new(mode, (4, 4), (200, 128) if mode == "LA" else (200, 200, 200, 128))
    image.save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png").pixels
    assert pixels.shape == (4, 4)
    assert abs(int(pixels[0, 0]) - 200 * 128 / 255) <= 1


def test_colour_files_of_a_grey_image_are_grey(tmp_path: Path):
    Image.fromarray(RAMP_8).convert("RGB").save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, RAMP_8)


def test_one_coloured_pixel_keeps_an_image_in_colour(tmp_path: Path):
    colour = np.repeat(RAMP_8[..., None], 3, axis=2)
    colour[17, 5] = (9, 8, 7)
    Image.fromarray(colour).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, colour)


def test_a_tiff_page_is_a_frame(tmp_path: Path):
    pages = [Image.fromarray(RAMP_8 // (page + 1)) for page in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert count_frames(tmp_path / "a.tif") == 3
    np.testing.assert_array_equal(decode(tmp_path / "a.tif", 2).pixels, RAMP_8 // 3)
    with pytest.raises(UnreadableImage, match="no frame 3"):
        decode(tmp_path / "a.tif", 3)


def test_a_name_that_lies_does_not_matter(tmp_path: Path):
    Image.fromarray(RAMP_8).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.dcm")
    np.testing.assert_array_equal(decode(tmp_path / "a.dcm").pixels, RAMP_8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "zero bytes"),
        (b"hello, this is no image", "is no JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no JPEG"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode(tmp_path / "a.png")
    assert "a.png" in str(caught.value)


def test_folders_and_missing_files_are_refused(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="is a folder"):
        decode(tmp_path)
    with pytest.raises(UnreadableImage, match="No such file"):
        decode(tmp_path / "none.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=r"truncated|is no JPEG"):
        decode(cut)


@pytest.mark.parametrize("side", [30_000, 12_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, side: int):
    assert side * side > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(
        _png_header(side, side)
    )  # it has no pixels: decoding would say truncated
    with pytest.raises(UnreadableImage, match="million"):
        decode(tmp_path / "bomb.png")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_decoded_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "damaged"
    suffix = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]))
    Image.fromarray(RAMP_8).save(path, format=suffix)
    content = bytearray(path.read_bytes())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)))
    ):
        content[position] = value
    path.write_bytes(content)
    try:
        pixels = decode(path).pixels
    except UnreadableImage:
        return
    assert pixels.dtype in (np.uint8, np.uint16)
    assert pixels.ndim in (2, 3)


def _png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
