"""Conditions on attributes: what can not be asked, or can take forever, is refused with the configuration."""

import re
from collections.abc import Iterator

from pydicom.datadict import dictionary_VR, keyword_dict

from freezeframe.errors import did_you_mean

_TOKENS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[a-zA-Z:=!<>#-]*|\{[0-9]*,?[0-9]*\}[?+]?|[*+?][?+]?|.", re.DOTALL
)


_WITHOUT_TEXT = ("SQ", "OB", "OW", "OD", "OF", "OL", "OV", "OB or OW")


def is_attribute(name: str) -> str:
    """Return the keyword of an element, or its tag as 'gggg,eeee', that an expression can be asked of.

    Raises
    ------
    ValueError
        If the data dictionary has no such keyword, or the element holds items or bytes.
    """
    if "," in name:
        return name
    tag = keyword_dict.get(name)
    if tag is None:
        close = did_you_mean(name, keyword_dict)
        raise ValueError(f"is no keyword of DICOM{f'; {close}' if close.startswith('did') else ''}")
    if dictionary_VR(tag) in _WITHOUT_TEXT:
        raise ValueError("holds no text that an expression could match")
    return name


def is_expression(pattern: str) -> str:
    """Return a pattern that compiles and whose matching takes at most polynomial time.

    Raises
    ------
    ValueError
        If it is none, or repeats a group that holds a repeat or alternatives, such as ``(a+)+``: on some values
        Python's matcher tries every way to divide them, and does not come back.

    Examples
    --------
    >>> is_expression("CHEST.*|THORAX")
    'CHEST.*|THORAX'
    >>> is_expression("(a+)+b")
    Traceback (most recent call last):
    ValueError: repeats a group that holds a repeat or alternatives, which can take forever; write it without
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression ({error})") from None
    if any(_repeated_groups(pattern)):
        raise ValueError(
            "repeats a group that holds a repeat or alternatives, which can take forever; write it without"
        )
    return pattern


def _repeated_groups(pattern: str) -> Iterator[bool]:
    """Yield for each group that may be repeated whether what it holds can itself match in several ways."""
    varied = [False]  # for each group that is open
    closed: bool | None = None  # the group that ended just now, if one did
    for piece in _TOKENS.findall(pattern):
        if piece[0] in "*+{" and piece != "{":
            if closed is not None:
                yield closed
            varied[-1] = True
        elif piece[0] in "?|":
            varied[-1] = True
        if piece[0] == "(":
            varied.append(False)
        closed = None
        if piece == ")":
            closed = varied.pop()
            varied[-1] |= closed
