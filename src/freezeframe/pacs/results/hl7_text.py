"""The text of HL7 v2 messages: what may stand in a field, and to whom a message is addressed."""

_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


def addressed(message: bytes, application: str, facility: str) -> bytes:
    r"""Return a message with its receiver, MSH-5 and MSH-6, where they are not ''; one message may go to several.

    Examples
    --------
    >>> addressed(b"MSH|^~\\&|A|B|||20260101||ORU^R01^ORU_R01|1|P|2.5.1\r", "RIS", "Hospital")
    b'MSH|^~\\&|A|B|RIS|Hospital|20260101||ORU^R01^ORU_R01|1|P|2.5.1\r'
    """
    header, end, rest = message.partition(b"\r")
    fields = header.split(b"|")
    for place, name in ((4, application), (5, facility)):
        if name:
            fields[place] = escape(name).encode()
    return b"|".join(fields) + end + rest


def escape(text: str) -> str:
    r"""Escape what divides fields (HL7 version 2.5.1, section 2.7); line breaks and control characters become blanks.

    Examples
    --------
    >>> escape("a|b^c")
    'a\\F\\b\\S\\c'
    """
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return plain.translate(_ESCAPES)
