"""`chat`: one question, its answer as it comes, tool calls as they happen."""

import json
import sys

from pydantic import ValidationError
from rich.console import Console

from api_contracts.chat import CallFailed, CallReserved, CallResult, ChatDelta, ChatReasoning, ChatReplaced, ChatResult
from api_contracts.runs import Event, RunResumed
from api_contracts.vocabulary import typed
from workers.cli.connecting import client
from workers.errors import Misconfigured


def talk(text: str, *, model: str, system: str, tools: list[str], as_json: bool) -> int:
    """Return 0 for a completed run, 1 otherwise. The answer goes to standard output, all else to standard error."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    with client() as service:
        try:
            run_id = service.chat.submit(model=model, messages=messages, tools=tools)
        except ValidationError as exc:
            raise Misconfigured(str(exc)) from None
        voice = Voice(Console(stderr=True, highlight=False))
        try:
            for event in service.follow(run_id):
                if as_json:
                    print(event.model_dump_json(), flush=True)  # noqa: T201 - the command's output
                else:
                    voice.say(event)
        except KeyboardInterrupt:
            service.cancel(run_id, "Ctrl-C")
            voice.aside(f"cancelled; the journal: fireworks-workers runs events {run_id}")
            return 130
        result = service.chat.result(run_id)
    if not as_json:
        voice.close(result)
    return 0 if result.status == "completed" else 1


class Voice:
    """Says events: text to standard output as it is, the rest dimly beside it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_line = False

    def say(self, event: Event) -> None:
        """Say one event; most types say nothing."""
        match typed(event):
            case ChatDelta(text=text):
                sys.stdout.write(text)
                sys.stdout.flush()
                self._in_line = not text.endswith("\n")
            case ChatReasoning(text=text):
                self._console.print(text, style="dim italic", end="", markup=False)
            case ChatReplaced(reason=reason):
                self.aside(f"{reason}; asking again")
            case CallReserved(name=name, arguments=arguments):
                self.aside(f"-> {name}({arguments})")
            case CallResult(content=content):
                self.aside(f"<- {content[:200]}")
            case CallFailed(content=content, detail=detail):
                self.aside(f"<- failed: {content} [{detail[:200]}]")
            case RunResumed():
                self.aside("another worker took the run over")
            case _:
                pass

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
