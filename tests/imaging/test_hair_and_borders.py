"""Hair removal, and masking of frames and burned-in letters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from freezeframe.imaging.borders import (
    BLURRED_EDGE,
    MaskBorderParameters,
    find_frame,
    find_markers,
    mask_border,
)
from freezeframe.imaging.hair import RemoveHairParameters, fill, find_hair, remove_hair
from freezeframe.imaging.steps import Noted


def skin(*, hairs: int) -> np.ndarray:
    """Draw a brown lesion on skin, and dark hairs over it."""
    image = Image.new("RGB", (224, 224), (225, 175, 155))
    draw = ImageDraw.Draw(image)
    draw.ellipse((70, 60, 160, 150), fill=(140, 90, 70))
    for place in range(hairs):
        draw.line((10 + 40 * place, 5, 60 + 30 * place, 215), fill=(40, 25, 20), width=2)
    return np.asarray(image)


def radiograph(letter: bool) -> np.ndarray:
    """Draw a grey body with a bright spine, and an L in the upper corner."""
    image = Image.new("L", (224, 224), 30)
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 10, 185, 224), fill=120)
    draw.rectangle((105, 10, 120, 224), fill=230)
    if letter:
        draw.text((12, 20), "L", fill=255, font=ImageFont.load_default(20))
    return np.asarray(image)


def test_hair_goes_and_the_lesion_stays():
    clean, hairy = skin(hairs=0), skin(hairs=4)
    result = remove_hair(hairy, RemoveHairParameters())
    assert isinstance(result, np.ndarray)
    before, after = (np.abs(image.astype(int) - clean).max(2) for image in (hairy, result))
    assert (after > 40).sum() < 0.05 * (before > 40).sum()
    untouched = ~find_hair(hairy, 0.06)
    np.testing.assert_array_equal(result[untouched], hairy[untouched])


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)])
def test_a_wide_gap_is_filled_within_the_range_of_its_surroundings(shape):
    pixels = np.random.default_rng(0).integers(100, 120, shape, np.uint8)
    gap = np.zeros((60, 80), bool)
    gap[5:50, 10:60] = True
    torn = pixels.copy()
    torn[gap] = 0
    result = fill(torn, gap)
    assert result.min() >= 100
    assert result.max() < 120
    np.testing.assert_array_equal(result[~gap], pixels[~gap])


def test_skin_without_hair_passes_through_bit_for_bit():
    np.testing.assert_array_equal(remove_hair(skin(hairs=0), RemoveHairParameters()), skin(hairs=0))


def test_dots_and_short_streaks_are_no_hair():
    image = Image.fromarray(skin(hairs=0))
    draw = ImageDraw.Draw(image)
    for place in range(8):
        draw.ellipse((20 * place + 20, 180, 20 * place + 26, 186), fill=(60, 40, 30))
        draw.line((20 * place + 20, 20, 20 * place + 30, 20), fill=(60, 40, 30), width=2)
    assert not find_hair(np.asarray(image), 0.06).any()


def test_hair_is_found_on_large_images_too():
    large = np.asarray(Image.fromarray(skin(hairs=3)).resize((1000, 1000), Image.Resampling.BILINEAR))
    small = find_hair(skin(hairs=3), 0.06)
    assert find_hair(large, 0.06).shape == (1000, 1000)
    assert abs(find_hair(large, 0.06).mean() - small.mean()) < 0.03


def test_a_uniform_frame_becomes_black_and_the_picture_stays():
    picture = np.random.default_rng(0).integers(60, 200, (100, 80), np.uint8)
    framed = np.full((130, 100), 255, np.uint8)
    framed[20:120, 5:85] = picture
    result = mask_border(framed, MaskBorderParameters(markers=False))
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result[22:118, 7:83], picture[2:-2, 2:-2])  # the edge may be blurred
    assert not result[:20].any()
    assert not result[120:].any()
    assert not result[:, :5].any()
    assert not result[:, 85:].any()


def test_a_blurred_shutter_leaves_no_bright_line():
    framed = np.full((200, 200), 250.0)
    framed[20:180, 30:170] = 90
    blurred = np.rint(gaussian_filter(framed, 0.5)).astype(np.uint8)
    assert mask_border(blurred, MaskBorderParameters(markers=False)).max() < 110  # type: ignore[union-attr]


def test_an_image_without_a_frame_stays_bit_for_bit():
    picture = np.random.default_rng(0).integers(0, 255, (60, 70), np.uint8)
    np.testing.assert_array_equal(mask_border(picture, MaskBorderParameters(markers=False)), picture)


def test_an_image_that_is_all_frame_stays_and_that_is_said():
    result = mask_border(np.full((50, 50), 90, np.uint8), MaskBorderParameters())
    assert isinstance(result, Noted)
    assert result.note == "border-not-plausible"
    assert (result.pixels == 90).all()


def test_a_burned_in_letter_goes_and_the_body_stays():
    clean, marked = radiograph(letter=False), radiograph(letter=True)
    result = mask_border(marked, MaskBorderParameters(frame=False))
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, clean)


def test_a_letter_in_colour_and_in_16_bits_goes_too():
    for marked in (np.stack([radiograph(True)] * 3, 2), radiograph(True).astype(np.uint16) * 257):
        result = mask_border(marked, MaskBorderParameters(frame=False))
        assert isinstance(result, np.ndarray)
        assert result.max() < 0.95 * np.iinfo(marked.dtype).max


def test_bright_ribs_at_the_side_are_no_letters():
    image = Image.new("L", (224, 224), 40)
    draw = ImageDraw.Draw(image)
    for row in range(20, 210, 25):
        draw.line((10, row, 60, row + 20), fill=180, width=6)
        draw.line((170, row + 20, 215, row), fill=180, width=6)
    assert not find_markers(np.asarray(image) / np.float32(255), 0.3).any()


def uniform_lines_all_at_once(lines: np.ndarray, tolerance: float) -> int:
    """Count as `borders.find_frame` says, without its growing blocks."""
    low, middle, high = np.quantile(lines, [0.02, 0.5, 0.98], axis=1)
    other = (high - low > tolerance) | (np.abs(middle - middle[0]) > tolerance)
    count = int(other.argmax()) if other.any() else len(lines)
    return min(len(lines), count + max(2, round(BLURRED_EDGE * len(lines)))) if count else 0


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    frame=st.tuples(*[st.integers(0, 40)] * 2),
    steps=st.floats(0, 0.03),
    seed=st.integers(0, 1000),
)
def test_a_frame_ends_where_it_ends_when_all_lines_are_looked_at_at_once(size, frame, steps, seed):
    generator = np.random.default_rng(seed)
    grey = generator.random(size, np.float32)
    top, left = frame
    grey[:top] = np.linspace(0, steps * 10, min(top, size[0]), dtype=np.float32)[:, None]
    grey[:, :left] = 0.5
    rows, columns = find_frame(grey, 0.02)
    begin, end = uniform_lines_all_at_once(grey, 0.02), uniform_lines_all_at_once(grey[::-1], 0.02)
    expected = slice(begin, max(begin, size[0] - end))
    assert rows == expected
    if grey[rows].size:
        body = grey[rows].T
        begin, end = uniform_lines_all_at_once(body, 0.02), uniform_lines_all_at_once(body[::-1], 0.02)
        assert columns == slice(begin, max(begin, size[1] - end))
