"""Augmentation as a pure function of (seed, image, view)."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from freezeframe.errors import UserError
from freezeframe.imaging.augment import POLICIES, Policy, apply, draw, partner_of

KEYS = [f"{number:064x}" for number in range(20)]


@pytest.fixture(scope="module")
def radiograph(shared_data) -> np.ndarray:
    path = sorted((shared_data / "kermany/compact_224/train/NORMAL").iterdir())[0]
    return np.asarray(Image.open(path))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), st.integers(0, 10), st.sampled_from(KEYS), st.integers(0, 50))
def test_what_is_drawn_is_plain_data_and_equal_for_equal_arguments(name, seed, key, view):
    policy = Policy.named(name)
    parameters = draw(policy, seed, key, view, KEYS)
    assert parameters == draw(policy, seed, key, view, KEYS)
    assert json.loads(json.dumps(parameters)) == parameters


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_view_0_is_the_image_itself(name, radiograph):
    assert draw(Policy.named(name), 0, KEYS[0], 0, KEYS) == {}
    assert (np.rint(apply(radiograph, {})[0] * 255) == radiograph).all()


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"none"}))
def test_views_stay_in_range_and_some_differ_from_the_image(name, radiograph):
    other = radiograph[:, ::-1]
    changed = 0
    for view in range(1, 9):
        parameters = draw(Policy.named(name), 0, KEYS[1], view, KEYS)
        picture = apply(radiograph, parameters, other if partner_of(parameters) else None)
        assert picture.dtype == np.float32
        assert picture.shape == (1, 224, 224)
        assert picture.min() >= 0
        assert picture.max() <= 1
        changed += not np.array_equal(picture, apply(radiograph, {}))
    assert changed >= 2


def test_a_flip_has_only_two_different_views(radiograph):
    views = {json.dumps(draw(Policy.named("flip"), 0, KEYS[0], view)) for view in range(50)}
    assert len(views) == 2
    flipped = apply(radiograph, {"flip_horizontal": True})
    assert (np.rint(flipped[0] * 255) == radiograph[:, ::-1]).all()


def test_the_radiograph_policy_never_flips():
    for view in range(100):
        assert not {"flip_horizontal", "flip_vertical"} & set(
            draw(Policy.named("radiograph"), 0, KEYS[0], view)
        )


def test_mixup_keeps_the_larger_share_of_the_image_itself(radiograph):
    parameters = draw(Policy.named("mixup"), 0, KEYS[0], 1, KEYS)
    key, share = partner_of(parameters)  # type: ignore[misc]
    assert key in KEYS
    assert 0 <= share <= 0.5
    other = np.zeros_like(radiograph)
    parameters.pop("flip_horizontal", None)
    assert np.allclose(apply(radiograph, parameters, other)[0], radiograph / 255 * (1 - share), atol=1e-6)


def test_cutmix_takes_the_share_of_the_area_that_the_label_takes(radiograph):
    for view in range(1, 6):
        parameters = draw(Policy.named("cutmix"), 0, KEYS[0], view, KEYS)
        white = np.full_like(radiograph, 255)
        black = np.zeros_like(radiograph)
        assert abs(apply(black, parameters, white).mean() - partner_of(parameters)[1]) < 0.02  # type: ignore[index]


def test_sixteen_bits_keep_their_depth():
    image = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    assert len(np.unique(apply(image, {"brightness": 0.9}))) == 64 * 64


def test_colour_and_grey_can_be_mixed():
    grey, colour = np.zeros((8, 8), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    assert apply(grey, {"mixup": {"partner": "x", "share": 0.25}}, colour).shape == (3, 8, 8)


def test_a_policys_ranges_can_be_changed_and_are_checked():
    assert Policy.named({"policy": "radiograph", "rotate": 0}).rotate == 0
    with pytest.raises(UserError, match="did you mean 'flip'"):
        Policy.named("flipp")
    with pytest.raises(UserError, match="did you mean 'rotate'"):
        Policy.named({"policy": "radiograph", "rotat": 3})
