"""Reading one streamed answer under its deadlines. It knows bytes and time, not what an event looks like.

One timer serves all deadlines of an answer and is not touched by a read, so that a read costs no timer of its own.
"""

import asyncio
from dataclasses import dataclass

import aiohttp

from api_contracts.failure import Failure
from workers.ports import Lull, ProviderFailed

_TAIL_S = 0.25
"""How long the end of a complete answer may take before its connection is given up instead of kept."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one answer in seconds, each over 0. Defaults: FEAT D3 and WIRE 1.10 (connect)."""

    connect_s: float = 10.0
    """From asking to a usable connection, TLS included."""
    first_token_s: float = 20.0
    """From asking to the first text, thought, call or finish reason; headers and empty deltas do not count."""
    gap_s: float = 15.0
    """Between two chunks, from then on; comments and heartbeats are no chunks. Time that the reader of the chunks
    takes for itself does not count."""
    total_s: float = 300.0
    """From asking to the end."""


def timed_out(what: str, seconds: float) -> Failure:
    """Return the failure of the deadline `what`: connect, first_token, gap or total."""
    return Failure(
        code=f"provider_{what}_timeout",
        category="timeout",
        message=f"the provider did not answer in time: {what.replace('_', ' ')} after {seconds:g} s",
        # A slow moment passes; an answer that is too long for its total is too long the next time.
        retryable=what != "total",
        at_fault="provider",
    )


def transport_failure(code: str, error: BaseException) -> Failure:
    """Return the failure for a foreign exception. Its text is not quoted: aiohttp's may hold headers and content."""
    reason = getattr(error, "strerror", None) or ""
    return Failure(
        code=code,
        category="transport",
        message=f"no connection to the provider: {type(error).__name__} {reason}".strip()[:500],
        retryable=True,
        at_fault="provider",
    )


class _Rest:
    """A lull that somebody rests in. The answer's end, which knows nothing else of its reader, ends it."""

    def __init__(self) -> None:
        self._lull: asyncio.Future[None] | None = None

    async def until_over(self, lull: "asyncio.Future[None] | None") -> None:
        if lull is not None:
            self._lull = lull
            await lull

    def end(self) -> None:
        if self._lull is not None and not self._lull.done():
            self._lull.set_result(None)


class TimedReader:
    """Reads the body of one answer.

    When a deadline passes it closes the connection, which wakes the read. It never cancels the task: the task may
    be with whoever takes the chunks, where a cancellation would hit the wrong work.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, timeouts: Timeouts, asked_at: float, lull: Lull | None = None
    ) -> None:
        self.complete = False
        """Set by the owner once the answer is whole; then a deadline or a lost connection is only its end."""
        self._response = response
        self._content = response.content
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._total_at = asked_at + timeouts.total_s
        self._first_at = asked_at + timeouts.first_token_s
        self._speaking = False
        self._fresh = False
        self._due = self._first_at
        self._waiting = False
        self._timer: asyncio.TimerHandle | None = None
        self._expired: Failure | None = None
        self._lull = lull
        self._rest = _Rest()
        self._content.on_eof(self._rest.end)
        self._lost = self._watched()

    async def read(self) -> bytes:
        """Return what has come, or b"" at the end; raise `ProviderFailed` when it ended in any other way.

        What comes during a lull is read at its end, or at the answer's.
        """
        if self._lull is not None and not self._content.is_eof() and self._content.exception() is None:
            await self._rest.until_over(self._lull())
        self._begin()
        try:
            return await self._content.readany()
        # A reader whose session was closed meanwhile raises a bare RuntimeError.
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            failure = self._expired or transport_failure("provider_connection_lost", error)
        finally:
            self._waiting = False
        if self.complete:
            return b""
        raise ProviderFailed(failure)

    def heard(self, *, speaking: bool) -> None:
        """Note that the last read held a chunk; `speaking` once any chunk had useful output."""
        self._fresh = True
        self._speaking = speaking

    async def drain(self) -> None:
        """Read to the end of a complete answer, so that its connection can serve the next one."""
        if self._content.at_eof():
            return
        try:
            async with asyncio.timeout(_TAIL_S):
                while await self._content.readany():
                    pass
        except (aiohttp.ClientError, OSError, RuntimeError):
            pass  # the answer is whole; only the connection is not kept

    def close(self) -> None:
        """Stop the timer, and close the connection at once unless the answer was read to its end (WIRE 1.6)."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lost is not None:
            self._lost.remove_done_callback(self._wake)
        self._response.close()

    def _watched(self) -> asyncio.Future[None] | None:
        """Watch the connection: aiohttp leaves its reader asleep when the framing breaks or the session closes."""
        connection = self._response.connection  # None once the body is here to its end
        if connection is None or connection.protocol is None:
            return None
        lost = connection.protocol.closed
        if lost is None:
            self._wake()
        else:
            # One `_heed` stays for as long as the connection does, whoever uses it next.
            lost.remove_done_callback(_heed)
            lost.add_done_callback(_heed)
            lost.add_done_callback(self._wake)
        return lost

    def _wake(self, _lost: object = None) -> None:
        self._rest.end()
        if not self._content.is_eof():
            self._response.close()

    def _begin(self) -> None:
        now = self._loop.time()
        if now >= self._total_at and not self.complete:  # the timer never sees a reader whose data is always there
            raise ProviderFailed(timed_out("total", self._timeouts.total_s))
        if not self._speaking:
            due = self._first_at
        elif self._fresh:
            due = now + self._timeouts.gap_s
        else:
            due = self._due
        self._fresh = False
        sooner = due < self._due
        self._due = min(due, self._total_at)
        self._waiting = True
        if self._timer is None:
            self._arm()
        elif sooner:
            self._timer.cancel()
            self._arm()

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return  # the next read arms it again
        if self._loop.time() < self._due:
            self._arm()
            return
        self._expired = self._why()
        self._response.close()

    def _why(self) -> Failure:
        if self._due >= self._total_at:
            return timed_out("total", self._timeouts.total_s)
        if self._speaking:
            return timed_out("gap", self._timeouts.gap_s)
        return timed_out("first_token", self._timeouts.first_token_s)


def _heed(lost: asyncio.Future[None]) -> None:
    """Look at how a connection ended, so that asyncio does not report it as unheeded."""
    if not lost.cancelled():
        lost.exception()
