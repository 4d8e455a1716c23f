"""Holm's adjustment against a worked example, its definition and a simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.evaluation.multiplicity import holm

chances = st.lists(st.floats(0, 1), max_size=12)


def test_a_worked_example():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    # R: p.adjust(c(0.5, 0.001, 0.2, 0.011), "holm")
    assert holm([0.5, 0.001, 0.2, 0.011]) == pytest.approx([0.5, 0.004, 0.4, 0.033])


@given(chances, st.sampled_from([0.01, 0.05, 0.2]))
def test_what_is_rejected_is_what_the_step_down_procedure_rejects(p, level):
    # Step by step: the smallest p against level / K, the next against level / (K - 1), until one fails.
    rejected = set()
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - step) > level:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(holm(p) <= level).tolist()) == rejected


@given(chances)
def test_adjusted_values_keep_the_order_and_lie_between_p_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * max(len(p), 1), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_a_missing_p_value_stays_missing_and_is_not_counted():
    adjusted = holm([0.02, np.nan, 0.03])
    assert adjusted[[0, 2]] == pytest.approx([0.04, 0.04])
    assert np.isnan(adjusted[1])


def test_any_false_claim_among_dependent_comparisons_happens_in_at_most_one_of_twenty():
    from scipy.stats import norm

    random = np.random.default_rng(0)
    shared, own = random.normal(size=(4000, 1)), random.normal(size=(4000, 10))
    p = 2 * norm.sf(np.abs((shared + own) / np.sqrt(2)))
    false = np.mean([(holm(row) < 0.05).any() for row in p])
    assert 0.02 < false < 0.055
    assert np.mean((p < 0.05).any(axis=1)) > 0.2
