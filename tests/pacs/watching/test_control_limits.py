import numpy as np
import pytest
from scipy import stats

from freezeframe.pacs.watching.control_limits import alpha_of_a_look, level, rate, shape

ALPHA = 0.02


def share(outside, repeats: int = 4000, seed: int = 0) -> float:
    generator = np.random.default_rng(seed)
    return sum(outside(generator) for _ in range(repeats)) / repeats


SHAPES = {
    "normal": lambda generator, n: generator.normal(size=n),
    "skewed": lambda generator, n: generator.lognormal(sigma=1.5, size=n),
    "mostly zero": lambda generator, n: np.where(
        generator.random(n) < 0.7, 0.0, generator.exponential(size=n)
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_level_alarms_as_often_as_it_may_whatever_the_distribution(name):
    draw = SHAPES[name]
    found = share(lambda generator: level(draw(generator, 100), draw(generator, 300), ALPHA).outside)
    # Five standard errors of 4000 repeats.
    assert found == pytest.approx(ALPHA, abs=5 * np.sqrt(ALPHA / 4000))


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5])
def test_a_rate_alarms_at_most_a_little_more_often_than_it_may(chance):
    found = share(
        lambda generator: (
            rate(
                int(generator.binomial(200, chance)), 200, int(generator.binomial(500, chance)), 500, ALPHA
            ).outside
        )
    )
    assert found <= 1.2 * ALPHA + 3 * np.sqrt(ALPHA / 4000)


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_alarms_no_more_often_than_it_may(name):
    draw = SHAPES[name]
    found = share(lambda generator: shape(draw(generator, 100), draw(generator, 300), ALPHA).outside)
    assert found <= ALPHA + 3 * np.sqrt(ALPHA / 4000)


def test_a_level_is_mann_and_whitneys_statistic():
    generator = np.random.default_rng(1)
    window, reference = generator.integers(0, 5, 40).astype(float), generator.integers(1, 6, 90).astype(float)
    judged = level(window, reference, 0.01)
    expected = stats.mannwhitneyu(window, reference, use_continuity=False, method="asymptotic")
    assert judged.value == pytest.approx(expected.statistic / (40 * 90))
    deviations = (judged.value - 0.5) / ((judged.high - judged.low) / 2) * stats.norm.isf(0.005)
    assert 2 * stats.norm.sf(abs(deviations)) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("alpha", [0.05, 2.5e-4, 1e-7])
def test_the_limits_of_a_rate_are_quantiles_of_the_beta_binomial_distribution(alpha):
    judged, predicted = rate(10, 200, 50, 500, alpha), stats.betabinom(200, 50.5, 450.5)
    assert judged.low * 200 == pytest.approx(predicted.ppf(alpha / 2))
    assert judged.high * 200 == pytest.approx(predicted.ppf(1 - alpha / 2))


def test_a_shape_is_kolmogorovs_distance():
    generator = np.random.default_rng(2)
    window, reference = generator.normal(size=60), generator.normal(0.3, 1, size=200)
    assert shape(window, reference, 0.01).value == pytest.approx(stats.ks_2samp(window, reference).statistic)


@pytest.mark.parametrize(
    ("judge", "least"),
    [
        # A fifth of a standard deviation brighter, the positive rate doubled, the scores of one class doubled.
        (lambda g: level(g.normal(0.5, 1, 200), g.normal(0, 1, 500), 2.5e-4).outside, 0.95),
        (
            lambda g: rate(int(g.binomial(200, 0.25)), 200, int(g.binomial(500, 0.1)), 500, 2.5e-4).outside,
            0.8,
        ),
        (lambda g: shape(g.beta(2, 5, 200), g.beta(1.2, 7, 500), 2.5e-4).outside, 0.9),
    ],
)
def test_a_change_that_matters_is_found_in_one_window(judge, least):
    assert share(judge, 500) > least


def test_values_that_are_all_the_same_alarm_only_when_another_comes():
    assert not level(np.zeros(50), np.zeros(100), 0.001).outside
    assert level(np.ones(50), np.zeros(100), 0.001).outside


def test_more_looks_and_more_signals_make_each_one_stricter():
    assert alpha_of_a_look(2, 36500, 200, 11) == pytest.approx(2 / (730 * 11))
    assert alpha_of_a_look(2, 365000, 200, 11) == pytest.approx(2 / (7300 * 11))
    assert alpha_of_a_look(2, 10, 200, 1) == 0.05
