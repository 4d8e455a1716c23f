"""Randomness as a pure function."""

from hypothesis import given
from hypothesis import strategies as st

from freezeframe.seeds import derive_seed, generator


@given(st.integers(0, 2**40), st.text(max_size=10), st.lists(st.integers() | st.text(max_size=5), max_size=3))
def test_equal_arguments_give_equal_seeds_in_range(seed, purpose, index):
    value = derive_seed(seed, purpose, *index)
    assert value == derive_seed(seed, purpose, *index)
    assert 0 <= value < 2**63


def test_a_number_and_its_text_are_different_indices():
    assert derive_seed(0, "order", 1) != derive_seed(0, "order", "1")


def test_seeds_do_not_change_between_versions():
    # Recorded once: a change would silently make old runs irreproducible.
    assert derive_seed(0, "order", 0) == 5382269513255073263
    assert generator(0, "order", 0).integers(1000) == 203
