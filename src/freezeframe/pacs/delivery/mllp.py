"""HL7 v2 messages over MLLP (HL7's "Minimal Lower Layer Protocol", release 1), each acknowledged before the next.

A message counts as delivered with the code AA or CA. One whose acknowledgement was lost is sent again under the same
control id (MSH-10), by which receivers know it.
"""

import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from freezeframe.pacs.configuration import Hl7Destination
from freezeframe.pacs.delivery.parcels import Answer, Parcel, UnreachableError, whole
from freezeframe.pacs.results.hl7_text import addressed
from freezeframe.pacs.security.tls import client_context

START, END = b"\x0b", b"\x1c\r"
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
MOST_BYTES = 1 << 20
"""Of an acknowledgement."""
CODES = ("AA", "AE", "AR", "CA", "CE", "CR")  # HL7 table 0008


def send(destination: Hl7Destination, parcels: Sequence[Parcel]) -> Generator[Answer, None, None]:
    """Send messages over one connection.

    Parameters
    ----------
    destination : Hl7Destination
        Where to.
    parcels : sequence of Parcel
        Files of one message each, with segments that end with carriage returns.

    Yields
    ------
    Answer
        Of each message, as soon as it is acknowledged.

    Raises
    ------
    UnreachableError
        If the destination can't be reached or falls silent.
    """
    present: list[Parcel] = []
    for parcel, problem in whole(parcels):
        if problem is None:
            present.append(parcel)
        else:
            yield problem
    if not present:
        return
    with _connected(destination) as connection:
        for parcel in present:
            message = parcel.path.read_bytes().strip(b"\r\n") + b"\r"
            message = addressed(message, destination.application, destination.facility)
            try:
                connection.sendall(START + message + END)
                yield _answer(parcel, control_id(message), read_frame(connection))
            except OSError as error:
                raise UnreachableError(f"no acknowledgement ({type(error).__name__})", parcel) from None


@contextmanager
def _connected(destination: Hl7Destination) -> Iterator[socket.socket]:
    try:
        connection = socket.create_connection(
            (destination.address, destination.port), timeout=CONNECT_SECONDS
        )
    except OSError as error:
        raise UnreachableError(f"no connection ({type(error).__name__})") from None
    with connection:
        if destination.tls is not None:
            try:
                connection = client_context(destination.tls).wrap_socket(
                    connection, server_hostname=destination.address
                )
            except OSError as error:
                raise UnreachableError(f"no TLS connection ({type(error).__name__})") from None
        with connection:
            connection.settimeout(ANSWER_SECONDS)
            yield connection


def read_frame(connection: socket.socket) -> bytes:
    """Read one framed message.

    Raises
    ------
    OSError
        If the connection ends first, no whole message comes within `ANSWER_SECONDS`, or it is longer than
        `MOST_BYTES`.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    received = bytearray()
    while not received.endswith(END):
        left = deadline - time.monotonic()
        if left <= 0 or len(received) > MOST_BYTES:
            raise TimeoutError("no whole message came")
        connection.settimeout(left)
        block = connection.recv(65536)
        if not block:
            raise ConnectionResetError("the connection ended within a message")
        received += block
    return bytes(received[received.rfind(START) + 1 : -len(END)])


def control_id(message: bytes) -> bytes:
    """Return MSH-10 of a message; b"" where it has none."""
    return _field(message.split(b"\r", 1)[0], 9)


def _answer(parcel: Parcel, sent: bytes, acknowledgement: bytes) -> Answer:
    segments = acknowledgement.replace(b"\n", b"\r").split(b"\r")
    accepted = next((segment for segment in segments if segment.startswith(b"MSA")), None)
    if accepted is None:
        return Answer(parcel, False, "the acknowledgement has no MSA segment")
    separator = accepted[3:4]
    fields = accepted.split(separator) if separator else []
    code = fields[1].decode("ascii", "replace").strip() if len(fields) > 1 else ""
    answered = fields[2].strip() if len(fields) > 2 else b""
    if answered != sent:
        return Answer(parcel, False, "the acknowledgement is of another message")
    if code not in CODES:
        return Answer(parcel, False, "the acknowledgement has no code of HL7 table 0008")
    # A rejection is of the message itself; an error may pass.
    return Answer(
        parcel,
        code in ("AA", "CA"),
        "" if code in ("AA", "CA") else f"acknowledged with {code}",
        is_final=code in ("AR", "CR"),
    )


def _field(segment: bytes, number: int) -> bytes:
    separator = segment[3:4]
    fields = segment.split(separator) if separator else []
    return fields[number].strip() if len(fields) > number else b""
