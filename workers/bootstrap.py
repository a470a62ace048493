"""The composition root: the only module that names concrete classes."""

import os
import random
import secrets
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, assert_never

from celery import Celery
from pydantic import ValidationError
from redis.asyncio import Redis

from api_contracts.batch import BatchRequest
from api_contracts.chat import ChatRequest, ToolSpec
from api_contracts.citations import CiteRequest
from api_contracts.failure import Failure
from api_contracts.runs import RunQueued
from api_contracts.stt import SttRequest
from workers.adapters.celery.bell import CeleryBell
from workers.adapters.clock import SystemClock
from workers.adapters.credentials import Credentials
from workers.adapters.csl import CslReferences
from workers.adapters.fireworks.batch import FireworksBatch
from workers.adapters.fireworks.chat import FireworksChat
from workers.adapters.fireworks.speech import FireworksSpeech
from workers.adapters.inputs import InputFiles
from workers.adapters.redis.connection import answers, connect
from workers.adapters.redis.queues import RedisQueues
from workers.adapters.redis.reader import BLOCK_MS, StreamReader
from workers.adapters.redis.store import RedisRuns
from workers.adapters.redis.streams import RedisAudio, RedisInbox, lag_of
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.batches import SqlBatches
from workers.adapters.tools import Registry
from workers.core.batch.submission import BatchSubmission
from workers.core.chat.cards import ToolCard
from workers.core.chat.turn import ChatTurn
from workers.core.citations.answering import CiteAnswer
from workers.core.citations.references import ReferenceStyles
from workers.core.runs.frame import Machine
from workers.core.stt.session import SttSession
from workers.monitor import Ask
from workers.ports import AudioStreams, Bell, ChatModel, Clock, SpeechService, ToolBox
from workers.runners.batch import BatchParts, BatchPerformer
from workers.runners.chat import ChatPerformer
from workers.runners.drive import DriverServices, Performer
from workers.runners.leases import LeaseKeeper
from workers.runners.polling import Poller
from workers.runners.queues import QueueWatch
from workers.runners.reception import Reception, refusal
from workers.runners.stt import SttPerformer
from workers.runners.sweep import Sweeper
from workers.settings import Settings
from workers.telemetry import Metrics, WorstLately
from workers.telemetry.health import CHECK_BOUND_S


@dataclass(frozen=True, slots=True)
class Signals:
    """What a process can tell of its surroundings."""

    queues: QueueWatch
    audio_lag: WorstLately
    checks: Mapping[str, Ask]


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker process runs on."""

    reception: Reception
    keeper: LeaseKeeper
    sweeper: Sweeper
    poller: Poller
    store: RedisRuns
    clock: Clock
    signals: Signals


@dataclass(frozen=True, slots=True)
class Parts:
    """What the kinds of work are made of."""

    model: ChatModel
    tools: ToolBox
    speech: SpeechService
    audio: AudioStreams
    batches: BatchParts
    references: ReferenceStyles
    bell: Bell
    clock: Clock
    keys: Credentials


class WorkerKinds:
    """`Kinds`: makes the machine and the performer of each kind of work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._secret = secrets.token_hex(16)

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        """See the port."""
        credential = request.get("credential")
        if isinstance(credential, str) and not self._parts.keys.knows(credential):
            return refusal(run_id, queued.kind, _unknown_credential(credential))
        try:
            match queued.kind:
                case "chat":
                    return self._chat(run_id, ChatRequest.model_validate(request), at)
                case "stt":
                    return self._stt(run_id, SttRequest.model_validate(request), at)
                case "batch":
                    return self._batch(run_id, BatchRequest.model_validate(request), at)
                case "cite":
                    return self._cite(run_id, CiteRequest.model_validate(request), at)
                case _:
                    assert_never(queued.kind)
        except ValidationError as exc:
            return refusal(run_id, queued.kind, bad_request(exc))

    def _chat(self, run_id: str, chat: ChatRequest, at: float) -> tuple[Machine, Performer]:
        parts, cards = self._parts, dict[str, ToolCard]()
        for wanted in chat.tools:
            card = _card(wanted) if isinstance(wanted, ToolSpec) else parts.tools.card(wanted)
            if card is None:
                return refusal(run_id, "chat", _unknown_tool(str(wanted)))
            cards[card.name] = card
        performer = ChatPerformer(run_id, parts.model, parts.tools, parts.bell, parts.clock, random.random)
        return ChatTurn(run_id, chat, cards, at, self._secret), performer

    def _stt(self, run_id: str, request: SttRequest, at: float) -> tuple[Machine, Performer]:
        parts = self._parts
        performer = SttPerformer(run_id, parts.speech, parts.audio, parts.clock, random.random)
        return SttSession(run_id, request, at), performer

    def _batch(self, run_id: str, request: BatchRequest, at: float) -> tuple[Machine, Performer]:
        return BatchSubmission(run_id, request, at), BatchPerformer(run_id, request, self._parts.batches, at)

    def _cite(self, run_id: str, request: CiteRequest, at: float) -> tuple[Machine, Performer]:
        """A cited answer asks the model as a chat does, and calls no tools."""
        parts = self._parts
        performer = ChatPerformer(run_id, parts.model, parts.tools, parts.bell, parts.clock, random.random)
        return CiteAnswer(run_id, request, at, parts.references), performer


