"""Forecasts of learning curves: coverage, monotony, consistency, and what is refused."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.errors import UserError
from freezeframe.evaluation.learning_curve import fit, hindcast

SIZES = np.repeat([50, 100, 200, 400, 800], 3)


def law(sizes, a=0.95, b=0.9, c=0.5):
    return a - b * np.asarray(sizes, dtype=float) ** -c


def measured(seed, spread=0.01, **parameters):
    noise = np.random.default_rng(seed).normal(0, spread, len(SIZES)) * np.sqrt(50 / SIZES) * 2
    return np.clip(law(SIZES, **parameters) + noise, 0, 1)


@pytest.mark.parametrize("parameters", [{}, {"a": 0.99, "b": 0.6, "c": 0.25}, {"a": 0.98, "b": 8, "c": 1.0}])
def test_forecasts_of_twice_and_four_times_the_data_hold_as_often_as_they_say(parameters):
    random = np.random.default_rng(0)
    held, widths = [], []
    for seed in range(80):
        curve = fit(SIZES, measured(seed, **parameters))
        for size in (1600, 3200):
            score = law(size, **parameters) + random.normal(0, 0.01) * np.sqrt(50 / size) * 2
            found = curve.forecast(size)
            held.append(found.low <= score <= found.high)
            widths.append(found.high - found.low)
    assert np.mean(held) >= 0.92
    assert np.median(widths) < 0.09


def test_the_size_for_a_target_holds_and_says_something():
    held, ratios = [], []
    for seed in range(80):
        found = fit(SIZES, measured(seed, 0.005)).size_for(law(1600))
        held.append(found.low <= 1600 and (found.high is None or found.high >= 1600))
        ratios.append(found.value / 1600)
    assert np.mean(held) >= 0.92
    assert 0.7 < np.median(ratios) < 1.4


def test_nearly_exact_scores_give_back_the_curve():
    curve = fit(SIZES, law(SIZES) + np.tile([-0.0005, 0, 0.0005], 5))
    assert curve.forecast(3200).value == pytest.approx(law(3200), abs=0.006)
    assert curve.forecast(400).value == pytest.approx(law(400), abs=0.002)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.3, 1), min_size=6, max_size=6), st.integers(0, 5))
def test_whatever_the_scores_the_forecast_never_falls_and_lies_in_its_interval(scores, seed):
    curve = fit([50, 100, 200, 50, 100, 200], scores, test_error=0.02, seed=seed)
    found = [curve.forecast(size) for size in (20, 50, 200, 400, 1600, 100_000)]
    values = [one.value for one in found]
    assert values == sorted(values)
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in found)
    sizes = [curve.size_for(target) for target in (0.2, 0.6, 0.9, 0.999)]
    assert [one.out_of_reach for one in sizes] == sorted(one.out_of_reach for one in sizes)
    for one in sizes:
        ends = [end if end is not None else np.inf for end in (one.low, one.value, one.high)]
        assert ends == sorted(ends)


def test_uncertainty_grows_with_the_distance_from_what_was_measured():
    curve = fit(SIZES, measured(1))
    widths = [found.high - found.low for found in map(curve.forecast, (800, 1600, 3200, 12_800))]
    assert widths == sorted(widths)


def test_at_the_size_for_a_target_the_forecast_is_the_target():
    curve = fit(SIZES, measured(2))
    found = curve.size_for(0.925)
    assert curve.forecast(found.value).value == pytest.approx(0.925, abs=0.002)


def test_counting_images_instead_of_patients_changes_only_the_unit():
    scores = measured(3)
    patients, images = fit(SIZES, scores), fit(SIZES * 7, scores)
    assert images.forecast(7 * 2000) == patients.forecast(2000)
    assert images.size_for(0.93).value == pytest.approx(7 * patients.size_for(0.93).value)


def test_a_curve_that_has_flattened_is_out_of_reach_of_more():
    flat = 0.90 + 0.002 * np.random.default_rng(4).normal(size=len(SIZES))
    found = fit(SIZES, flat).size_for(0.97)
    assert (found.value, found.high) == (None, None)
    assert found.out_of_reach > 0.8


def test_a_target_below_what_was_measured_needs_fewer():
    found = fit(SIZES, measured(5)).size_for(law(200))
    assert found.high < 400
    assert found.out_of_reach == 0


def test_other_patients_make_the_interval_wider_and_the_same_test_images_do_not():
    scores = measured(6)
    blind, aware = fit(SIZES, scores), fit(SIZES, scores, test_error=0.02)
    assert aware.forecast(1600, same_test_images=True) == blind.forecast(1600)
    wide, narrow = aware.forecast(1600), blind.forecast(1600)
    assert wide.high - wide.low > narrow.high - narrow.low
    assert aware.size_for(0.925).out_of_reach > blind.size_for(0.925).out_of_reach


def test_scores_that_vary_more_are_forecast_less_surely():
    quiet, loud = (fit(SIZES, measured(7, spread)).forecast(3200) for spread in (0.003, 0.03))
    assert loud.high - loud.low > 1.5 * (quiet.high - quiet.low)


def test_equal_seeds_give_equal_forecasts_in_under_a_second():
    begun = time.process_time()
    one, same, other = (fit(SIZES, measured(8), seed=seed).forecast(1600) for seed in (0, 0, 1))
    assert time.process_time() - begun < 3
    assert one == same != other
    # The draws are many enough that the seed matters little.
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.004)


def test_a_failed_training_is_left_out():
    scores = measured(9)
    failed = np.append(scores, np.nan)
    assert fit(np.append(SIZES, 800), failed).forecast(1600) == fit(SIZES, scores).forecast(1600)


def test_a_hindcast_hides_the_upper_half_and_counts_what_held():
    found = hindcast(SIZES, measured(10))
    assert list(found.forecasts) == [800.0]
    assert (found.held, found.trainings) == (3, 3)
    assert found.means[800.0] == pytest.approx(law(800), abs=0.01)
    # A curve that suddenly falls can't be foreseen, and the hindcast says so.
    broken = measured(10)
    broken[SIZES == 800] = 0.5
    assert hindcast(SIZES, broken).held == 0


def test_hindcasts_hold_as_often_as_they_say():
    found = [hindcast(SIZES, measured(seed), share=0.3) for seed in range(60)]
    assert found[0].trainings == 6
    assert sum(one.held for one in found) / sum(one.trainings for one in found) >= 0.92


def test_too_few_sizes_scores_out_of_range_and_impossible_targets_are_refused():
    with pytest.raises(UserError, match="at 2 training sizes"):
        fit([50, 50, 100, 100], [0.7, 0.8, 0.8, 0.8])
    with pytest.raises(UserError, match="at 0 training sizes"):
        fit([50, 100, 200], [np.nan] * 3)
    with pytest.raises(UserError, match="Sizes above 0, scores between 0 and 1"):
        fit([50, 100, 200], [0.7, 1.2, 0.8])
    with pytest.raises(ValueError, match=r"must both be \(M,\)"):
        fit([50, 100], [0.7, 0.8, 0.9])
    curve = fit(SIZES, measured(11))
    with pytest.raises(UserError, match="The target is"):
        curve.size_for(1.2)
    with pytest.raises(UserError, match="The size is"):
        curve.forecast(0)
    with pytest.raises(UserError, match="at 2 training sizes"):
        hindcast([50, 100, 200], [0.7, 0.8, 0.9])
