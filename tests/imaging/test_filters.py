"""Steps that change grey values: equalisation, sharpening, smoothing, noise reduction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from freezeframe.imaging.filters import estimate_noise
from freezeframe.imaging.image import DecodedImage
from freezeframe.imaging.preprocess import Preprocessing

STEPS = [
    "equalise",
    "sharpen",
    "smooth",
    {"smooth": {"mode": "median"}},
    {"smooth": {"mode": "bilateral"}},
    "denoise",
    "mask-border",
    "remove-hair",
]


def after(step: str | dict, pixels: np.ndarray) -> np.ndarray:
    """Return an image after one step, before the resize that follows."""
    steps = Preprocessing.from_steps([step], (32, 32), (0.5,) * 3, (0.5,) * 3)
    return list(steps.stages(DecodedImage(pixels)))[1].pixels


def wave(dtype: type = np.uint8, *, colour: bool = False) -> np.ndarray:
    """Return a smooth image of low contrast, with two blobs."""
    rows, columns = np.mgrid[:96, :80]
    grey = 0.4 + 0.1 * np.sin(rows / 9) * np.cos(columns / 11)
    values = np.stack([grey, grey * 0.8, grey * 0.6], 2) if colour else grey
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(STEPS),
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
            lambda sides: st.sampled_from([sides, (*sides, 3)])
        ),
    ),
)
def test_every_step_keeps_shape_and_depth_of_any_image_and_changes_no_input(step, pixels):
    before = pixels.copy()
    result = after(step, pixels)
    assert result.shape == pixels.shape
    assert result.dtype == pixels.dtype
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("value", [0, 100, 255])
def test_an_image_of_one_value_stays_as_it_is_but_for_frames(step, value):
    for shape in [(60, 50), (60, 50, 3)]:
        pixels = np.full(shape, value, np.uint8)
        # Grey through CIELAB and back is off by rounding only.
        assert np.abs(after(step, pixels).astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("step", STEPS)
def test_16_bits_are_treated_as_8_bits_are(step):
    narrow = wave()
    wide = narrow.astype(np.uint16) * 257
    difference = after(step, wide) / 257 - after(step, narrow)
    # Half a grey value of rounding; noise reduction follows the estimated noise.
    assert np.abs(difference).max() <= 1


def test_equalising_raises_contrast_and_keeps_the_hue_of_colour():
    grey, colour = wave(), wave(colour=True)
    assert after("equalise", grey).std() > 1.5 * grey.std()
    equalised = after("equalise", colour).astype(float)
    assert equalised.std() > colour.std()
    order = equalised[..., 0] >= equalised[..., 1]
    assert order.mean() > 0.99  # red stays the strongest channel, as before


def test_a_smaller_clip_gives_less_contrast():
    image = wave()
    image[:, 60:] = np.linspace(0, 255, 20)  # from black to white, so that nothing is stretched
    weak, strong = (
        after({"equalise": {"clip": clip}}, image)[:, :40].astype(float).std() for clip in (0.005, 0.2)
    )
    assert weak < 0.8 * strong


def test_sharpening_is_the_formula_of_unsharp_masking():
    image = wave()
    values = image / 255
    expected = np.clip(values + 1.5 * (values - gaussian_filter(values, 3.0, mode="reflect")), 0, 1)
    result = after({"sharpen": {"radius": 3.0, "amount": 1.5}}, image)
    assert np.abs(result - expected * 255).max() <= 1


def test_the_median_removes_specks_that_the_gaussian_only_spreads():
    image = wave()
    specked = image.copy()
    specked[10::20, 10::20] = 255
    assert np.abs(after({"smooth": {"mode": "median"}}, specked).astype(int) - image).max() <= 4
    assert np.abs(after("smooth", specked).astype(int) - image).max() > 10


def test_the_bilateral_filter_keeps_an_edge_that_the_gaussian_blurs():
    edge = np.full((40, 40), 50, np.uint8)
    edge[:, 20:] = 200
    assert np.abs(after({"smooth": {"mode": "bilateral", "radius": 2}}, edge).astype(int) - edge).max() <= 2
    assert np.abs(after({"smooth": {"radius": 2}}, edge).astype(int) - edge).max() > 40


@pytest.mark.parametrize("deviation", [0.02, 0.05, 0.1])
def test_the_estimated_noise_is_the_noise_that_was_added(deviation):
    clean = wave() / 255
    noisy = clean + np.random.default_rng(0).normal(0, deviation, clean.shape)
    assert estimate_noise(noisy) == pytest.approx(deviation, rel=0.1)


def test_noise_reduction_brings_an_image_nearer_to_the_clean_one():
    clean = wave()
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
    before, after_it = (
        np.abs(image.astype(int) - clean).mean() for image in (noisy, after("denoise", noisy))
    )
    assert after_it < 0.6 * before
