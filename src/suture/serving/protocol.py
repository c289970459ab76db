"""HTTP as the server speaks it: a request whose head does not come is hung up on."""

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Impatient(H11Protocol):
    """Uvicorn's protocol, with an end to waiting for the head of a request, the first or a later one.

    Uvicorn itself lets go of a connection only where nothing at all has come since the last answer.
    """

    patience: ClassVar[float]
    """In seconds."""
    alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Wait on where a head is not whole, and for the next where a request has just been answered."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self.alarm is None:
            self.alarm = self.loop.call_later(self.patience, self._hang_up)

    def _disarm(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def _hang_up(self) -> None:
        self.alarm = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


def impatient(patience: float) -> type[H11Protocol]:
    """Return the protocol with a patience, in seconds."""
    return type("Impatient", (Impatient,), {"patience": patience})
