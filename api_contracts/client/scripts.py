"""The scripts that every writer shares, and their arguments. Sans-IO: callers run what this builds."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from api_contracts import keys
from api_contracts.names import STT_QUEUE, queue_of
from api_contracts.runs import RunQueued

SPILL_BYTES = 64 * 1024
"""Values over this size are stored beside the stream and referenced (design 2)."""

REQUEST_BLOB = 0
"""Number of the blob that holds a large request."""

RESULT_BLOB = 1
"""Number of the blob that holds a large result."""

BLOBS = (REQUEST_BLOB, RESULT_BLOB)
"""Every blob that a run can have."""


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One EVALSHA: the script's text, its keys, its arguments."""

    script: str
    keys: tuple[str, ...]
    args: tuple[str | int | bytes, ...]

    def spelled(self, *, whole: bool = False) -> tuple[str | int | bytes, ...]:
        """Return the command for Redis; `whole` sends the text, for a server that has forgotten it."""
        how = ("EVAL", self.script) if whole else ("EVALSHA", sha_of(self.script))
        return *how, len(self.keys), *self.keys, *self.args


@cache
def sha_of(script: str) -> str:
    """Return the name under which Redis keeps a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def load(package: str, name: str) -> str:
    """Return the text of a script that is shipped in `package`, behind what every script may call."""
    return _shipped("api_contracts.client", "index") + _shipped(package, name)


def _shipped(package: str, name: str) -> str:
    return resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")


SUBMIT = load("api_contracts.client", "submit")
SIGNAL = load("api_contracts.client", "signal")
AUDIO = load("api_contracts.client", "audio")
RETRY = load("api_contracts.client", "retry")

UNTAKEN_S: Final = 300
"""Audio that no worker takes for so long is enough; as much as a session may hold unheard (`SttRequest.backlog_s`)."""

RETRY_LETTER = "retry"
"""Type of the letter by which an operator's retry reaches the run. No sender of signals may use it."""


def canonical(value: Mapping[str, Any]) -> str:
    """Return the JSON by which requests are compared: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(request: Mapping[str, Any]) -> str:
    """Return the request's digest: the first 32 hex digits of SHA-256 over its canonical JSON."""
    return hashlib.sha256(canonical(request).encode()).hexdigest()[:32]


def spill(queued: RunQueued) -> tuple[RunQueued, str | None]:
    """Return the event to store, and the request as a blob when it is too large for an event."""
    if queued.request is None:
        return queued, None
    text = canonical(queued.request)
    if len(text.encode()) <= SPILL_BYTES:
        return queued, None
    return queued.model_copy(update={"request": None, "request_blob": REQUEST_BLOB}), text


def submit_call(run_id: str, queued: RunQueued, blob: str | None, *, first_look_s: float, ttl_s: float) -> ScriptCall:
    """Build the submit: reply `created`, `exists` or `conflict`."""
    slot, queue = run_id[-1], queue_of(queued.kind, queued.lane)
    of_run = (keys.events(run_id), keys.lease(run_id), keys.due(slot), keys.blob(run_id, REQUEST_BLOB))
    return ScriptCall(
        SUBMIT,
        (*of_run, keys.waiting(slot, queue)),
        (
            run_id,
            queued.digest,
            queued.to_json(),
            blob or "",
            int(first_look_s * 1000),
            int(ttl_s * 1000),
            queue,
            "" if queued.deadline_s is None else math.ceil(queued.deadline_s * 1000),
        ),
    )


def signal_call(run_id: str, kind: str, data: Mapping[str, Any], signal_id: str, *, ttl_s: float) -> ScriptCall:
    """Build a signal: reply `sent`, `woken` (sent, and the run waits: ring for it), `finished` or `missing`."""
    return ScriptCall(
        SIGNAL,
        (keys.lease(run_id), keys.inbox(run_id), keys.due(run_id[-1])),
        (kind, json.dumps(data, separators=(",", ":"), ensure_ascii=False), signal_id, int(ttl_s * 1000), run_id),
    )


def retry_call(run_id: str, by: str, reason: str, *, ttl_s: float) -> ScriptCall:
    """Build a retry. Replies: `reopened` (it was over), `woken` (it waits: ring for it), `running`, or why not:
    `completed`, `session`, `telling`, `gone`, `missing`.
    """
    data = json.dumps({"by": by, "reason": reason}, separators=(",", ":"), ensure_ascii=False)
    blobs = (keys.blob(run_id, number) for number in BLOBS)
    of_run = (keys.lease(run_id), keys.due(run_id[-1]), keys.events(run_id), keys.inbox(run_id), keys.audio(run_id))
    return ScriptCall(RETRY, (*of_run, *blobs), (run_id, data, int(ttl_s * 1000), STT_QUEUE))


def audio_call(run_id: str, field: Literal["a", "c"], value: bytes | str, *, ttl_s: float) -> ScriptCall:
    """Build an append to a session's audio stream: reply `sent`, `finished`, `missing` or, for audio, `full`."""
    times = (int(ttl_s * 1000), UNTAKEN_S * 1000)
    return ScriptCall(AUDIO, (keys.lease(run_id), keys.audio(run_id)), (field, value, *times))
