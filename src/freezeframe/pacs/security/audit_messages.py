"""Lines of the audit trail as DICOM audit messages (PS3.15, section A.5), which IHE ATNA repositories take.

A message names no patient, since the trail knows none: a repository finds the patient by the study. So the patient that
PS3.15 asks for in messages about instances is missing.
"""

import base64
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import AuditEntry

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
# Characters that XML 1.0 can't hold (section 2.2), not even as references.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RFC = "RFC-3881"
_OWN = "99FREEZEFRAME"


@dataclass(frozen=True)
class _Code:
    value: str
    meaning: str
    scheme: str = "DCM"


@dataclass(frozen=True)
class _Event:
    """What DICOM calls an event: PS3.16, CID 400 and 401, and the action of PS3.15, section A.5.2."""

    id: _Code
    action: str
    type: _Code | None = None


_APPLICATION = _Code("110100", "Application Activity")
_LOG_USED = _Code("110101", "Audit Log Used")
_ACCESSED = _Code("110103", "DICOM Instances Accessed")
_TRANSFERRED = _Code("110104", "DICOM Instances Transferred")
_DELETED = _Code("110105", "DICOM Study Deleted")
_EXPORT = _Code("110106", "Export")
_PROCEDURE = _Code("110111", "Procedure Record")
_QUERY = _Code("110112", "Query")
_ALERT = _Code("110113", "Security Alert")
_AUTHENTICATION = _Code("110114", "User Authentication")
_RESTRICTED = _Code("110132", "Use of Restricted Function")

_EVENTS = {
    audit.STARTED: _Event(_APPLICATION, "E", _Code("110120", "Application Start")),
    audit.STOPPED: _Event(_APPLICATION, "E", _Code("110121", "Application Stop")),
    audit.LOGIN: _Event(_AUTHENTICATION, "E", _Code("110122", "Login")),
    audit.LOGIN_FAILED: _Event(_AUTHENTICATION, "E", _Code("110122", "Login")),
    audit.LOGOUT: _Event(_AUTHENTICATION, "E", _Code("110123", "Logout")),
    audit.ACCESS_REFUSED: _Event(_ALERT, "E", _RESTRICTED),
    audit.ASSOCIATION_REFUSED: _Event(_ALERT, "E", _Code("110126", "Node Authentication")),
    audit.USERS_CHANGED: _Event(_ALERT, "E", _Code("110137", "User security Attributes Changed")),
    audit.STUDY_OPENED: _Event(_ACCESSED, "R"),
    audit.IMAGE_OPENED: _Event(_ACCESSED, "R"),
    audit.HEAT_MAP_OPENED: _Event(_ACCESSED, "R"),
    audit.STUDIES_LISTED: _Event(_QUERY, "E"),
    audit.IMAGES_QUERIED: _Event(_QUERY, "E"),
    audit.AUDIT_READ: _Event(_LOG_USED, "R"),
    audit.FEEDBACK: _Event(_PROCEDURE, "U"),
    audit.RERUN: _Event(_ALERT, "E", _RESTRICTED),
    audit.RETRY: _Event(_ALERT, "E", _RESTRICTED),
    audit.WITHHELD: _Event(_ALERT, "E", _RESTRICTED),
    audit.IMAGES_RECEIVED: _Event(_TRANSFERRED, "C"),
    audit.RESULT_SENT: _Event(_TRANSFERRED, "R"),
    audit.IMAGES_DELETED: _Event(_DELETED, "D"),
    audit.IMAGES_EXPORTED: _Event(_EXPORT, "R"),
}
_SOURCE, _DESTINATION = _Code("110153", "Source Role ID"), _Code("110152", "Destination Role ID")
_SOFTWARE = _Code("110150", "Application")


def message(entry: AuditEntry, ae_title: str) -> str:
    """Make the XML of one line.

    Parameters
    ----------
    entry : AuditEntry
        The line.
    ae_title : str
        Of this node, which is the audit source.
    """
    event = _EVENTS.get(
        entry.what, _Event(_APPLICATION, "E", _Code(_plain(entry.what), _plain(entry.what), _OWN))
    )
    root = Element("AuditMessage")
    identification = SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator="0" if entry.outcome == audit.SUCCESS else "4",
    )
    _coded(identification, "EventID", event.id)
    if event.type is not None:
        _coded(identification, "EventTypeCode", event.type)
    if entry.outcome != audit.SUCCESS and entry.detail:
        SubElement(identification, "EventOutcomeDescription").text = _plain(entry.detail)
    _participants(root, entry, ae_title)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=ae_title)
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    if entry.target and not _is_address(entry.target):
        _object(root, _plain(entry.target), *_kind(entry), details={"detail": entry.detail})
    _object(
        root,
        f"line {entry.id}",
        "13",
        _Code("12", "URI", _RFC),
        details={"hash": entry.hash, "previous": entry.previous, "what": entry.what},
    )
    return tostring(root, encoding="unicode")


def _participants(root: Element, entry: AuditEntry, ae_title: str) -> None:
    roles = {
        audit.IMAGES_RECEIVED: (_SOURCE, _DESTINATION),
        audit.RESULT_SENT: (_DESTINATION, _SOURCE),
        audit.IMAGES_QUERIED: (_DESTINATION, _SOURCE),
    }
    theirs, ours = roles.get(entry.what, (None, _SOFTWARE))
    ours_asked = entry.who == audit.NODE or entry.what in (audit.RESULT_SENT, audit.IMAGES_QUERIED)
    if entry.who != audit.NODE:
        who = SubElement(
            root, "ActiveParticipant", UserID=_plain(entry.who), UserIsRequestor=_boolean(not ours_asked)
        )
        if _is_address(entry.target):
            who.set("NetworkAccessPointID", entry.target)
            who.set("NetworkAccessPointTypeCode", "2")
        if theirs is not None:
            _coded(who, "RoleIDCode", theirs)
    node = SubElement(root, "ActiveParticipant", UserID=ae_title, UserIsRequestor=_boolean(ours_asked))
    _coded(node, "RoleIDCode", ours)


def _kind(entry: AuditEntry) -> tuple[str, _Code]:
    """Return the role and the kind of name of a line's target (PS3.15, sections A.5.1.2.2 and A.5.1.2.4)."""
    if entry.what == audit.USERS_CHANGED:
        return "11", _Code("11", "User Identifier", _RFC)
    if _UID.fullmatch(entry.target):
        return "3", _Code("110180", "Study Instance UID")
    return "13", _Code("12", "URI", _RFC)


def _object(root: Element, name: str, role: str, kind: _Code, details: dict[str, str]) -> None:
    # System object; the schema wants a name besides the identifier.
    found = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=name,
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(found, "ParticipantObjectIDTypeCode", kind)
    SubElement(found, "ParticipantObjectName").text = name
    for title, content in details.items():
        if content:
            value = base64.b64encode(content.encode()).decode()
            SubElement(found, "ParticipantObjectDetail", type=title, value=value)


def _coded(parent: Element, name: str, code: _Code) -> None:
    SubElement(
        parent,
        name,
        {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning},
    )


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _is_address(content: str) -> bool:
    try:
        ipaddress.ip_address(content)
    except ValueError:
        return False
    return True


def _plain(content: str) -> str:
    return _NOT_XML.sub("\ufffd", content)
