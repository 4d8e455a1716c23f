"""Steps, depth and normalisation of the one preprocessing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from freezeframe.errors import UserError
from freezeframe.imaging.image import DecodedImage
from freezeframe.imaging.preprocess import Preprocessing

HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def preprocessing(*steps: str | dict, size: tuple[int, int] = (32, 32)) -> Preprocessing:
    return Preprocessing.from_steps(list(steps) or None, size, HALF, HALF)


def image(*shape: int, dtype: type = np.uint8, seed: int = 0) -> DecodedImage:
    greatest = np.iinfo(dtype).max
    return DecodedImage(np.random.default_rng(seed).integers(0, greatest, shape, dtype, endpoint=True))


def test_without_steps_the_image_is_padded_to_the_networks_size():
    plain = Preprocessing.from_steps(None, (240, 224), HALF, HALF)
    assert plain.to_dict()["steps"] == [{"resize": {"size": [240, 224], "mode": "pad"}}]
    assert (plain.height, plain.width) == (240, 224)


def test_padding_keeps_the_aspect_and_is_black():
    prepared = preprocessing().prepare(DecodedImage(np.full((100, 50), 200, np.uint8)), channels=1)
    assert prepared.shape == (32, 32)
    assert (prepared[:, 8:24] == 200).all()
    assert not prepared[:, :8].any()
    assert not prepared[:, 24:].any()


def test_cropping_keeps_the_aspect_and_cuts_the_middle_out():
    pixels = np.zeros((50, 100), np.uint8)
    pixels[:, 25:75] = 200
    prepared = preprocessing({"resize": {"mode": "crop"}}).prepare(DecodedImage(pixels), channels=1)
    assert prepared.shape == (32, 32)
    assert (prepared[:, 1:-1] == 200).all()  # at the cut the filter looks over it


def test_stretching_uses_the_whole_image():
    pixels = np.zeros((50, 100), np.uint8)
    pixels[:, 50:] = 200
    prepared = preprocessing({"resize": {"mode": "stretch"}}).prepare(DecodedImage(pixels), channels=1)
    assert not prepared[:, :15].any()
    assert (prepared[:, 17:] == 200).all()


@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3)])
def test_an_image_of_the_right_size_passes_through_bit_for_bit(
    mode: str, dtype: type, shape: tuple[int, ...]
):
    decoded = image(*shape, dtype=dtype)
    prepared = preprocessing({"resize": {"mode": mode}}).prepare(decoded, 3 if len(shape) == 3 else 1, dtype)
    np.testing.assert_array_equal(prepared, decoded.pixels)


@pytest.mark.parametrize("shape", [(333, 517), (333, 517, 3), (7, 5), (1, 900)])
@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
def test_16_bits_are_resized_as_8_bits_are(shape: tuple[int, ...], mode: str):
    narrow = image(*shape)
    wide = DecodedImage(narrow.pixels.astype(np.uint16) * 257)
    steps = preprocessing({"resize": {"mode": mode}})
    difference = steps.prepare(wide).astype(int) - steps.prepare(narrow)
    assert np.abs(difference).max() <= 1


def test_16_bits_keep_their_depth():
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    prepared = preprocessing().prepare(DecodedImage(ramp), channels=1, dtype=np.uint16)
    expected = ramp.reshape(32, 2, 32, 2).mean((1, 3))
    assert np.abs(prepared[1:-1, 1:-1] - expected[1:-1, 1:-1]).max() <= 1


def test_reduction_averages_instead_of_picking_pixels():
    checkers = np.indices((640, 640)).sum(0) % 2 * 255
    prepared = preprocessing().prepare(DecodedImage(checkers.astype(np.uint8)), channels=1)
    assert np.abs(prepared.astype(int) - 127).max() <= 2


@given(st.integers(0, 255))
def test_8_bits_become_16_and_back_without_loss(value: int):
    steps = preprocessing()
    wide = steps.prepare(DecodedImage(np.full((32, 32), value, np.uint8)), channels=1, dtype=np.uint16)
    assert (wide == value * 257).all()
    assert (steps.prepare(DecodedImage(wide), channels=1) == value).all()


@given(st.integers(0, 65535))
def test_16_bits_become_the_nearest_of_8(value: int):
    narrow = preprocessing().prepare(DecodedImage(np.full((32, 32), value, np.uint16)), channels=1)
    assert (narrow == round(value / 257)).all()


def test_channels_are_what_is_asked_for():
    steps = preprocessing()
    grey, colour = image(40, 40), image(40, 40, 3)
    assert steps.prepare(grey, 3).shape == (32, 32, 3)
    assert steps.prepare(colour, 1).shape == (32, 32)
    np.testing.assert_array_equal(steps.prepare(grey, 3)[..., 1], steps.prepare(grey, 1))


def test_grey_is_luminance():
    red = DecodedImage(np.tile(np.array([255, 0, 0], np.uint8), (32, 32, 1)))
    assert (preprocessing("grey").prepare(red, 1) == 76).all()
    assert (preprocessing("grey").prepare(red, 3) == 76).all()


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16]), st.sampled_from([(2, 5, 4), (2, 5, 4, 3)])),
)
def test_normalisation_is_the_formula(batch: np.ndarray):
    steps = Preprocessing.from_steps(None, (5, 4), *IMAGENET)
    result = steps.normalise(batch)
    colour = batch if batch.ndim == 4 else np.repeat(batch[..., None], 3, axis=3)
    expected = (colour / np.iinfo(batch.dtype).max - IMAGENET[0]) / IMAGENET[1]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["resise"], "did you mean 'resize'"),
        ([{"resize": {"sise": 3}}], "did you mean 'size'"),
        ([{"resize": {"mode": "padd"}}], "'mode' of preprocessing step 'resize' is 'padd'"),
        ([{"resize": {"size": -3}}], "'size'"),
        ([{"resize": {"size": "big"}}], "'size'"),
        ([{"resize": 224}], "has the parameters 224"),
        ([{"grey": {"weight": 3}}], "it has no parameters"),
        ([{"resize": {}, "grey": {}}], "one name with parameters"),
    ],
)
def test_a_wrong_step_is_explained(steps: list, message: str):
    with pytest.raises(UserError, match=message):
        preprocessing(*steps)


def test_plain_data_gives_the_same_preprocessing():
    steps = Preprocessing.from_steps(
        ["grey", {"resize": {"size": [20, 30], "mode": "crop"}}], (224, 224), *IMAGENET
    )
    again = Preprocessing.from_dict(steps.to_dict())
    assert again == steps
    assert (again.key(), again.height, again.width) == (steps.key(), 20, 30)


def test_a_preprocessing_of_another_version_is_refused():
    with pytest.raises(UserError, match="version 99"):
        Preprocessing.from_dict(preprocessing().to_dict() | {"version": 99})
    content = preprocessing().to_dict()
    del content["mean"]
    with pytest.raises(UserError, match="mean"):
        Preprocessing.from_dict(content)


def test_the_key_depends_on_pixels_only():
    key = preprocessing().key()
    assert Preprocessing.from_steps(None, (32, 32), *IMAGENET).key() == key
    assert preprocessing({"resize": {"size": 32, "mode": "pad"}}, size=(99, 99)).key() == key
    assert preprocessing({"resize": {"mode": "crop"}}).key() != key
    assert preprocessing(size=(32, 33)).key() != key
    assert preprocessing("grey").key() != key
