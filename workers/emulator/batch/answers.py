"""One row's answer, from the same scenes and sampler that answer chat completions. No files, no jobs.

A chat fault that a scene's rule puts on a row fails it if chat would answer with an error; those that disturb a
connection have nothing to disturb here.
"""

import json
from dataclasses import dataclass
from typing import Any

from workers.emulator.config import EmulatorConfig
from workers.emulator.direction import Ask, Director, Take
from workers.emulator.errors import Refused, generation_failed
from workers.emulator.faults import FaultSyntax
from workers.emulator.sse import body as whole_body
from workers.emulator.state import EmulatorState
from workers.emulator.validation import accept

_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
_NEEDLESS = ("model", "stream", "stream_options")


@dataclass(frozen=True)
class Answered:
    """A row's answer: a chat completion, or an error."""

    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True)
class JobTerms:
    """What a job says for all of its rows. `parameters` are by their names in a chat request."""

    name: str
    model: str
    parameters: dict[str, Any]
    system_prompt: str = ""


class Answers:
    """Answers rows."""

    def __init__(self, config: EmulatorConfig, state: EmulatorState) -> None:
        # Rule R1 is of requests that wait for their answer; a row's large max_tokens is clamped (WIRE 3.4).
        self._config = config.model_copy(update={"stream_required_above": None})
        self._batch = config.scene.batch or config.batch
        self._director = Director(self._config, state)
        self._stats = state.stats

    def answer(self, body: dict[str, Any], terms: JobTerms, now: float) -> Answered:
        """The answer to a row's body."""
        self._stats.batch.rows += 1
        try:
            if self._batch.needless_keys == "refused" and not body.keys().isdisjoint(_NEEDLESS):
                return self._failed("model and stream do not belong into a row", 400, "invalid_request_error")
            payload = json.dumps(self._request(body, terms)).encode()
            accepted = accept(payload, self._config, terms.name)
            take = self._director.direct(accepted, Ask(terms.name, now, isolation=terms.name))
            if take.faults.stream_error_after is not None or take.faults.stream_error_event_after is not None:
                raise Refused(generation_failed())
        except Refused as refused:
            return self._failed(*_reason(refused))
        except FaultSyntax as error:
            return self._failed(str(error), 400, "invalid_request_error")
        return _completed(take)

    def _request(self, body: dict[str, Any], terms: JobTerms) -> dict[str, Any]:
        """The row's chat request: its own body, with what the job says where the row is silent."""
        given = {key: value for key, value in body.items() if key not in _NEEDLESS}
        parameters = terms.parameters
        if self._batch.row_wins:
            silenced = given.keys() | (_LIMITS if given.keys() & _LIMITS else set())
            merged = given | {key: value for key, value in parameters.items() if key not in silenced}
        else:
            kept = {key: value for key, value in given.items() if not (key in _LIMITS and parameters.keys() & _LIMITS)}
            merged = kept | parameters
        messages = merged.get("messages")
        if terms.system_prompt and messages and messages[0].get("role") != "system":
            merged["messages"] = [{"role": "system", "content": terms.system_prompt}, *messages]
        return merged | {"model": terms.model}

    def _failed(self, message: str, status: int, code: str) -> Answered:
        return Answered(error={"message": message, "code": status if self._batch.error_code == "status" else code})


def _completed(take: Take) -> Answered:
    response = whole_body(take.completions, take.envelope)
    for choice in response["choices"]:
        if choice["message"]["reasoning_content"] is None:  # live rows have no key for what is not there (WIRE 3.4)
            del choice["message"]["reasoning_content"]
    usage = take.envelope.usage
    return Answered(
        response,
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
    )


def _reason(refused: Refused) -> tuple[str, int, str]:
    """Message, status and code of a refusal in whatever shape."""
    try:
        read = json.loads(refused.reply.text)
    except ValueError:
        return refused.reply.text, refused.reply.status, "UNKNOWN"
    inner = read.get("error", read)
    if not isinstance(inner, dict):
        return str(read.get("message", inner)), refused.reply.status, str(inner)
    return str(inner.get("message", inner)), refused.reply.status, str(inner.get("code", "UNKNOWN"))