@asynccontextmanager
async def worker(settings: Settings, app: Celery, metrics: Metrics) -> AsyncIterator[Services]:
    """Build everything for one worker process, on its loop; take it apart at the end."""
    clock, timing, keys = SystemClock(), settings.timing, _credentials(settings)
    redis = connect(settings.redis_url)
    reading = connect(settings.redis_url, max_connections=1, timeout_s=BLOCK_MS / 1000 + 5.0)
    store = RedisRuns(redis, clock, timing)
    reader = StreamReader(reading, redis, clock)
    probing = connect(settings.redis_url, max_connections=1, timeout_s=CHECK_BOUND_S)
    archive = SqlArchive(settings.database)
    signals = _signals(probing, archive, clock)
    audio = RedisAudio(reader, redis, lambda entry_id: signals.audio_lag.note(lag_of(entry_id, clock.now())))
    model = FireworksChat(settings.base_url, keys)
    bell = CeleryBell(app)
    services = DriverServices(store, RedisInbox(reader, redis), archive, bell, clock, metrics)
    keeper = LeaseKeeper(store, clock, timing)
    speech = FireworksSpeech(settings.audio_streaming_url, keys)
    jobs = FireworksBatch(settings.api_url, settings.account_id, keys)
    rows = SqlBatches(archive.database)
    batches = BatchParts(jobs, rows, _files(settings), clock, random.random, settings.poll_s)
    tools = Registry.load(settings.tools)
    kinds = WorkerKinds(Parts(model, tools, speech, audio, batches, CslReferences(), bell, clock, keys))
    sweeper = Sweeper(store, bell, clock, timing.sweep_s, random.random)
    writer = f"fireworks-workers {version('fireworks-workers')}"
    try:
        store.start()
        reader.start()
        yield Services(
            Reception(services, keeper, kinds, _owner(), writer, settings.most_lives),
            keeper,
            sweeper,
            Poller(jobs, rows, store, sweeper, clock, settings.poll_s),
            store,
            clock,
            signals,
        )
    finally:
        for part in (reader, store, model, jobs, archive):
            await part.close()
        for client in (probing, reading, redis):
            await client.aclose()


def _signals(redis: Redis, archive: SqlArchive, clock: Clock) -> Signals:
    """`redis` is a client of their own: what they tell must not depend on how busy the others are."""

    async def schema() -> str:
        return f"schema {await archive.check()}"

    queues = QueueWatch(RedisQueues(redis), clock)
    return Signals(queues, WorstLately(), {"redis": lambda: answers(redis), "sql": schema})


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


def _unknown_credential(name: str) -> Failure:
    return Failure(
        code="unknown_credential",
        category="authentication",
        message=f"no key is configured for credential {name!r} (FW_CREDENTIALS, FW_CREDENTIALS_DIR)"[:300],
        at_fault="caller",
    )


def _card(spec: ToolSpec) -> ToolCard:
    return ToolCard(
        spec.name, spec.description, spec.parameters, spec.effect, spec.timeout_s, task=spec.task, queue=spec.queue
    )


def _credentials(settings: Settings) -> Credentials:
    return Credentials(settings.api_key, settings.credentials, settings.credentials_dir)


def _files(settings: Settings) -> InputFiles:
    return InputFiles(settings.batch_folder, private_urls=settings.private_urls)


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
