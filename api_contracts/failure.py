"""The one shape of bad news. It carries no stack trace, no key and no content."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

RetryRefusal = Literal["completed", "session", "being_told", "journal_gone"]
AtFault = Literal["caller", "provider", "us"]
Category = Literal[
    "bad_request", "authentication", "account", "not_found", "rate_limit", "overloaded", "timeout", "transport",
    "protocol", "content", "limit", "deadline", "cancelled", "internal",
]  # fmt: skip


class Failure(BaseModel):
    """Why a run, a call or an attempt did not succeed.

    `code` is stable and made for programs (`provider_rate_limited`); `message` is one sentence for people;
    `retryable` says whether the same request may succeed later; `at_fault` says who has to act.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    category: Category
    message: str = Field(max_length=2000)
    retryable: bool = False
    at_fault: AtFault
    provider_status: int | None = None
    provider_request_id: str | None = None
    retry_after_s: float | None = Field(default=None, ge=0)


class RunFailed(Exception):
    """What `AsyncResult.get()` raises for a failed run. Its one argument is the failure as a JSON object."""

    def __init__(self, failure: Failure | dict[str, Any]) -> None:
        self.failure = failure if isinstance(failure, Failure) else Failure.model_validate(failure)
        super().__init__(self.failure.model_dump(mode="json", exclude_none=True))

    def __str__(self) -> str:
        return f"{self.failure.code}: {self.failure.message}"

    def __repr__(self) -> str:
        """Return what logs and Flower show: the code, for a provider's words may repeat what it was asked."""
        return f"RunFailed({self.failure.code})"


class RunIsParked(Exception):
    """What `AsyncResult.info` shows while a run is parked (state RETRY); its one argument says why."""

    life: tuple[int, str] | None = None
    """Epoch and owner of the lease under which it parks; known in the worker that parks it only."""

    def __repr__(self) -> str:
        return f"parked: {self}"


class RunConflict(Exception):
    """The run id is taken by a run with a different request; that run is untouched."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id} exists with a different request: use another id or idempotency key")


class ConversationConflict(Exception):
    """The conversation is not at the version that a change wants; nothing was changed."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        super().__init__(f"conversation {conversation} has changed since it was read: read it again")


class RunNotFound(LookupError):
    """Neither Redis nor SQL knows the run."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id} is not known: never submitted here, or its retention is over")


class AudioRefused(Exception):
    """Too much audio of this session waits already; `sent` bytes were taken, the rest was not. Try again later."""

    def __init__(self, run_id: str, sent: int = 0) -> None:
        self.run_id = run_id
        self.sent = sent
        super().__init__(f"too much audio of session {run_id} waits to be heard: {sent} bytes were taken")


class RunDamaged(Exception):
    """Somebody has written into the keys of the run that the service alone writes. The worker that takes the run next
    ends it as failed, with the code `run_keys_damaged`; other runs go on."""

    def __init__(self) -> None:
        super().__init__("the keys of the run in Redis are damaged: its next worker fails it (run_keys_damaged)")


_NOT_RETRIED: Final[dict[RetryRefusal, str]] = {
    "completed": "it is completed: there is nothing to do again",
    "session": "what a speech session did not hear is accounted for and gone: open a new one",
    "being_told": "its outcome is just being told to Celery: try again in a few seconds",
    "journal_gone": "its journal is gone from Redis, only the result is left: submit it again, under another id",
}


class RetryRefused(Exception):
    """A run cannot be retried; `why` is made for programs, the text says what to do. Nothing was changed."""

    def __init__(self, run_id: str, why: RetryRefusal) -> None:
        self.run_id, self.why = run_id, why
        super().__init__(f"run {run_id} is not retried: {_NOT_RETRIED[why]}")


class SignalRefused(ValueError):
    """A signal cannot be sent as it is: its type is none, or its data do not fit. The text shows none of the data."""
