"""Chats: the provider's model, and the tools of this worker."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from api_contracts.failure import Failure
from workers.core.chat.cards import ToolCard


class ProviderFailed(Exception):
    """The provider did not answer as asked; `failure` is the contract's shape of why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.code}: {failure.message}")


@dataclass(slots=True)
class AnswerTimes:
    """What the model's adapter writes down of one answer while it streams, in seconds. See `metering.Timings`."""

    connect_s: float | None = None
    first_byte_s: float | None = None
    server: dict[str, float] = field(default_factory=dict)


Lull = Callable[[], "asyncio.Future[None] | None"]
"""Asked before each read of an answer: a future until whose end what arrives may stay unread, None for not at all.

Reading it sooner would only hold it, and costs as much each time. The reader ends the future when the answer is over.
"""


class ChatModel(Protocol):
    """The provider's chat endpoint, always streamed (WIRE 1.6)."""

    def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str, times: AnswerTimes | None = None,
        lull: Lull | None = None,
    ) -> AsyncGenerator[list[dict[str, Any]], None]:  # fmt: skip
        """Yield the chunks of each network read; raise `ProviderFailed`. Closing it closes the connection. `times` is
        filled in on the way. `lull` may be left unasked by whoever has no network to read from."""
        ...


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a call in the worker came to: `content` for the model, `detail` for the operator when it failed.

    `code` is `invalid_arguments` when the tool's own checks refused them; `content` then says why, and the tool did not
    run. It is `outcome_unknown` when nobody can say whether a tool that is at most once took effect.
    """

    ok: bool
    content: str
    detail: str = ""
    code: str | None = None
    run_llm: bool | None = None
    """False: the tool wants no answer of the model."""
    follow_up: Callable[[], Awaitable[None]] | None = None
    """To be called once the result is in the journal; bounded by the run's life here, and never raises."""


class ToolsAway(Exception):
    """Whose tools a name belongs to is away, and has not said yet what they are; the text says who."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a tool knows of a lost call: whether it took effect, None for nothing; its result for the model."""

    happened: bool | None
    content: str = ""


PROGRESS: Final[ContextVar[Callable[[object], None] | None]] = ContextVar("progress", default=None)
"""Takes what the tool that runs in this context tells of itself before it is done, from any thread."""


class ToolBox(Protocol):
    """The tools that are registered in this worker."""

    def card(self, name: str) -> ToolCard | None:
        """Return the tool's card, or None when it is not registered here. Raises `ToolsAway`.

        `CATCH_ALL` is the name of the handler for any other: it is run with `name` and `arguments`.
        """
        ...

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """Run the tool; never raises for what the tool did. `key` is the same for each repeat of one call."""
        ...

    async def reconcile(self, name: str, arguments: Mapping[str, Any], *, key: str) -> Reconciled:
        """Ask the tool what became of a call that ran when its worker died; bounded in time, never raises."""
        ...
