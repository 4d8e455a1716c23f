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


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"none", "colour-constancy"}))
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


def test_ranges_that_came_later_leave_what_older_policies_draw():
    drawn = draw(Policy.named("radiograph"), 3, KEYS[2], 5)
    # Written down before there were any: stored activations of old views have to stay valid.
    assert drawn == {
        "affine": [1.849092, 0.047394, 0.03815, 1.00468],
        "brightness": 1.064765,
        "contrast": 1.017391,
        "noise": [0.000565, 3743386987791839995],
    }
    more = draw(Policy.named({"policy": "radiograph", "elastic": 0.02, "operations": 2}), 3, KEYS[2], 5)
    assert {name: more[name] for name in drawn} == drawn


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.floats(0, 1),
    st.integers(0, 1000),
    st.sampled_from([(40, 30), (30, 41, 3)]),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_drawn_operations_keep_shape_and_range_and_are_repeatable(count, magnitude, view, shape, dtype):
    policy = Policy.named(
        {"policy": "randaugment-grey", "operations": count, "magnitude": magnitude, "elastic": 0.05}
    )
    image = np.random.default_rng(view).integers(0, np.iinfo(dtype).max, shape, dtype)
    parameters = draw(policy, 1, KEYS[0], view + 1)
    assert len({name for name, *_ in parameters["operations"]}) == count
    picture = apply(image, parameters)
    assert picture.shape == (1 if len(shape) == 2 else 3, *shape[:2])
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert np.array_equal(picture, apply(image, json.loads(json.dumps(parameters))))


def test_each_operation_at_magnitude_0_is_no_change(radiograph):
    image = radiograph[:60, :70]
    for view in range(1, 15):
        parameters = draw(
            Policy.named({"policy": "randaugment-grey", "operations": 6, "magnitude": 0}), 0, KEYS[0], view
        )
        assert np.abs(apply(image, parameters) - apply(image, {})).max() < 1e-3


def test_equalising_at_full_share_makes_all_values_equally_frequent():
    dark = (np.random.default_rng(0).random((64, 64)) ** 2 * 65535).astype(np.uint16)
    equalised = apply(dark, {"operations": [["equalise", 1.0]]})
    assert np.abs(np.histogram(equalised, 10, (0, 1))[0] / 64**2 - 0.1).max() < 0.01


def test_an_elastic_deformation_moves_by_no_more_than_about_its_amplitude():
    columns = np.tile(np.linspace(0, 65535, 200).astype(np.uint16), (200, 1))
    for seed in range(5):
        moved = apply(columns, {"elastic": [0.03, seed]})[0, 20:-20, 20:-20] * 200
        displacement = np.abs(moved - np.arange(20, 180))
        assert 0.5 < displacement.max() < 0.03 * 200 * 1.5  # cubic interpolation overshoots its points


def test_taking_the_light_away_makes_a_tinted_grey_scene_neutral():
    grey = np.random.default_rng(0).integers(20, 150, (32, 32, 1))
    tinted = np.rint(grey * (1.2, 1.0, 0.7)).astype(np.uint8)
    picture = apply(tinted, {"illuminant": [1.0, 1.0, 1.0, 1.0]})
    assert np.abs(picture - picture.mean(0)).max() < 0.01
    untouched = apply(tinted, {"illuminant": [0.0, 1.0, 1.0, 1.0]})
    assert np.allclose(untouched, apply(tinted, {}), atol=1e-6)


def test_light_leaves_grey_images_alone(radiograph):
    parameters = draw(Policy.named("colour-constancy"), 0, KEYS[0], 1)
    assert np.array_equal(apply(radiograph, parameters), apply(radiograph, {}))


def test_the_policy_for_grey_images_never_flips_and_changes_no_colour():
    for view in range(1, 60):
        drawn = draw(Policy.named("randaugment-grey"), 0, KEYS[0], view)
        assert set(drawn) == {"operations"}
