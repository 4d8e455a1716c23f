"""The package itself: the verbs that it offers."""

import importlib
import inspect

import pytest

import freezeframe


@pytest.mark.parametrize("verb", ["ensemble", "report"])
def test_a_verb_that_is_called_like_a_room_stays_a_verb_when_the_room_is_imported(verb):
    room = importlib.import_module(f"freezeframe.{verb}")
    assert inspect.ismodule(room)
    assert inspect.isfunction(getattr(freezeframe, verb))


def test_all_that_is_offered_is_there():
    for name in freezeframe.__all__:
        assert callable(getattr(freezeframe, name)), name
