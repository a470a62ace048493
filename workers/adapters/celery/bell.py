"""`Bell` on Celery: the only place that publishes a message. Publishing blocks, so it leaves the loop."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.canvas import Signature
from kombu.exceptions import KombuError, OperationalError

from api_contracts.names import CONTROL_QUEUE, DELIVER, HIDDEN, TASK_OF, queue_of
from api_contracts.runs import RunQueued
from workers.core.chat.acts import SendCall
from workers.ports import StoreUnavailable


class CeleryBell:
    """Rings for runs and calls tools of other services, through `app`'s broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    async def ring(self, run_id: str, signature: str | None, queued: RunQueued, queue: str | None = None) -> None:
        """See the port."""
        if signature:
            stored = Signature.from_dict(json.loads(signature), app=self._app)
            if queue is not None:
                for where in ("exchange", "routing_key"):
                    stored.options.pop(where, None)
                stored.set(queue=queue)
            await _published(lambda: stored.apply_async(argsrepr="()", kwargsrepr=HIDDEN))
            return
        await _published(
            lambda: self._app.send_task(
                TASK_OF[queued.kind],
                kwargs={"request": {"stored": queued.digest}},
                task_id=run_id,
                queue=queue or queue_of(queued.kind, queued.lane),
                argsrepr="()",
                kwargsrepr=HIDDEN,
            )
        )

    async def call(self, call: SendCall) -> None:
        """See the port. The result comes back by link callbacks, so the services share no result backend."""
        await _published(
            lambda: self._app.send_task(
                call.task,
                kwargs=dict(call.arguments),
                task_id=call.task_id,
                queue=call.queue,
                link=self._delivery(call, "result"),
                link_error=self._delivery(call, "failed"),
                argsrepr="()",
                kwargsrepr=HIDDEN,
            )
        )

    def _delivery(self, call: SendCall, outcome: str) -> Signature:
        given = {"run_id": call.run_id, "call_id": call.call_id, "token": call.token, "outcome": outcome}
        return Signature(DELIVER, kwargs=given, options={"queue": CONTROL_QUEUE}, app=self._app)


async def _published(publish: Callable[[], Any]) -> None:
    try:
        await asyncio.to_thread(publish)
    except (OperationalError, KombuError, OSError) as exc:
        raise StoreUnavailable(f"the broker: {type(exc).__name__}") from exc
