"""The chat's effects: stream an answer, run a tool here, send a call elsewhere. Each is a task that posts facts."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from api_contracts.failure import Failure
from api_contracts.metering import Timings
from workers.core.chat.account import server_times
from workers.core.chat.acts import (
    AskModel,
    AskTool,
    CallProgressed,
    CallReconciled,
    CallSent,
    CallSettled,
    CommitVersion,
    FollowUp,
    ModelAnswered,
    ModelFailed,
    ModelSaid,
    OpenTurn,
    RunTool,
    SendCall,
    StopAll,
    StopModel,
    StopTool,
)
from workers.core.chat.assembler import Answer, DeltaAssembler
from workers.core.chat.body import chars_of
from workers.core.runs.frame import Effect, Passing
from workers.ports import PROGRESS, AnswerTimes, Bell, ChatModel, Clock, ProviderFailed, StoreUnavailable, ToolBox
from workers.runners.allowance import Allowance
from workers.runners.chime import Chime
from workers.runners.circuits import Circuits
from workers.runners.follow_ups import FollowUps
from workers.runners.mouth import Mouth
from workers.runners.pacing import Pace
from workers.runners.talks import Talks

Post = Callable[[object], None]
Verdict = tuple[Answer, Timings] | Failure

_PROGRESS_EACH_S = 1.0
"""A tool may tell of itself as often as it likes: so much time lies between what is kept of it."""
_SEND_AGAIN_S = 1.0
"""Between tries to hand a call to a broker that is away; the call's own deadline bounds them."""


