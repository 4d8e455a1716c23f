"""Commands of DIMSE messages (PS3.7, annex E): always implicit, little endian, and short."""

import struct
from dataclasses import dataclass

from freezeframe.pacs import uids
from freezeframe.pacs.intake.elements import BrokenDataSetError, Encoding, walk
from freezeframe.pacs.intake.upper_layer import ProtocolError

C_STORE, C_ECHO, N_EVENT_REPORT, C_CANCEL = 0x0001, 0x0030, 0x0100, 0x0FFF
RESPONSE = 0x8000
LONGEST = 1 << 16

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_INSTANCE = 0x0117
CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
OTHER_BYTES = 0xC111
TOO_LARGE = 0xC112
"""Statuses of PS3.7, annex C and, from 0xA700 on, PS3.4, table B.2-1.

That table leaves the range 0xCxxx ('cannot understand') to implementations: a failure that the same bytes would meet
again, so that a sender does not go on trying. 0xA7xx means that they may be taken later. 'Duplicate SOP instance'
(0x0111) is a status of N-CREATE, and not among those of C-STORE (PS3.7, section 9.1.1.1.9).
"""

_NO_DATA_SET = 0x0101
_SOP_CLASS, _SOP_INSTANCE = 0x00000002, 0x00001000
_FIELD, _MESSAGE_ID, _MESSAGE_ANSWERED, _DATA_SET, _STATUS, _COMMENT, _EVENT_TYPE = (
    0x00000100, 0x00000110, 0x00000120, 0x00000800, 0x00000900, 0x00000902, 0x00001002,
)  # fmt: skip
_SHORT, _ELEMENT = struct.Struct("<H"), struct.Struct("<HHL")


@dataclass(frozen=True)
class Command:
    """A request.

    Attributes
    ----------
    field : int
        What is asked for, such as `C_STORE`.
    message_id : int
        That the response refers to.
    sop_class_uid, sop_instance_uid : str
        Affected; '' where there is none. The instance's is '' too where it is no UID (see `instance_is_valid`).
    instance_is_valid : bool
        Whether the SOP instance UID is one, or is left out.
    event_type : int
        Of an N-EVENT-REPORT.
    has_data_set : bool
        Whether a data set follows.
    """

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    instance_is_valid: bool
    event_type: int
    has_data_set: bool


def read_command(encoded: bytes) -> Command:
    """Read the command of a message.

    Raises
    ------
    ProtocolError
        If it is broken, or lacks what every request has.
    """
    try:
        values = {
            element.tag: encoded[element.start : element.start + element.length]
            for element in walk(encoded, 0, Encoding(implicit=True))
        }
    except BrokenDataSetError:
        raise ProtocolError("a command that is broken") from None
    if not {_FIELD, _MESSAGE_ID, _DATA_SET} <= values.keys():
        raise ProtocolError("a command without what every request has")
    instance, is_valid = "", True
    if given := values.get(_SOP_INSTANCE, b""):
        try:
            instance = uids.checked(given.decode("ascii"))
        except (UnicodeDecodeError, uids.InvalidUidError):
            is_valid = False
    sop_class = values.get(_SOP_CLASS, b"").decode("ascii", "replace").rstrip("\0 ")
    return Command(
        field=_number(values[_FIELD]),
        message_id=_number(values[_MESSAGE_ID]),
        sop_class_uid=sop_class,
        sop_instance_uid=instance,
        instance_is_valid=is_valid,
        event_type=_number(values.get(_EVENT_TYPE, b"\0\0")),
        has_data_set=_number(values[_DATA_SET]) != _NO_DATA_SET,
    )


def response(command: Command, status: int, comment: str = "") -> bytes:
    """Return the encoded response to a request.

    Parameters
    ----------
    command : Command
        The request.
    status : int
        One of this module's.
    comment : str
        Why, at most 64 characters of ASCII (VR LO), without patient data.
    """
    elements = [
        _element(_SOP_CLASS, _padded(command.sop_class_uid)),
        _element(_FIELD, _SHORT.pack(command.field | RESPONSE)),
        _element(_MESSAGE_ANSWERED, _SHORT.pack(command.message_id)),
        _element(_DATA_SET, _SHORT.pack(_NO_DATA_SET)),
        _element(_STATUS, _SHORT.pack(status)),
    ]
    if comment:
        elements.append(_element(_COMMENT, _padded(comment[:64], b" ")))
    if command.sop_instance_uid:
        elements.append(_element(_SOP_INSTANCE, _padded(command.sop_instance_uid)))
    if command.field == N_EVENT_REPORT:
        elements.append(_element(_EVENT_TYPE, _SHORT.pack(command.event_type)))
    encoded = b"".join(elements)
    return _element(0x00000000, struct.pack("<L", len(encoded))) + encoded


def _number(value: bytes) -> int:
    if len(value) < 2:
        raise ProtocolError("a command with a broken number")
    return _SHORT.unpack_from(value)[0]


def _element(tag: int, value: bytes) -> bytes:
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value


def _padded(text: str, padding: bytes = b"\0") -> bytes:
    encoded = text.encode("ascii", "replace")
    return encoded + padding if len(encoded) % 2 else encoded
