"""How runs are named, and every Redis key: no other file spells one.

All keys of one run carry the same hash tag, so that a script may touch them together on a Redis Cluster.
"""

import re
import string
import uuid
from typing import Final

RUN_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,126}[0-9A-Za-z]")
"""Fixed by the design: 2 to 128 characters, letters and digits at both ends."""

SLOTS: Final = string.digits + string.ascii_letters
"""Every last character that a run id can have: one due index each."""

DEAD_LETTERS: Final = "fw:dead-letters"
"""List of broker messages that could not be decoded, newest first; bounded by its writer."""

BEAT: Final = "fw:{beat}:"
"""Prefix of what beat keeps (RedBeat's form): an index, a set of names and a hash for each entry, so bounded by the
entries. One hash tag: a script touches them together."""

BEAT_LOCK: Final = f"{BEAT}:lock"
"""String with a time-to-live: which beat ticks, `host:pid:chance`. An entry's name never begins with a colon."""

_NAMESPACE: Final = uuid.UUID("6f0c8f0e-6f6b-5d0e-9a53-0f9d6f3b1c55")


class BadRunId(ValueError):
    """The run id has a form that is refused everywhere (code `bad_run_id`)."""

    def __init__(self, run_id: object) -> None:
        shown = repr(run_id)[:160]
        super().__init__(
            f"run id {shown} is refused: 2 to 128 of letters, digits and . _ : - , a letter or digit at both ends"
        )


def check_run_id(run_id: object) -> str:
    """Return `run_id` unchanged, or raise `BadRunId`."""
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise BadRunId(run_id)
    return run_id


def new_run_id() -> str:
    """Return a fresh random run id."""
    return str(uuid.uuid4())


def derived_run_id(tenant: str, idempotency_key: str) -> str:
    """Return the run id that the same tenant and key always get: uuid5(tenant, key)."""
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, tenant), idempotency_key))


def derived_task_id(run_id: str, call_id: str) -> str:
    """Return the Celery task id of a tool call: the same call is the same task, however often it is sent."""
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, run_id), call_id))


def derived_tick_id(entry: str, slot: int) -> str:
    """Return the id of what an entry of beat starts at a time (seconds since 1970): the same tick is the same id."""
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, f"beat:{entry}"), str(slot)))


def events(run_id: str) -> str:
    """Stream: the run's journal, readable by anyone, appended to by the lease holder only."""
    return _of(run_id, "events")


def inbox(run_id: str) -> str:
    """Stream: signals to the run, appended to by anyone."""
    return _of(run_id, "inbox")


def audio(run_id: str) -> str:
    """Stream: a speech session's audio and controls, appended to by anyone (`api_contracts.stt`)."""
    return _of(run_id, "audio")


def lease(run_id: str) -> str:
    """Hash: epoch, owner, until, seq, and what the kernel must know without reading the journal."""
    return _of(run_id, "lease")


def blob(run_id: str, number: int) -> str:
    """String: a value too large for an event."""
    return _of(run_id, f"blob:{number}")


def due(slot: str) -> str:
    """Sorted set: run id by the time (ms) at which somebody must look at it next."""
    return f"fw:{{{slot}}}:due"


def address(what: str) -> str:
    """Return the form of a run's key for documents: parameters are in braces, and the slot has braces of its own."""
    return f"fw:{{slot}}:{{run_id}}:{what}"


def waiting(slot: str, queue: str) -> str:
    """Sorted set: run id by the time (ms) since which it waits for a worker of the queue."""
    return f"fw:{{{slot}}}:waiting:{queue}"


def guard(task_id: str) -> str:
    """Hash: the mark that a tool's effect was begun, and its result (`client.guard`)."""
    return f"fw:guard:{task_id}"


def _of(run_id: str, what: str) -> str:
    return f"fw:{{{run_id[-1]}}}:{run_id}:{what}"
