"""Act one: a question, a tool in another process, a worker killed in the middle, an answer all the same."""

import os

from redis import Redis
from rich.console import Console

from api_contracts.chat import CallReserved, CallResult, ChatDelta, ChatReplaced, ChatRequested, ChatResult
from api_contracts.client import Client
from api_contracts.runs import Event, RunCompleted
from api_contracts.vocabulary import typed
from workers.cli.demo.checks import MOST_EXTRA_S, Checks, Seen, check_agreement, check_journal, check_lives
from workers.cli.demo.stage import LEASE_S, SWEEP_S, Stage
from workers.cli.demo.telling import Teller
from workers.cli.demo.tools import EFFECTS, QUEUE, READ_STATION, READINGS

QUESTION = "What is the weather in Oslo right now, and what should I wear?"
_KILL_AFTER_DELTAS = 12
_PATIENCE_S = 60.0
_TOOL = {
    "name": "read_station",
    "description": "Read the weather station of a city, now.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "task": READ_STATION,
    "queue": QUEUE,
    "effect": "at_most_once",
}


def chat_act(console: Console, on: Stage, client: Client, checks: Checks, real: str) -> str:
    """Play the act; return its summary. `real` is the model when the provider is the real one."""
    model = real or "accounts/fireworks/models/emulated-new"
    run_id = client.chat.submit(model=model, messages=[{"role": "user", "content": QUESTION}], tools=[_TOOL])
    console.print(f"run {run_id}", style="dim")
    console.print(f"[bold]you[/]     {QUESTION}")
    seen = _Telling(console, on).follow(client, run_id)
    result = client.chat.result(run_id, timeout_s=60)
    url = on.env["FW_REDIS_URL"]
    check_journal(checks, client, run_id, seen)
    check_lives(checks, seen, LEASE_S + SWEEP_S + MOST_EXTRA_S)
    _check_tool(checks, seen, result, url)
    _check_answer(checks, seen, result)
    check_agreement(checks, seen, result, url)
    usage = result.usage
    return (
        f"chat {run_id}: {result.rounds} rounds, {usage.prompt_tokens} + {usage.completion_tokens} tokens, "
        f"{result.timings.get('total_s', 0):.1f} s"
    )


class _Telling:
    """Follows the run, says what happens, and kills the worker in the middle of the second answer."""

    def __init__(self, console: Console, on: Stage) -> None:
        self._teller = Teller(console, on)
        self._events: list[Event] = []
        self._killed = (0, 0)
        self._round = 0
        self._deltas = 0

    def follow(self, client: Client, run_id: str) -> Seen:
        """Return what was seen."""
        for event in client.follow(run_id, timeout_s=_PATIENCE_S):
            self._events.append(event)
            self._say(event)
            if self._round == 2 and self._deltas >= _KILL_AFTER_DELTAS and not self._killed[0]:
                self._killed = self._teller.kill("in the middle of its answer")
        return Seen(self._events, *self._killed)

    def _say(self, event: Event) -> None:
        said, line = typed(event), self._teller.line
        if said is None or self._teller.life(said, event.epoch):
            return
        match said:
            case ChatRequested(round=number):
                self._round, self._deltas = number, 0
            case ChatDelta(text=text):
                self._deltas += 1
                self._teller.words("model", text)
            case CallReserved(name=name, arguments=arguments, task_id=task_id):
                line(f"[bold]model[/]   calls {name}({arguments}) -> task {task_id}, queue {QUEUE}")
            case CallResult(content=content):
                line(f"[bold]tool[/]    {content}")
            case ChatReplaced(reason=reason):
                line(f"the half-answer is void ({reason}); asking again", "yellow")
            case RunCompleted():
                line("the run is completed", "green")
            case _:
                pass


def _check_tool(checks: Checks, seen: Seen, result: ChatResult, url: str) -> None:
    with Redis.from_url(url, decode_responses=True) as redis:
        effects = sum(int(count) for count in redis.hvals(EFFECTS))
        readers = redis.lrange(READINGS, 0, -1)
    owners = {event.data["owner"].split(":")[1] for event in seen.events if "owner" in event.data}
    elsewhere = bool(readers) and not owners & set(readers) and str(os.getpid()) not in readers
    checks.claim("the tool ran in another process", elsewhere, f"pid {', '.join(readers)}")
    calls = len(result.tool_calls)
    checks.claim("its effect was counted once", effects == calls == 1, f"{effects} effect, {calls} call in the ledger")


def _check_answer(checks: Checks, seen: Seen, result: ChatResult) -> None:
    last = max((event.data["attempt"] for event in seen.events if event.type == "chat.requested"), default=0)
    text = "".join(e.data["text"] for e in seen.events if e.type == "chat.delta" and e.data["attempt"] == last)
    answer = str((result.message or {}).get("content"))
    checks.claim("the streamed words are the answer", text == answer != "", f"{len(answer)} characters")
    replaced = [event for event in seen.events if event.type == "chat.replaced"]
    checks.claim("the half-answer was declared void", len(replaced) == 1, f"{len(replaced)} chat.replaced")
    told = result.tool_calls[0].content if result.tool_calls else None
    checks.claim("the answer uses the tool's words", bool(told) and str(told)[:4] in answer, str(told))
