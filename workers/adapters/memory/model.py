"""`ChatModel` that reads from a script: what it says, where it stops to be held, how it fails. No network, no time."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api_contracts.failure import Failure
from workers.ports import AnswerTimes, ProviderFailed

Chunk = dict[str, Any]

OUT_OF_SCRIPT = Failure(
    code="script_ended", category="protocol", message="the script has no further answer", at_fault="us"
)


class Hold:
    """A place in an answer. The stream waits here until `go` is set; `reached` says that it does."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()


Step = Chunk | Sequence[Chunk] | Hold | Failure | Exception
"""A chunk alone in its network read, several chunks in one read, a hold, or the way in which the answer breaks."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the provider got it."""

    body: Mapping[str, Any]
    credential: str | None
    request_id: str


class MemoryModel:
    """Gives its answers in the order of the script, whoever asks. Past the end of the script it fails for good.

    `asked` is every request so far, `open` the number of streams that are neither read to their end nor closed. `times`
    is what it tells of its times: to connect, to the first byte, and the server's.
    """

    def __init__(self, *answers: Sequence[Step]) -> None:
        self._answers = list(answers)
        self.asked: list[Asked] = []
        self.times: tuple[float | None, float | None, dict[str, float]] = (None, None, {})
        self.open = 0

    def add(self, *answers: Sequence[Step]) -> None:
        """Continue the script."""
        self._answers += answers

    async def stream(
        self, body: Mapping[str, Any], *, credential: str | None, request_id: str, times: AnswerTimes | None = None,
        lull: object = None,
    ) -> AsyncGenerator[list[Chunk], None]:  # fmt: skip
        """See the port."""
        self.asked.append(Asked(body, credential, request_id))
        if times is not None:
            times.connect_s, times.first_byte_s, times.server = self.times
        steps: Sequence[Step] = self._answers.pop(0) if self._answers else [OUT_OF_SCRIPT]
        self.open += 1
        try:
            for step in steps:
                if isinstance(step, Hold):
                    step.reached.set()
                    await step.go.wait()
                else:
                    yield _read(step)
        finally:
            self.open -= 1


def _read(step: Chunk | Sequence[Chunk] | Failure | Exception) -> list[Chunk]:
    if isinstance(step, Failure):
        raise ProviderFailed(step)
    if isinstance(step, Exception):
        raise step
    return [step] if isinstance(step, dict) else list(step)
