import numpy as np
import pytest
from PIL import Image

from freezeframe.data.manifest import ImageReference
from freezeframe.imaging.fingerprint import BORDER, fingerprint, measure
from freezeframe.imaging.image import DecodedImage, UnreadableImage


def _grey(seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (60, 80)).astype(dtype)


def test_the_same_pixels_in_two_formats_have_one_hash(tmp_path):
    image = Image.fromarray(_grey())
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.tiff")
    one, other = (fingerprint(ImageReference(tmp_path / name)) for name in ("a.png", "b.tiff"))
    assert one.pixel_hash == other.pixel_hash
    assert one.file_bytes != other.file_bytes
    assert one.file_bytes == (tmp_path / "a.png").stat().st_size


def test_pixels_of_another_shape_have_another_hash():
    pixels = _grey()
    hashes = {
        measure(DecodedImage(each), 1).pixel_hash
        for each in (pixels, pixels.T.copy(), pixels.reshape(80, 60))
    }
    assert len(hashes) == 3


def test_eight_and_sixteen_bits_of_one_picture_measure_alike():
    low = measure(DecodedImage(_grey()), 1)
    high = measure(DecodedImage(_grey().astype(np.uint16) * 257), 1)
    for name in ("brightness", "contrast", "border_brightness", "sharpness"):
        assert getattr(low, name) == pytest.approx(getattr(high, name), abs=1e-4)
    assert np.abs(low.thumbnail.astype(int) - high.thumbnail).max() <= 1


def test_the_border_is_the_outer_twentieth_of_each_side():
    pixels = np.zeros((100, 200), np.uint8)
    pixels[5:95, 10:190] = 255
    measured = measure(DecodedImage(pixels), 1)
    assert BORDER == 0.05
    assert measured.border_brightness == 0
    assert measured.brightness == pytest.approx(90 * 180 / 20000)


def test_a_grey_image_is_not_colourful_and_a_red_one_is():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert measure(DecodedImage(np.full((8, 8, 3), 90, np.uint8)), 1).colourfulness == pytest.approx(
        0, abs=1e-6
    )
    # Without spread it is 0.3 times the distance from grey: red - green = 1, yellow - blue = 0.5.
    assert measure(DecodedImage(red), 1).colourfulness == pytest.approx(0.3 * np.hypot(1, 0.5))


def test_an_image_of_one_pixel_is_measured():
    measured = measure(DecodedImage(np.full((1, 1), 51, np.uint8)), 1)
    assert measured.sharpness == 0
    assert measured.brightness == measured.border_brightness == pytest.approx(0.2)


def test_twelve_bits_in_sixteen_keep_their_detail_in_the_thumbnail():
    pixels = (_grey(dtype=np.uint16) // 16).astype(np.uint16)
    assert measure(DecodedImage(pixels), 1).thumbnail.std() > 20


def test_a_truncated_file_is_refused_with_its_name(tmp_path):
    path = tmp_path / "half.png"
    Image.fromarray(_grey()).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableImage, match=r"half\.png"):
        fingerprint(ImageReference(path))
