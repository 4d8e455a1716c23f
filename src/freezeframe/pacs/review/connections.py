"""Connections of the web server: who connects and then says nothing, or reads nothing, keeps nobody else out."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 200
REQUEST_SECONDS = 20.0
"""That a connection may be open before the head of its next request is whole."""
UNREAD_SECONDS = 60.0
"""That a caller may take nothing of an answer."""
SECONDS_BETWEEN_LOOKS = 2.0
_OWN_PATH = "/api/"


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, which itself waits for ever, and at `MOST_CONNECTIONS` answers nobody any more.

    Where all places are taken, a new connection takes the place of the one that has waited longest for a request.
    Bodies of requests are limited by `protection`.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._waits_since = self._stuck_since = self.loop.time()
        self._unsent = 0
        self._look_again: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the time, and make room."""
        super().connection_made(transport)
        self._look()
        if len(self.connections) >= MOST_CONNECTIONS:
            idle = [other for other in self._others() if not other.is_busy()]
            if idle:
                oldest = min(idle, key=lambda other: other._waits_since)
                self.connections.discard(oldest)  # now: it is told of its end only after others have come
                oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._look_again is not None:
            self._look_again.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request from now on."""
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def is_busy(self) -> bool:
        """Tell whether a request is being answered; one to the API whose body has not come yet is not."""
        if self.cycle is None or self.cycle.response_complete:
            return self.transport.get_write_buffer_size() > 0
        return not (self.cycle.more_body and self.scope["path"].startswith(_OWN_PATH))

    def _others(self) -> list["PatientProtocol"]:
        return [cast(PatientProtocol, other) for other in self.connections if other is not self]

    def _look(self) -> None:
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._stuck_since = unsent, now
        if unsent or (self.cycle is not None and not self.cycle.response_complete):
            self._waits_since = now
        if now - self._waits_since > REQUEST_SECONDS or now - self._stuck_since > UNREAD_SECONDS:
            self.transport.abort()
            return
        self._look_again = self.loop.call_later(SECONDS_BETWEEN_LOOKS, self._look)
