"""How runs are named, and every Redis key: no other file spells one.

All keys of one run carry the same hash tag, so that a script may touch them together on a Redis Cluster.
"""

import re
import string
import uuid
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

RUN_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,126}[0-9A-Za-z]")
"""Fixed by the design: 2 to 128 characters, letters and digits at both ends."""

SLOTS: Final = string.digits + string.ascii_letters
"""Every last character that a run id can have: one due index each."""

DEAD_LETTERS: Final = "fw:dead-letters"
"""List of broker messages that could not be decoded, newest first; bounded by its writer."""

UNACKED: Final = "fw:unacked"
"""Prefix of what kombu keeps of the messages that our workers have fetched and not acknowledged, on a Redis broker: a
hash, an index and a mutex. As many as our workers may hold."""

BINDINGS: Final = "fw:bindings"
"""Sorted set, on a Redis broker: what our processes have bound to Celery's own exchanges (remote control, events), by
the time (ms) at which it is forgotten unless they live. As many as there were such processes within an hour."""

BEAT: Final = "fw:{beat}:"
"""Prefix of what beat keeps (RedBeat's form): an index, a set of names and a hash for each entry, so bounded by the
entries. One hash tag: a script touches them together."""

BEAT_LOCK: Final = f"{BEAT}:lock"
"""String with a time-to-live: which beat ticks, `host:pid:chance`. An entry's name never begins with a colon."""

EVERY_JOURNAL: Final = "fw:{?}:*:events"
"""Pattern of the journals of all runs, for SCAN; a stranger's key may fit it too (`run_of`)."""

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


def cache_namespace(tenant: str) -> str:
    """Return how the provider keeps this tenant's prompts apart in its cache. It does not tell the tenant's name."""
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, tenant), "prompt-cache"))


def cache_key(tenant: str, conversation: str) -> str:
    """Return how the provider knows the prompts of one conversation again; it tells neither name."""
    return str(uuid.uuid5(uuid.uuid5(_NAMESPACE, tenant), f"prompt-cache:{conversation}"))


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


def breaker(account: str | None, model: str | None = None) -> str:
    """Hash with a time-to-live: the circuit breaker of an account, or of one of its models. `account` is the name of
    its credential, None that of the process."""
    return f"fw:breaker:{{={quote(account or '', safe='')}}}:{model or ''}"


def limits(account: str | None, model: str | None = None) -> str:
    """Hash with a time-to-live: the provider's meters of an account, or of one of its models; named as `breaker`."""
    return f"fw:limits:{{={quote(account or '', safe='')}}}:{model or ''}"


def budget(name: str, values: Sequence[str]) -> str:
    """Hash with a time-to-live: what runs with the same values of a budget's labels spend in the present window. One
    hash tag for all: a script charges several together."""
    return f"fw:budget:{{=}}:{':'.join(quote(each, safe='') for each in (name, *values))}"


def guard(task_id: str) -> str:
    """Hash: the mark that a tool's effect was begun, and its result (`client.guard`)."""
    return f"fw:guard:{task_id}"


def celery_result(task_id: str) -> str:
    """String: what Celery's result backend keeps of a task. Celery writes it."""
    return f"celery-task-meta-{task_id}"


def run_of(journal: str) -> str | None:
    """Return the run whose journal a key is; None for a key that is none of ours."""
    run_id = journal[len("fw:{?}:") : -len(":events")]
    return run_id if RUN_ID.fullmatch(run_id) and events(run_id) == journal else None


def _of(run_id: str, what: str) -> str:
    return f"fw:{{{run_id[-1]}}}:{run_id}:{what}"
