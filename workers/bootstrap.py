"""The composition root: the only module that names concrete classes."""

import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from celery import Celery
from pydantic import ValidationError

from api_contracts.chat import ChatRequest, ToolSpec
from api_contracts.failure import Failure
from api_contracts.runs import RunQueued
from workers.adapters.celery.bell import CeleryBell
from workers.adapters.clock import SystemClock
from workers.adapters.fireworks.chat import FireworksChat
from workers.adapters.redis.connection import connect
from workers.adapters.redis.reader import BLOCK_MS, InboxReader
from workers.adapters.redis.store import RedisRuns
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.tools import Registry
from workers.core.chat.cards import ToolCard
from workers.core.chat.turn import ChatTurn
from workers.core.runs.frame import Machine
from workers.ports import Bell, ChatModel, Clock, ToolBox
from workers.runners.chat import ChatPerformer
from workers.runners.drive import DriverServices, Performer
from workers.runners.leases import LeaseKeeper
from workers.runners.reception import Reception, refusal
from workers.runners.sweep import Sweeper
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker process runs on."""

    reception: Reception
    keeper: LeaseKeeper
    sweeper: Sweeper
    store: RedisRuns
    clock: Clock


class WorkerKinds:
    """`Kinds`: makes the machine and the performer of each kind of work."""

    def __init__(self, model: ChatModel, tools: ToolBox, bell: Bell, clock: Clock) -> None:
        self._model = model
        self._tools = tools
        self._bell = bell
        self._clock = clock

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        """See the port."""
        try:
            chat = ChatRequest.model_validate(request)
        except ValidationError as exc:
            return refusal(run_id, bad_request(exc))
        cards: dict[str, ToolCard] = {}
        for wanted in chat.tools:
            card = _card(wanted) if isinstance(wanted, ToolSpec) else self._tools.card(wanted)
            if card is None:
                return refusal(run_id, _unknown_tool(str(wanted)))
            cards[card.name] = card
        performer = ChatPerformer(run_id, self._model, self._tools, self._bell, self._clock, random.random)
        return ChatTurn(run_id, chat, cards, at), performer


@asynccontextmanager
async def worker(settings: Settings, app: Celery) -> AsyncIterator[Services]:
    """Build everything for one worker process, on its loop; take it apart at the end."""
    clock, timing = SystemClock(), settings.timing
    redis = connect(settings.redis_url)
    reading = connect(settings.redis_url, max_connections=1, timeout_s=BLOCK_MS / 1000 + 5.0)
    store = RedisRuns(redis, clock, timing)
    inbox = InboxReader(reading, redis, clock)
    archive = SqlArchive(settings.database)
    model = FireworksChat(settings.base_url, _keys(settings))
    bell = CeleryBell(app)
    services = DriverServices(store, inbox, archive, bell, clock)
    keeper = LeaseKeeper(store, clock, timing)
    kinds = WorkerKinds(model, Registry.load(settings.tools), bell, clock)
    writer = f"fireworks-workers {version('fireworks-workers')}"
    try:
        store.start()
        inbox.start()
        yield Services(
            Reception(services, keeper, kinds, _owner(), writer),
            keeper,
            Sweeper(store, bell, clock, timing.sweep_s, random.random),
            store,
            clock,
        )
    finally:
        await inbox.close()
        await store.close()
        await model.close()
        await archive.close()
        await reading.aclose()
        await redis.aclose()


def bad_request(exc: ValidationError) -> Failure:
    """Return the failure of a request that does not fit its contract: where and why, not what was in it."""
    faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in exc.errors()[:8])
    return Failure(code="bad_request", category="bad_request", message=faults[:2000], at_fault="caller")


def _unknown_tool(name: str) -> Failure:
    return Failure(
        code="unknown_tool",
        category="bad_request",
        message=f"no tool {name!r} is registered in this worker (FW_TOOLS); a tool elsewhere needs 'task' and 'queue'",
        at_fault="caller",
    )


def _card(spec: ToolSpec) -> ToolCard:
    return ToolCard(
        spec.name, spec.description, spec.parameters, spec.effect, spec.timeout_s, task=spec.task, queue=spec.queue
    )


def _keys(settings: Settings) -> Any:
    def key_of(credential: str | None) -> str:
        if credential is None:
            return settings.api_key.get_secret_value()
        return settings.credentials[credential].get_secret_value()

    return key_of


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
