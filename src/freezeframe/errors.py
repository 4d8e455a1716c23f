"""Errors that a person reads.

Every message says what was found, what was expected and what to do. The command line prints it without a
traceback and exits with the error's code: 2 for the user's mistake, 1 for ours.
"""

import difflib
from collections.abc import Iterable


class FreezeframeError(Exception):
    """Something went wrong that is not the user's fault; the command line exits with 1."""

    exit_code = 1


class UserError(FreezeframeError):
    """A mistake that the user can mend; the command line exits with 2.

    Parameters
    ----------
    found : str
        What was found, with the name of the file, field or image.
    expected : str, optional
        What was expected instead.
    action : str, optional
        What to do about it.

    Examples
    --------
    >>> print(UserError("data/ holds one class, 'normal'.", "Two or more.", "Add a folder for each class."))
    data/ holds one class, 'normal'. Expected: Two or more. What to do: Add a folder for each class.
    """

    exit_code = 2

    def __init__(self, found: str, expected: str = "", action: str = "") -> None:
        parts = [found]
        if expected:
            parts.append(f"Expected: {expected}")
        if action:
            parts.append(f"What to do: {action}")
        super().__init__(" ".join(parts))
        self.found, self.expected, self.action = found, expected, action


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, as the end of a message.

    Examples
    --------
    >>> did_you_mean("batchsize", ["batch_size", "epochs"])
    "did you mean 'batch_size'?"
    >>> did_you_mean("zzz", ["batch_size", "epochs"])
    'one of: batch_size, epochs.'
    """
    candidates = list(known)
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"one of: {', '.join(candidates)}."
