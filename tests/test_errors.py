"""Messages that a person reads."""

from freezeframe.errors import FreezeframeError, UserError, did_you_mean


def test_a_users_error_says_what_was_found_what_was_expected_and_what_to_do():
    error = UserError("a is empty.", "an image.", "Add one.")
    assert str(error) == "a is empty. Expected: an image. What to do: Add one."
    assert (error.exit_code, FreezeframeError.exit_code) == (2, 1)


def test_a_misspelt_word_is_met_with_the_right_one():
    assert did_you_mean("learning_rte", ["learning_rate", "epochs"]) == "did you mean 'learning_rate'?"
