"""What is on an image, by the name of its file."""

import re
import unicodedata
from collections import Counter

from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError

_EXAMPLE = "for example '(NORMAL|bacteria|virus)' for names such as person1_bacteria_1.jpeg."


def match_labels(names: list[str], pattern: str) -> tuple[list[str], list[str]]:
    """Find labels by a regular expression.

    Parameters
    ----------
    names : list of str
        Images' POSIX paths, relative to the data set's folder.
    pattern : str
        Searched in each path, in Unicode's composed form; its first group is the label.

    Returns
    -------
    labels : list of str
        One a name.
    notes : list of str
        How many images of each class there are.

    Raises
    ------
    UserError
        If the pattern is no regular expression, has no group, or finds no label in some of the names.
    """
    try:
        expression = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        raise UserError(
            f"label_pattern {pattern!r} is no regular expression: {error}.", _EXAMPLE, "Mend the pattern."
        ) from error
    if not expression.groups:
        raise UserError(
            f"label_pattern {pattern!r} has no group that could be the label.",
            _EXAMPLE,
            "Put brackets around the part that is the label.",
        )
    matches = [expression.search(unicodedata.normalize("NFC", name)) for name in names]
    labels = [(match[1] or "") if match else "" for match in matches]
    missing = [name for name, label in zip(names, labels, strict=True) if not label]
    if missing:
        raise UserError(
            f"label_pattern {pattern!r} finds no label in {counted(len(missing), 'image')} of {len(names):,}: "
            f"{listed(missing)}.",
            "a pattern whose first group is found in the path of every image.",
            "Mend the pattern, or move these images elsewhere.",
        )
    counts = sorted(Counter(labels).items())
    shown = ", ".join(f"{label} ({number:,})" for label, number in counts[:10])
    more = f" and {len(counts) - 10:,} more" if len(counts) > 10 else ""
    return labels, [f"label_pattern finds {counted(len(counts), 'class')}: {shown}{more}."]