class ChatPerformer:
    """`Performer` of a chat run. `chance` returns a number from 0 to 1."""

    def __init__(
        self, run_id: str, model: ChatModel, tools: ToolBox, bell: Bell, clock: Clock, chance: Callable[[], float],
        circuits: Circuits, talks: Talks | None = None, pace: Pace | None = None,
        allowance: Allowance | None = None, chime: Chime | None = None,
    ) -> None:  # fmt: skip
        self._run_id = run_id
        self._model = model
        self._tools = tools
        self._bell = bell
        self._clock = clock
        self._chance = chance
        self._circuits = circuits
        self._pace = pace
        self._allowance = allowance
        self._talks = talks
        self._chime = chime or Chime(clock)
        self._follow_ups: dict[str, Callable[[], Awaitable[None]]] = {}
        self._after = FollowUps()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._foreseen: dict[int, asyncio.Event] = {}
        """By attempt: set when what announces it is on record."""

    def foresee(self, effect: Effect, post: Post) -> None:
        """See `Foresees`: leave to ask the model is asked for. Leave that is never used time gives back, but not what
        budgets reserve.
        """
        if isinstance(effect, AskModel) and self._allowance is None:
            self._foreseen[effect.attempt] = asyncio.Event()
            self._begin("model", self._answer(effect, post), post)

    def perform(self, effect: Effect, post: Post) -> None:
        """See `Performer`."""
        match effect:
            case OpenTurn() | CommitVersion():
                self._begin("conversation", self._talk(effect, post), post)
            case AskModel():
                self._ask_model(effect, post)
            case RunTool():
                self._begin(effect.call_id, self._run_tool(effect, post), post)
            case FollowUp(call_id):
                self._after.begin(self._follow_ups.pop(call_id))
            case AskTool():
                self._begin(effect.call_id, self._ask_tool(effect, post), post)
            case SendCall():
                self._begin(effect.call_id, self._send(effect, post), post)
            case _:
                self._end(effect)

    def _end(self, effect: Effect) -> None:
        match effect:
            case StopModel():
                self._stop("model")
            case StopTool(call_id):
                self._stop(call_id)
            case StopAll():
                for name in list(self._tasks):
                    self._stop(name)
            case _:
                raise TypeError(f"a chat has no effect {type(effect).__name__}")

    async def close(self) -> None:
        """See `Performer`. What follows from results has a moment more."""
        await self._after.close()
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

    async def _talk(self, wanted: OpenTurn | CommitVersion, post: Post) -> None:
        if self._talks is None:
            raise TypeError("this kind of run has no conversation")
        act = self._talks.open(wanted) if isinstance(wanted, OpenTurn) else self._talks.commit(wanted)
        post(await act)

    def _ask_model(self, ask: AskModel, post: Post) -> None:
        if foreseen := self._foreseen.pop(ask.attempt, None):
            foreseen.set()
        else:
            self._begin("model", self._answer(ask, post), post)

    async def _is_announced(self, attempt: int) -> None:
        if foreseen := self._foreseen.get(attempt):
            await foreseen.wait()

    async def _answer(self, ask: AskModel, post: Post) -> None:
        mouth = Mouth(self._chime, self._clock, lambda piece: post(Passing(ModelSaid(ask.attempt, *piece))))
        try:
            verdict = await self._allowed(ask, mouth)
        except ProviderFailed as exc:
            verdict = exc.failure
            await self._is_announced(ask.attempt)
        finally:
            mouth.close()
        for piece in mouth.rest():
            post(ModelSaid(ask.attempt, *piece))  # it is appended with what follows
        if isinstance(verdict, Failure):
            post(ModelFailed(ask.attempt, verdict, self._chance()))
        else:
            post(ModelAnswered(ask.attempt, *verdict))

    async def _allowed(self, ask: AskModel, mouth: Mouth) -> Verdict:
        """Reserve what the attempt may cost before anything else: whoever has to wait for money must take no turn."""
        if self._allowance is None:
            return await self._paced(ask, mouth)
        reserved = await self._allowance.reserve(ask.attempt, ask.body)
        try:
            verdict = await self._paced(replace(ask, body=reserved.body), mouth)
        except ProviderFailed as exc:
            verdict = exc.failure
        await self._allowance.settle(reserved, verdict if isinstance(verdict, Failure) else verdict[0])
        return verdict

    async def _paced(self, ask: AskModel, mouth: Mouth) -> Verdict:
        """Wait for the attempt's turn first: a circuit's one probe must not wait for it."""
        if self._pace is None:
            return await self._admitted(ask, mouth)
        ticket = await self._pace.enter(ask.credential, ask.body)
        try:
            verdict = await self._admitted(ask, mouth)
        except ProviderFailed as exc:
            verdict = exc.failure
        await self._pace.ended(ticket, verdict if isinstance(verdict, Failure) else verdict[0])
        return verdict

    async def _admitted(self, ask: AskModel, mouth: Mouth) -> Verdict:
        account, model = ask.credential, str(ask.body["model"])
        entered = await self._circuits.enter(account, model)
        await self._is_announced(ask.attempt)
        try:
            verdict = await self._stream(ask, mouth)
        except ProviderFailed as exc:
            verdict = exc.failure
        failure = verdict if isinstance(verdict, Failure) else None
        await self._circuits.ended(entered, account, model, failure)
        return verdict

    async def _stream(self, ask: AskModel, mouth: Mouth) -> Verdict:
        assembler = DeltaAssembler(prompt_chars=chars_of(ask.body["messages"]), n=ask.body.get("n") or 1)
        request_id, times = f"{self._run_id}.{ask.attempt}", AnswerTimes()
        asked_at, first_at = self._clock.now(), None
        async with contextlib.aclosing(
            self._model.stream(ask.body, credential=ask.credential, request_id=request_id, times=times, lull=mouth.lull)
        ) as reads:
            async for chunks in reads:
                now = self._clock.now()
                mouth.say([piece for chunk in chunks if (piece := assembler.feed(chunk))], now)
                if first_at is None and assembler.has_output:
                    first_at = now
        answer = assembler.finish()
        if isinstance(answer, Failure):
            return answer
        return answer, _timings(times, answer, asked_at, first_at, self._clock.now())

    async def _run_tool(self, call: RunTool, post: Post) -> None:
        loop = asyncio.get_running_loop()
        told_at = -_PROGRESS_EACH_S

        def told(content: str) -> None:
            nonlocal told_at
            if (now := self._clock.now()) - told_at >= _PROGRESS_EACH_S:
                told_at = now
                post(CallProgressed(call.call_id, content))

        def tell(value: object) -> None:
            content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            loop.call_soon_threadsafe(told, content)

        PROGRESS.set(tell)  # of this task, and of the thread that it may start
        outcome = await self._tools.run(call.name, call.arguments, key=call.key)
        if outcome.follow_up:
            self._follow_ups[call.call_id] = outcome.follow_up
        post(
            CallSettled(
                call.call_id, outcome.ok, outcome.content, outcome.detail, outcome.code, outcome.run_llm,
                outcome.follow_up is not None,
            )
        )  # fmt: skip

    async def _ask_tool(self, call: AskTool, post: Post) -> None:
        found = await self._tools.reconcile(call.name, call.arguments, key=call.key)
        post(CallReconciled(call.call_id, found.happened, found.content))

    async def _send(self, call: SendCall, post: Post) -> None:
        while True:
            try:
                await self._bell.call(call)
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.now() + _SEND_AGAIN_S)
            else:
                post(CallSent(call.call_id))
                return


def _timings(times: AnswerTimes, answer: Answer, asked_at: float, first_at: float | None, now: float) -> Timings:
    performance = answer.details.get("perf_metrics")
    server = times.server | (server_times(performance) if isinstance(performance, dict) else {})
    return Timings(
        connect_s=_rounded(times.connect_s),
        first_byte_s=_rounded(times.first_byte_s),
        first_token_s=None if first_at is None else _rounded(first_at - asked_at),
        processing_s=_rounded(now - asked_at),
        server=server,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 6)
