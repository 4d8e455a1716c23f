"""The outline of a heat map's main region."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from freezeframe.pacs.reading.regions import LEAST_POINTS, MOST_POINTS, is_simple, main_region

SIZES = st.integers(1, 24)
MAPS = st.tuples(SIZES, SIZES).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.4, 0.51, 0.8, 1.0]))
)


def blob(rows: int, columns: int, row: float, column: float, width: float) -> np.ndarray:
    down, across = np.mgrid[:rows, :columns]
    return np.exp(-((down - row) ** 2 + (across - column) ** 2) / (2 * width**2))


@settings(max_examples=150, deadline=None)
@given(MAPS, st.integers(1, 4000), st.integers(1, 4000))
def test_any_map_gives_a_closed_simple_outline_inside_the_image(heat, rows, columns):
    region = main_region(heat, rows, columns)
    if not heat.any():
        assert region is None
        return
    assert region is not None
    points = np.array(region.points)
    assert LEAST_POINTS <= len(points) <= MOST_POINTS
    assert region.points[0] == region.points[-1]
    assert (points >= 0).all()
    assert (points <= [columns, rows]).all()
    if (
        min(rows / heat.shape[0], columns / heat.shape[1]) >= 1
    ):  # else it may be thinner than what is rounded to
        assert is_simple(points)


@pytest.mark.parametrize("seed", range(8))
def test_ragged_noise_is_outlined_by_few_points_that_do_not_cross(seed):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(256, 320)), 3)
    heat = np.clip(noise / noise.max(), 0, 1)
    region = main_region(heat, 2560, 3200)
    assert region is not None
    assert is_simple(np.array(region.points))
    assert len(region.points) <= MOST_POINTS


def test_the_outline_lies_where_the_map_is_hot_in_pixels_of_the_original_image():
    region = main_region(blob(100, 200, 30, 150, 10), 1000, 2000)
    assert region is not None
    columns, rows = np.array(region.points).T
    radius = 10 * np.sqrt(2 * np.log(2)) * 10  # of the half of a Gaussian, in pixels of the original
    assert (columns.min() + columns.max()) / 2 == pytest.approx(1505, abs=10)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(305, abs=10)
    assert columns.max() - columns.min() == pytest.approx(2 * radius, rel=0.1)


def test_the_part_with_the_largest_sum_wins_over_the_one_with_the_largest_value():
    heat = np.maximum(blob(100, 100, 20, 20, 2), 0.9 * blob(100, 100, 70, 70, 12))
    region = main_region(heat, 100, 100)
    assert region is not None
    assert np.array(region.points).min() > 45


def test_the_region_covers_what_is_above_half_of_the_maximum():
    heat = blob(128, 128, 60, 50, 15)
    region = main_region(heat, 128, 128)
    assert region is not None
    picture = Image.new("1", (128, 128))
    ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in region.points], fill=1)
    inside, expected = np.asarray(picture), heat > 0.5
    assert (inside & expected).sum() / (inside | expected).sum() > 0.95


def test_a_region_at_the_edge_reaches_the_edge_and_not_beyond():
    heat = np.ones((10, 10))
    region = main_region(heat, 100, 50)
    assert region is not None
    points = np.array(region.points)
    assert points.min() >= 0
    assert points[:, 0].max() == pytest.approx(50, abs=3)
    assert points[:, 1].max() == pytest.approx(100, abs=6)


@pytest.mark.parametrize(
    ("points", "simple"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)], True),
        ([(0, 0), (4, 4), (4, 0), (0, 4), (0, 0)], False),
        ([(0, 0), (4, 0), (2, 0), (2, 3), (0, 0)], False),
        ([(0, 0), (4, 0), (4, 4), (2, 0), (0, 0)], False),
        ([(0, 0), (4, 0), (4, 4), (0, 0)], True),
    ],
)
def test_outlines_that_cross_or_touch_themselves_are_told(points, simple):
    assert is_simple(np.array(points, float)) is simple


def test_it_takes_little_time_at_full_size():
    heat = blob(512, 512, 200, 300, 60)
    main_region(heat, 3000, 3000)
    begun = time.perf_counter()
    for _ in range(3):
        main_region(heat, 3000, 3000)
    assert (time.perf_counter() - begun) / 3 < 1
