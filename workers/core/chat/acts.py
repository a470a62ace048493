"""What a chat asks of the world, and what the world tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_contracts.failure import Failure
from workers.core.chat.assembler import Answer
from workers.core.runs.frame import Effect


@dataclass(frozen=True, slots=True)
class AskModel(Effect):
    """Stream one answer to `body`; `credential` names the key."""

    attempt: int
    body: Mapping[str, Any]
    credential: str | None


@dataclass(frozen=True, slots=True)
class RunTool(Effect):
    """Run a tool of this worker. `key` is the same for every repeat of this call."""

    call_id: str
    name: str
    arguments: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class SendCall(Effect):
    """Send a call to another service, with its result linked back to the run."""

    run_id: str
    call_id: str
    task_id: str
    token: str
    task: str
    queue: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StopTool(Effect):
    """Stop a call of this worker; nothing it says counts any more."""

    call_id: str


@dataclass(frozen=True, slots=True)
class StopAll(Effect):
    """Stop the model and every call of this worker."""


@dataclass(frozen=True, slots=True)
class ModelSaid:
    """A coalesced piece of attempt `attempt`."""

    attempt: int
    text: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The whole answer of an attempt."""

    attempt: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The attempt came to nothing. `jitter` is a random number from 0 to 1."""

    attempt: int
    failure: Failure
    jitter: float


@dataclass(frozen=True, slots=True)
class CallSent:
    """The message of a call to another service is with the broker."""

    call_id: str


@dataclass(frozen=True, slots=True)
class CallSettled:
    """A call of this worker ended: `content` is for the model, `detail` for the operator."""

    call_id: str
    ok: bool
    content: str
    detail: str = ""
