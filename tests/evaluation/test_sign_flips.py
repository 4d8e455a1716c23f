"""The exact sign-flip test against enumeration, the binomial and the normal."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from freezeframe.evaluation import sign_flips
from freezeframe.evaluation.sign_flips import sign_flip_p


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6, 6), max_size=9))
def test_the_p_value_is_that_of_all_sign_flips_counted_one_by_one(differences):
    differences = np.array(differences, dtype=int)
    flips = np.array(list(product([-1, 1], repeat=len(differences))))
    sums = np.abs(flips @ differences) if len(differences) else np.zeros(1)
    observed = abs(differences.sum())
    expected = np.mean(sums > observed) + np.mean(sums == observed) / 2
    # Where nothing differs nothing is shown, and mid-p's half would mislead.
    expected = expected if differences.any() else 1.0
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("more", "fewer"), [(1, 0), (7, 2), (25, 10), (30, 30), (212, 144), (90, 3)])
def test_with_single_images_it_is_mcnemars_mid_p_test(more, fewer):
    binomial = stats.binomtest(more, more + fewer).pvalue
    # Fagerland et al. 2013: the exact conditional p less the chance of the observed table; half of it where equal.
    chance = stats.binom.pmf(more, more + fewer, 0.5)
    expected = binomial - (chance if more != fewer else chance / 2)
    differences = np.repeat([1, -1, 0], [more, fewer, 50])
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-13)


def test_the_airway_example_of_fagerland_and_others_has_their_mid_p():
    # Bentur et al. 2009, table of airway hyper-responsiveness before and after transplantation: 7 against 1
    # discordant pairs; exact p 0.0703, mid-p 0.0391.
    assert stats.binomtest(7, 8).pvalue == pytest.approx(0.0703, abs=5e-5)
    assert sign_flip_p(np.repeat([1, -1, 0], [7, 1, 13])) == pytest.approx(0.0391, abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=200), st.integers(2, 7))
def test_neither_the_unit_nor_the_side_matters(differences, factor):
    differences = np.array(differences)
    assert sign_flip_p(factor * differences) == pytest.approx(sign_flip_p(differences), abs=1e-12)
    assert sign_flip_p(-differences) == pytest.approx(sign_flip_p(differences), abs=1e-12)


def test_many_differences_approach_the_normal_p_value(monkeypatch):
    random = np.random.default_rng(0)
    differences = random.integers(-5, 6, 3000) + (random.uniform(size=3000) < 0.1)
    exact = sign_flip_p(differences)
    monkeypatch.setattr(sign_flips, "_LARGEST_SUPPORT", 100)
    approximate = sign_flip_p(differences)
    assert 0 < exact < 0.5
    assert approximate == pytest.approx(exact, rel=0.02)
    assert approximate == pytest.approx(
        2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum())), rel=1e-9
    )


def test_a_tiny_p_value_stays_positive():
    assert 0 < sign_flip_p(np.ones(500, dtype=int)) <= 1e-14
