"""What a chat asks of the world, and what the world tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api_contracts import chat
from api_contracts.failure import Failure
from api_contracts.metering import Timings
from api_contracts.runs import Status
from workers.core.chat.assembler import Answer
from workers.core.runs.frame import Effect
from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened

ABOVE_IDEMPOTENT: Final[frozenset[chat.Effect]] = frozenset({"keyed", "at_most_once"})


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
    effect: chat.Effect = "pure"

    @property
    def once(self) -> bool:
        """See `Effect`."""
        return self.effect in ABOVE_IDEMPOTENT


@dataclass(frozen=True, slots=True)
class AskTool(Effect):
    """Ask a tool of this worker what became of a call that was lost while it ran."""

    call_id: str
    name: str
    arguments: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class FollowUp(Effect):
    """Do what a call of this worker wanted done once its result is in the journal."""

    call_id: str


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
    effect: chat.Effect = "pure"

    @property
    def once(self) -> bool:
        """See `Effect`."""
        return self.effect in ABOVE_IDEMPOTENT


@dataclass(frozen=True, slots=True)
class StopTool(Effect):
    """Stop a call of this worker; nothing it says counts any more."""

    call_id: str


@dataclass(frozen=True, slots=True)
class StopModel(Effect):
    """Stop the model, and close the connection to it."""


@dataclass(frozen=True, slots=True)
class StopAll(Effect):
    """Stop the model and every call of this worker."""


@dataclass(frozen=True, slots=True)
class OpenTurn(Effect):
    """Make the conversation the holder's, and read it. `TurnOpened`, `TurnHeld` or `TurnOver` follows."""

    key: ConversationKey
    holder: Holder


@dataclass(frozen=True, slots=True)
class CommitVersion(Effect):
    """Add a version to the conversation, and keep it. `VersionCommitted` follows."""

    commit: Commit


@dataclass(frozen=True, slots=True)
class VersionCommitted:
    """The version is there; or `ok` is false, and the conversation is the run's no more."""

    ok: bool


@dataclass(frozen=True, slots=True)
class TurnOpened:
    """The conversation is the run's."""

    found: Opened


@dataclass(frozen=True, slots=True)
class TurnHeld:
    """Another run has its turn."""


@dataclass(frozen=True, slots=True)
class TurnOver:
    """The run's turn is in the conversation, and SQL has what the run came to."""

    status: Status
    result: Mapping[str, Any]
    failure: Failure | None


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
    timings: Timings = field(default_factory=Timings)


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
    """A call of this worker ended: `content` is for the model, `detail` for the operator, `code` for programs."""

    call_id: str
    ok: bool
    content: str
    detail: str = ""
    code: str | None = None
    run_llm: bool | None = None
    follows: bool = False
    """Something is to be done once the result is in the journal."""


@dataclass(frozen=True, slots=True)
class CallProgressed:
    """A call of this worker told something of itself."""

    call_id: str
    content: str


@dataclass(frozen=True, slots=True)
class CallReconciled:
    """A tool's word on a lost call: whether it took effect, None when it does not know; if so, with what result."""

    call_id: str
    happened: bool | None
    content: str = ""
