"""`chat`: one question, its answer as it comes, tool calls as they happen."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from api_contracts.chat import (
    CallApproved,
    CallCancelled,
    CallFailed,
    CallLateResult,
    CallOutcomeUnknown,
    CallReserved,
    CallResult,
    CallTimedOut,
    ChatDelta,
    ChatReasoning,
    ChatReplaced,
    ChatRequest,
    ChatResult,
)
from api_contracts.client import Client
from api_contracts.messages import image
from api_contracts.runs import Event, RunParked, RunResumed
from api_contracts.vocabulary import typed
from workers.cli.connecting import client
from workers.cli.exits import Exit, Stop
from workers.cli.lending import Lent

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. A tool is the name of one that the workers have, or `module:function` of one here; a
    picture is a file or a URL; a conversation that does not exist yet begins."""

    text: str
    model: str
    system: str = ""
    tools: Sequence[str] = ()
    images: Sequence[str] = ()
    conversation: str = ""


def talk(asked: Asked, *, as_json: bool) -> int:
    """Return the exit code. The answer (or with `as_json` each event) goes to standard output, all else beside it."""
    lent = Lent([each for each in asked.tools if ":" in each])
    request = _request(asked, lent)
    with client() as service:
        try:
            return _followed(service, service.chat.submit(request), lent, as_json=as_json)
        finally:
            lent.close(service)


def _request(asked: Asked, lent: Lent) -> ChatRequest:
    content: Any = asked.text
    if asked.images:
        content = [{"type": "text", "text": asked.text}, *map(_picture, asked.images)]
    messages = [{"role": "system", "content": asked.system}] if asked.system and not asked.conversation else []
    lasting = {"system": asked.system} if asked.system else {}
    part = {"id": asked.conversation, "settings": lasting} if asked.conversation else None
    tools = [each for each in asked.tools if ":" not in each]
    try:
        return ChatRequest.model_validate(
            {"model": asked.model, "messages": [*messages, {"role": "user", "content": content}]}
            | {"tools": [*tools, *lent.specs], "conversation": part}
        )
    except ValidationError as exc:
        faults = (f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in exc.errors(include_input=False))
        raise Stop(Exit.USAGE, "; ".join(faults)) from None


def _picture(source: str) -> dict[str, Any]:
    try:
        return image(source if "://" in source or source.startswith("data:") else Path(source).read_bytes())
    except (OSError, ValueError) as exc:
        raise Stop(Exit.USAGE, f"--image {source:.200}: {exc}") from None


def _followed(service: Client, run_id: str, lent: Lent, *, as_json: bool) -> int:
    voice = Voice(Console(stderr=True, highlight=False), run_id)
    try:
        for event in service.follow(run_id):
            if as_json:
                print(event.model_dump_json(), flush=True)  # noqa: T201 - the command's output
            else:
                voice.say(event)
            if isinstance(said := typed(event), CallReserved):
                lent.answer(service, run_id, said)
    except KeyboardInterrupt:
        service.cancel(run_id, "Ctrl-C")
        voice.aside(f"cancelled; the journal: fireworks-workers runs events {run_id}")
        return INTERRUPTED
    result = service.chat.result(run_id)
    if not as_json:
        voice.close(result)
    return Exit.DONE if result.status == "completed" else Exit.FAILED


class Voice:
    """Says events: text to standard output as it is, the rest dimly beside it."""

    def __init__(self, console: Console, run_id: str) -> None:
        self._console = console
        self._run_id = run_id
        self._in_line = False
        self._names: dict[str, str] = {}

    def say(self, event: Event) -> None:
        """Say one event; most types say nothing."""
        match said := typed(event):
            case ChatDelta(text=text):
                sys.stdout.write(text)
                sys.stdout.flush()
                self._in_line = not text.endswith("\n")
            case ChatReasoning(text=text):
                self._console.print(text, style="dim italic", end="", markup=False)
            case ChatReplaced(reason=reason):
                self.aside(f"{reason}; asking again")
            case RunResumed():
                self.aside("another worker took the run over")
            case RunParked(why=why):
                self.aside(f"waits: {why}")
            case CallReserved(call_id=call_id, name=name, arguments=arguments, approval=approval):
                self._names[call_id] = name
                self.aside(f"-> {name}({arguments})")
                if approval:
                    self.aside(f"   waits until somebody says: fireworks-workers runs approve {self._run_id} {call_id}")
            case _:
                self._tell(said)

    def _tell(self, said: object) -> None:
        """Say what became of a call."""
        match said:
            case CallApproved(call_id=call_id, by=by):
                self._returned(call_id, f"approved by {by or 'somebody'}")
            case CallResult(call_id=call_id, content=content):
                self._returned(call_id, content[:200])
            case CallFailed(call_id=call_id, content=content, detail=detail):
                self._returned(call_id, f"failed: {content} [{detail[:200]}]")
            case CallTimedOut(call_id=call_id):
                self._returned(call_id, "did not answer in time")
            case CallCancelled(call_id=call_id):
                self._returned(call_id, "cancelled")
            case CallOutcomeUnknown(call_id=call_id):
                self._returned(call_id, "nobody knows whether it took effect; it is not repeated")
            case CallLateResult(call_id=call_id):
                self._returned(call_id, "answered too late; recorded, not used")
            case _:
                pass

    def _returned(self, call_id: str, text: str) -> None:
        self.aside(f"<- {self._names.get(call_id, call_id)}: {text}")

    def aside(self, line: str) -> None:
        """Say something on a line of its own."""
        if self._in_line:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._in_line = False
        self._console.print(line, style="dim", markup=False)

    def close(self, result: ChatResult) -> None:
        """Say how it ended."""
        self.aside("")
        if result.failure:
            self._console.print(
                f"{result.status}: {result.failure.code}: {result.failure.message}", style="red", markup=False
            )
        usage = result.usage
        self.aside(
            f"run {result.run_id}: {result.status}, {result.rounds} round(s), "
            f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, {json.dumps(result.timings)}"
        )
