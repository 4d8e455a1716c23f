"""UIDs: checked before they touch a path, and made so that a retry makes the same ones."""

import hashlib
import re
import uuid

from freezeframe.errors import FreezeframeError

_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)*")
MOST_CHARACTERS = 64


class InvalidUidError(FreezeframeError):
    """What was sent as a UID is none."""


def checked(text: str) -> str:
    """Return a UID without its padding if it is one (PS3.5, section 9.1): digits and dots, at most 64 characters.

    Components with a leading zero are let through: real devices send them, and they harm nothing.

    Raises
    ------
    InvalidUidError
        If it is anything else, such as a path.

    Examples
    --------
    >>> checked("1.2.840.10008.1.1")
    '1.2.840.10008.1.1'
    """
    plain = str(text).rstrip("\0 ")
    if len(plain) > MOST_CHARACTERS or not _PLAIN.fullmatch(plain):
        raise InvalidUidError(
            f"No UID (PS3.5, section 9.1): {len(plain)} characters, or others than digits and dots."
        )
    return plain


def derived(root: str, *parts: object) -> str:
    """Make a UID that depends on nothing but what it is made from.

    Parameters
    ----------
    root : str
        ``"2.25"`` makes it from a UUID (PS3.5, section B.2), another root is followed by a decimal hash.
    *parts
        What the object is of, such as a study, a version, a bundle and a kind.

    Examples
    --------
    >>> derived("2.25", "1.2.3", 1, "sr") == derived("2.25", "1.2.3", 1, "sr")
    True
    """
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    if root == "2.25":
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"  # version 5: made from a name
    room = MOST_CHARACTERS - len(root) - 1
    return f"{root}.{str(int.from_bytes(digest))[:room].lstrip('0')}"
