"""Tools of this terminal: functions that the model may call while `chat` runs, here, in this process.

To the run they are tools of another service. Their message goes to a queue that nobody reads; the terminal follows the
run anyway, so it sees each reservation, makes the call once, and answers by the `tool_result` signal. When the terminal
is gone the call's deadline answers.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from kombu.connection import Connection

from api_contracts.chat import CallReserved, ToolSpec
from api_contracts.client import Client
from api_contracts.failure import RunNotFound, SignalRefused
from workers.adapters.tools import Registry, tool
from workers.adapters.tools.marks import MARK
from workers.cli.exits import Exit, Stop
from workers.core.chat.arguments import arguments_of

QUEUE: Final = "fireworks.terminal"
_AT_ONCE: Final = 8


class Lent:
    """The functions that `module:function` names. Raises `Stop` for one that cannot be lent."""

    def __init__(self, named: Sequence[str]) -> None:
        try:
            self._registry = Registry([_function(each) for each in named])
        except ValueError as exc:
            raise Stop(Exit.USAGE, str(exc)) from None
        # What a tool logs must not stand between the words of the answer.
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        self._pool = ThreadPoolExecutor(_AT_ONCE, "tool")
        self._used = False

    @property
    def specs(self) -> list[ToolSpec]:
        """As a request names them."""
        cards = [card for name in self._registry.names if (card := self._registry.card(name))]
        return [
            ToolSpec(
                name=card.name, description=card.description, parameters=dict(card.parameters), effect=card.effect,
                timeout_s=card.timeout_s, task=f"terminal.{card.name}", queue=QUEUE,
            )
            for card in cards
        ]  # fmt: skip

    def answer(self, service: Client, run_id: str, call: CallReserved) -> None:
        """Make a call that was reserved for one of these, in a thread."""
        if call.where == "task" and self._registry.card(call.name):
            self._used = True
            self._pool.submit(self._make, service, run_id, call)

    def close(self, service: Client) -> None:
        """Wait for no call, and throw away the messages that nobody reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._used:
            with Connection(service.settings.broker) as broker, broker.channel() as channel:
                channel.queue_purge(QUEUE)

    def _make(self, service: Client, run_id: str, call: CallReserved) -> None:
        outcome = asyncio.run(self._registry.run(call.name, arguments_of(call.arguments), key=call.task_id or run_id))
        told: dict[str, Any] = {"ok": True, "value": outcome.content} if outcome.ok else {"detail": outcome.detail}
        letter = {"call_id": call.call_id, "token": call.token, "by": "terminal"}
        try:
            service.signal(run_id, "tool_result", letter | told, f"terminal:{call.call_id}")
        except SignalRefused as exc:  # a result over 64 KB
            service.signal(run_id, "tool_result", letter | {"detail": str(exc)[:2000]}, f"terminal:{call.call_id}")
        except RunNotFound:
            structlog.get_logger(__name__).warning("terminal.run_gone", run_id=run_id)


def _function(named: str) -> Callable[..., Any]:
    """Import from the installed packages or this folder. Without `@tool` nobody said what a repeat would do: harm."""
    module, _, name = named.partition(":")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - sys.path holds text
        sys.path.insert(0, here)
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except Exception as exc:  # noqa: BLE001 - whatever a module raises while it is imported
        raise Stop(Exit.USAGE, f"--tool {named}: {type(exc).__name__}: {exc}") from None
    if not callable(function):
        raise Stop(Exit.USAGE, f"--tool {named}: it is no function")
    marked: Callable[..., Any] = function if hasattr(function, MARK) else tool(effect="at_most_once")(function)
    return marked
