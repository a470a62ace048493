"""Asking together what many ask at the same time: one pipeline, one transaction (docs/decisions/0024).

Whoever asks waits for its own answer, and has it only when the whole that went with it is done. It must not know what
is asked, nor whom.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Gathering(Generic[Asked, Answer]):
    """Hands what is asked within a turn of the loop to `send`, in the order of the asking, at most `most` together.

    `send` returns an answer for each, or an exception for one that failed. What it raises is everybody's if it is one
    of `whole`; else each is sent alone, so that nobody fails for another's sake. `at_once`: as many sends may be under
    way; what is asked meanwhile goes with a later one. All of it on one loop. A cancelled asker's request may be sent.
    """

    def __init__(
        self,
        send: Callable[[list[Asked]], Awaitable[Sequence[Answer | Exception]]],
        *,
        whole: tuple[type[Exception], ...] = (Exception,),
        most: int = 256,
        at_once: int = 1,
    ) -> None:
        self._send = send
        self._whole = whole
        self._most = most
        self._at_once = at_once
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, asked: Asked) -> Answer:
        """Return the answer, or raise what came of it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if len(self._waiting) == 1:
            self._begin()
        return await answer

    def _begin(self) -> None:
        if not self._waiting or len(self._under_way) >= self._at_once:
            return
        # A context of its own: what is logged of it is about no run.
        task = asyncio.create_task(self._go(), name="gathering", context=contextvars.Context())
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._begin()

    async def _go(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._begin()
        try:
            await self._deliver(batch)
        finally:
            for _, answer in batch:  # the loop ends
                if not answer.done():
                    answer.cancel()

    async def _deliver(self, batch: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        if not batch:  # two ended at the same time, and one of those that followed took everything
            return
        try:
            answers = await self._send([asked for asked, _ in batch])
        except Exception as exc:  # noqa: BLE001 - it is the askers' to deal with
            if len(batch) == 1 or isinstance(exc, self._whole):
                answers = [exc] * len(batch)
            else:
                for each in batch:
                    await self._deliver([each])
                return
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
