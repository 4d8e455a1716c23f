"""PDUs of one connection (PS3.8, section 9.3), read with bounds into one buffer, without copies.

pynetdicom's own upper layer polls in two threads, copies each fragment several times and takes a PDU as long as its
sender declares. Here a thread waits for its socket; what is rare, such as negotiation, is left to pynetdicom's classes.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
MAXIMUM_PDU = 131072
"""Bytes of a P-DATA-TF PDU after its own header; announced to peers (PS3.8, section D.1)."""
LARGEST_BODY = 2 * MAXIMUM_PDU
"""Of any PDU: who sends more than announced by far is not listened to."""
ARTIM_SECONDS = 10
"""How long a peer may take to close the connection after a rejection, release or abort (PS3.8, section 9.1.5)."""

_HEADER = struct.Struct(">BxL")
_ITEM = struct.Struct(">LBB")
_MOST_DISCARDED = 1 << 20
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class PeerGoneError(Exception):
    """The peer closed the connection, or was silent for too long; the message says which."""


class ProtocolError(Exception):
    """What came is not what PS3.8 allows here; the message has no data of the peer's in it."""


class Connection:
    """PDUs in and out of a connected socket; used by one thread.

    Parameters
    ----------
    connected : socket.socket
        Also one that speaks TLS.
    silence : float
        Seconds that may pass without a byte from the peer.
    """

    def __init__(self, connected: socket.socket, silence: float) -> None:
        self._socket, self._silence = connected, silence
        self._buffer = bytearray(2 * LARGEST_BODY)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0
        self._deadline: float | None = None
        connected.settimeout(silence)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def limit(self, seconds: float | None) -> None:
        """Let what is read next come within some seconds, however steadily it drips; None ends that."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._socket.settimeout(self._silence)

    def read(self) -> tuple[int, memoryview]:
        """Return the next PDU's type and body. The body is valid until the next call.

        Raises
        ------
        PeerGoneError
            If none comes.
        ProtocolError
            If it is of no known type, or too long.
        """
        self._fill(_HEADER.size)
        kind, length = _HEADER.unpack_from(self._buffer, self._begin)
        if not ASSOCIATE_RQ <= kind <= ABORT:
            raise ProtocolError("a PDU of an unknown type")
        if length > LARGEST_BODY:
            raise ProtocolError("a PDU that is longer than allowed")
        self._fill(_HEADER.size + length)
        start = self._begin + _HEADER.size
        self._begin = start + length
        return kind, self._view[start : self._begin]

    def send(self, kind: int, body: bytes) -> None:
        """Send a PDU.

        Raises
        ------
        PeerGoneError
            If the peer does not take it.
        """
        try:
            self._socket.sendall(_HEADER.pack(kind, len(body)) + body)
        except OSError:
            raise PeerGoneError("it closed the connection before it had an answer") from None

    def finish(self) -> None:
        """Wait a while for the peer to close the connection, so that it reads what was sent last; then close it."""
        discarded, deadline = 0, time.monotonic() + ARTIM_SECONDS
        with contextlib.suppress(OSError):
            while discarded < _MOST_DISCARDED and (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                received = self._socket.recv_into(self._view)
                if not received:
                    break
                discarded += received
        self.close()

    def close(self) -> None:
        """Close the connection at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _fill(self, size: int) -> None:
        """Read until that many bytes are there from the beginning of the next PDU."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin + size > len(self._buffer):
            left = bytes(self._view[self._begin : self._end])
            self._view[: len(left)] = left
            self._begin, self._end = 0, len(left)
        while self._end - self._begin < size:
            if self._deadline is not None:
                left_seconds = self._deadline - time.monotonic()
                self._socket.settimeout(max(0.001, min(self._silence, left_seconds)))
            try:
                received = self._socket.recv_into(self._view[self._end :])
                if _QUICKACK is not None:
                    # A sender with Nagle's algorithm holds its last bytes back until it has our acknowledgement.
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            except TimeoutError:
                raise PeerGoneError("it was silent for too long") from None
            except OSError:
                received = 0
            if not received:
                raise PeerGoneError("it closed the connection")
            self._end += received


def fragments(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield context, message control header and data of each presentation data value (PS3.8, sections 9.3.5, E.2).

    Raises
    ------
    ProtocolError
        If their lengths do not add up to the PDU's.
    """
    position, size = 0, len(body)
    while position < size:
        if position + _ITEM.size > size:
            raise ProtocolError("a fragment that is cut off")
        length, context_id, control = _ITEM.unpack_from(body, position)
        end = position + 4 + length
        if length < 2 or end > size:
            raise ProtocolError("a fragment of a wrong length")
        yield context_id, control, body[position + _ITEM.size : end]
        position = end


def data_pdu(context_id: int, command: bytes) -> bytes:
    """Return the body of a P-DATA-TF PDU that holds a whole command."""
    return _ITEM.pack(len(command) + 2, context_id, 0x03) + command
