"""The chat's effects: stream an answer, run a tool here, send a call elsewhere. Each is a task that posts facts."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from api_contracts.failure import Failure
from workers.core.chat.acts import (
    AskModel,
    CallSent,
    CallSettled,
    ModelAnswered,
    ModelFailed,
    ModelSaid,
    RunTool,
    SendCall,
    StopAll,
    StopTool,
)
from workers.core.chat.assembler import DeltaAssembler
from workers.core.chat.coalesce import Coalescer
from workers.core.runs.frame import Effect
from workers.ports import Bell, ChatModel, Clock, ProviderFailed, StoreUnavailable, ToolBox
from workers.runners.alarm import Alarm

Post = Callable[[object], None]

_SEND_AGAIN_S = 1.0
"""Between tries to hand a call to a broker that is away; the call's own deadline bounds them."""


class ChatPerformer:
    """`Performer` of a chat run. `chance` returns a number from 0 to 1."""

    def __init__(
        self, run_id: str, model: ChatModel, tools: ToolBox, bell: Bell, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._run_id = run_id
        self._model = model
        self._tools = tools
        self._bell = bell
        self._clock = clock
        self._chance = chance
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def perform(self, effect: Effect, post: Post) -> None:
        """See `Performer`."""
        match effect:
            case AskModel():
                self._begin("model", self._answer(effect, post), post)
            case RunTool():
                self._begin(effect.call_id, self._run_tool(effect, post), post)
            case SendCall():
                self._begin(effect.call_id, self._send(effect, post), post)
            case StopTool(call_id):
                self._stop(call_id)
            case StopAll():
                for name in list(self._tasks):
                    self._stop(name)
            case _:
                raise TypeError(f"a chat has no effect {type(effect).__name__}")

    async def close(self) -> None:
        """See `Performer`."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, name: str, work: Coroutine[Any, Any, None], post: Post) -> None:
        task = self._tasks[name] = asyncio.create_task(work, name=f"{self._run_id}:{name}")

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(name) is task:
                del self._tasks[name]
            if not task.cancelled() and isinstance(exc := task.exception(), Exception):
                post(exc)

        task.add_done_callback(ended)

    def _stop(self, name: str) -> None:
        if task := self._tasks.get(name):
            task.cancel()

    async def _answer(self, ask: AskModel, post: Post) -> None:
        coalescer = Coalescer()

        def said(piece: tuple[str, str] | None) -> None:
            if piece:
                post(ModelSaid(ask.attempt, *piece))

        alarm = Alarm(self._clock, lambda: said(coalescer.flush()))
        try:
            verdict = await self._stream(ask, coalescer, alarm, said)
        except ProviderFailed as exc:
            verdict = exc.failure
        finally:
            alarm.set(None)
        said(coalescer.flush())
        if isinstance(verdict, Failure):
            post(ModelFailed(ask.attempt, verdict, self._chance()))
        else:
            post(ModelAnswered(ask.attempt, verdict))

    async def _stream(self, ask: AskModel, coalescer: Coalescer, alarm: Alarm, said: Callable[..., None]) -> Any:
        assembler = DeltaAssembler(prompt_chars=len(str(ask.body["messages"])))
        request_id = f"{self._run_id}.{ask.attempt}"
        async with contextlib.aclosing(
            self._model.stream(ask.body, credential=ask.credential, request_id=request_id)
        ) as reads:
            async for chunks in reads:
                now = self._clock.now()
                for chunk in chunks:
                    if piece := assembler.feed(chunk):
                        said(coalescer.add(piece.text, piece.reasoning, now))
                alarm.set(coalescer.deadline)
        return assembler.finish()

    async def _run_tool(self, call: RunTool, post: Post) -> None:
        outcome = await self._tools.run(call.name, call.arguments, key=call.key)
        post(CallSettled(call.call_id, outcome.ok, outcome.content, outcome.detail))

    async def _send(self, call: SendCall, post: Post) -> None:
        while True:
            try:
                await self._bell.call(call)
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.now() + _SEND_AGAIN_S)
            else:
                post(CallSent(call.call_id))
                return
