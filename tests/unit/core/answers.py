"""Short ways to put an answer together, for tests."""

from typing import Any

from api_contracts.failure import Failure
from tests.unit.adapters.fireworks.wire import chunk
from workers.core.chat.assembler import Answer, DeltaAssembler

STOP = chunk({}, "stop")
CALLS_END = chunk({}, "tool_calls")


def assembled(*chunks: dict[str, Any], prompt_chars: int = 0) -> Answer | Failure:
    assembler = DeltaAssembler(prompt_chars)
    for each in chunks:
        assembler.feed(each)
    return assembler.finish()


def answer_of(*chunks: dict[str, Any], prompt_chars: int = 0) -> Answer:
    answer = assembled(*chunks, prompt_chars=prompt_chars)
    assert isinstance(answer, Answer), answer
    return answer


def failure_of(*chunks: dict[str, Any]) -> Failure:
    failure = assembled(*chunks)
    assert isinstance(failure, Failure), failure
    return failure


def fragments(*deltas: list[Any]) -> list[dict[str, Any]]:
    return [chunk({"tool_calls": delta}) for delta in deltas]


def calls_of(*deltas: list[Any], end: dict[str, Any] = CALLS_END) -> list[tuple[str, str, str]]:
    answer = answer_of(*fragments(*deltas), end)
    assert [c.index for c in answer.calls] == list(range(len(answer.calls)))
    return [(c.provider_id, c.name, c.arguments) for c in answer.calls]
