"""Results by STOW-RS (PS3.18, section 10.5)."""

import logging
import secrets
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import httpx

from freezeframe.pacs.configuration import WebDestination
from freezeframe.pacs.delivery.parcels import Answer, Parcel, UnreachableError, whole
from freezeframe.pacs.delivery.web_requests import check_reachable, client, explained

LOGGER = logging.getLogger(__name__)
FAILED, REFERENCED = "00081198", "00081199"  # Failed SOP Sequence, Referenced SOP Sequence
INSTANCE, FAILURE, WARNING = "00081155", "00081197", "00081196"
DUPLICATE = 0x0111  # the destination has this SOP instance already
ONE_IS_TO_BLAME = (400, 413, 415, 422, 500)
"""Answers without a list, which one of several objects may be the cause of."""
BLOCK_BYTES = 1 << 17


def send(destination: WebDestination, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
    """Store objects with one request.

    Parameters
    ----------
    destination : WebDestination
        Where to.
    parcels : sequence of Parcel
        DICOM files.

    Yields
    ------
    Answer
        Of each object, as the response lists them.

    Raises
    ------
    UnreachableError
        If the server can't be reached, is overloaded, refuses the login or falls silent.
    """
    present: list[Parcel] = []
    for parcel, problem in whole(parcels):
        if problem is None:
            present.append(parcel)
        else:
            yield problem
    if not present:
        return
    with client(destination) as opened:
        answer = None
        if len(present) > 1:
            try:
                answer = _post(opened, destination, present)
            except UnreachableError as error:
                if error.parcel is None:
                    raise
        if answer is not None and answer.status_code not in ONE_IS_TO_BLAME:
            yield from _read(present, answer)
            return
        # One that fails as a whole is found by sending each in a request of its own.
        for parcel in present:
            yield from _read([parcel], _post(opened, destination, [parcel]))


def _post(opened: httpx.Client, destination: WebDestination, parcels: Sequence[Parcel]) -> httpx.Response:
    boundary = secrets.token_hex(16)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
    }
    with explained(parcels[0]):
        answer = opened.post(
            f"{destination.url.rstrip('/')}/studies", content=_body(parcels, boundary), headers=headers
        )
    check_reachable(answer)
    return answer


def _body(parcels: Sequence[Parcel], boundary: str) -> Iterator[bytes]:
    for parcel in parcels:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        with parcel.path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _read(parcels: Sequence[Parcel], answer: httpx.Response) -> Generator[Answer, None, None]:
    """Say of each object what the response says (PS3.18, section 10.5.3 and annex I.2)."""
    code = answer.status_code
    listed = _content(answer)
    if listed is None:
        if code == 200 and not answer.content.strip():
            # 200 means that all are stored; some servers leave the list out.
            yield from (Answer(parcel, True) for parcel in parcels)
            return
        if answer.is_success:
            raise UnreachableError("its answer is no DICOM JSON: the objects may be stored or not")
        reason = f"HTTP status {code}"
        yield from (Answer(parcel, False, reason, is_final=answer.is_client_error) for parcel in parcels)
        return
    failed = {_text(item, INSTANCE): _number(item, FAILURE) for item in _items(listed, FAILED)}
    stored = {_text(item, INSTANCE): _number(item, WARNING) for item in _items(listed, REFERENCED)}
    for parcel in parcels:
        uid = parcel.sop_instance_uid
        if uid in failed and failed[uid] != DUPLICATE:
            reason = f"STOW-RS failure reason 0x{failed[uid]:04X}"
            yield Answer(parcel, False, reason, is_final=not _may_pass(failed[uid]))
        elif uid in failed:
            yield Answer(parcel, True, "it was there already")
        elif uid in stored:
            yield Answer(parcel, True, f"stored with warning 0x{stored[uid]:04X}" if stored[uid] else "")
        else:
            yield Answer(parcel, False, f"HTTP status {code}, and the answer does not list the object")


def _may_pass(reason: int) -> bool:
    # Processing failure, lack of resources, out of resources (PS3.18, table I.2-2).
    return reason in (0, 0x0110, 0x0213) or 0xA700 <= reason <= 0xA7FF


def _content(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        content = answer.json()
    except ValueError:
        return None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    return content if isinstance(content, dict) and (FAILED in content or REFERENCED in content) else None


def _items(content: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    value = content.get(tag)
    items = value.get("Value") if isinstance(value, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _first(item: dict[str, Any], tag: str) -> Any:
    value = item.get(tag)
    values = value.get("Value") if isinstance(value, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _text(item: dict[str, Any], tag: str) -> str:
    return str(_first(item, tag) or "")


def _number(item: dict[str, Any], tag: str) -> int:
    try:
        return int(_first(item, tag) or 0)
    except (TypeError, ValueError):
        return 0
