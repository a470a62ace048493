"""How long a session waits for what: the limits of the request, silence, the end of the transcript. Pure."""

from typing import Final

from api_contracts.failure import Failure
from api_contracts.stt import EndReason, SttRequest
from workers.core.stt.connection import Connection
from workers.core.stt.hearing import Hearing
from workers.core.stt.state import SttState

USAGE_EVERY_S: Final = 10.0
ECHO_WITHIN_S: Final = 30.0
QUIET_S: Final = 3.0
"""Without an echo, a session ends after this long without a word from the provider: 3 s after a final, 30 s otherwise
(FEAT D3); never before speech would have come to its end."""

CLOSE_WITHIN_S: Final = 300.0
"""However much the provider goes on saying."""

STALLED_S: Final = 1.0
"""Whoever wakes so much too late stood still (frozen, or held up by a store): the provider was silent to nobody."""

RESUMED_GRACE_S: Final = 5.0
"""A session that is resumed when its time is up still reads what is in the stream."""


AUDIO_BACKLOG: Final = Failure(
    code="audio_backlog", category="limit", at_fault="caller",
    message="twice as much audio waited to be heard as the request allows (backlog_s)",
)  # fmt: skip


def limits(request: SttRequest, state: SttState, began_at: float, audio_at: float) -> dict[EndReason, float]:
    """Return when each limit closes the session. `audio_at` is when the last entry came."""
    started = began_at if state.started_at is None else state.started_at
    longest = started + request.max_duration_s
    if began_at > started:
        longest = max(longest, began_at + RESUMED_GRACE_S)
    return {"idle": audio_at + request.idle_timeout_s, "max_duration": longest}


UNPROVEN_S: Final = 60.0
"""Of a provider that has echoed no trace yet (WIRE 2.5 documents echoes, 2.8 nothing else) silence may be all it has to
say when nobody speaks. It gets this long at first, which counts as a healthy connection, then twice as long each time;
and what is no audio of the caller's asks it nothing."""

_MOST_DOUBLINGS: Final = 6

_ROLL_LATEST: Final = 1.05
"""Of `rollover_s`: no silence until then, and the connection is replaced in mid-speech. 58 minutes by default."""


def keep_alive_at(conn: Connection, request: SttRequest) -> float | None:
    """Return when a connection that was sent nothing is shown that somebody is there."""
    if request.keep_alive_s is None or conn.closing_at is not None:
        return None
    return conn.sent_at + request.keep_alive_s


def stalled_at(conn: Connection, request: SttRequest, *, echoes: bool, in_vain: int) -> float | None:
    """Return when an open connection that says nothing is dead: a trace is not echoed, and nothing else was said.

    `echoes`: this provider is known to echo traces; `in_vain`: how often it was taken for dead without being known to.
    """
    since = conn.unanswered_since(signs=echoes)
    if since is None or request.stall_timeout_s is None or conn.closing_at is not None:
        return None
    patience = request.stall_timeout_s
    if not echoes:
        patience = max(patience, UNPROVEN_S) * 2 ** min(in_vain, _MOST_DOUBLINGS)
    return max(since, conn.said_at or 0.0, conn.patient_from) + patience


def rollover_at(conn: Connection, request: SttRequest, *, is_silent: bool) -> float | None:
    """Return when another connection is to take over: in the first silence from `rollover_s` on."""
    if request.rollover_s is None:
        return None
    return conn.since + request.rollover_s * (1.0 if is_silent else _ROLL_LATEST)


def silent_at(conn: Connection, state: SttState, hearing: Hearing, text_timeout_s: float) -> float | None:
    """Return when silence after the last final is the end of speech; None while there is more to come."""
    if state.speech_start is None or hearing.rest:
        return None
    return max(conn.changed_at or conn.since, conn.caught_up_at) + text_timeout_s


def give_up_at(conn: Connection, hearing: Hearing) -> float | None:
    """Return when the echo of the final checkpoint is no longer waited for; None before that was sent."""
    if conn.closing_at is None:
        return None
    last = max(conn.closing_at, conn.said_at or 0.0)
    heard = conn.busy_until + QUIET_S
    quiet = last + (QUIET_S if is_quiet_after_final(conn, hearing) else ECHO_WITHIN_S)
    return min(max(quiet, heard), max(conn.closing_at, conn.busy_until) + CLOSE_WITHIN_S)


def is_quiet_after_final(conn: Connection, hearing: Hearing) -> bool:
    """Return whether the provider made words final when it was asked to, and left none open."""
    return conn.final_since_closing and not hearing.rest
