"""The composition root: the only module that names concrete classes."""

import os
import random
import secrets
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, assert_never

import structlog
from celery import Celery
from pydantic import ValidationError
from redis.asyncio import Redis

from api_contracts.batch import BatchRequest
from api_contracts.chat import ChatRequest, ToolSpec
from api_contracts.citations import CiteRequest
from api_contracts.metering import Budget, Price
from api_contracts.runs import RunQueued
from api_contracts.stt import SttRequest
from api_contracts.stt_files import SttFileRequest
from workers.adapters.celery.bell import CeleryBell
from workers.adapters.celery.queues import CeleryQueues
from workers.adapters.clock import SystemClock
from workers.adapters.credentials import Credentials
from workers.adapters.csl import CslReferences
from workers.adapters.fireworks.batch import FireworksBatch
from workers.adapters.fireworks.chat import FireworksChat
from workers.adapters.fireworks.deadlines import Timeouts
from workers.adapters.fireworks.files import FileTimeouts, FireworksFiles
from workers.adapters.fireworks.speech import FireworksSpeech
from workers.adapters.inputs import InputFiles
from workers.adapters.redis.breakers import RedisBreakers
from workers.adapters.redis.budgets import RedisBudgets
from workers.adapters.redis.clock import RedisClock
from workers.adapters.redis.connection import answers, connect
from workers.adapters.redis.limits import RedisLimiter
from workers.adapters.redis.queues import RedisQueues
from workers.adapters.redis.reader import BLOCK_MS, StreamReader
from workers.adapters.redis.store import RedisRuns
from workers.adapters.redis.streams import RedisAudio, RedisInbox, lag_of
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.batches import SqlBatches
from workers.adapters.sql.conversations import SqlConversations
from workers.adapters.sql.keeping import SqlKeeping
from workers.adapters.tools import Tools
from workers.core.batch.submission import BatchSubmission
from workers.core.chat.cards import CATCH_ALL, ToolCard
from workers.core.chat.form import BadForm
from workers.core.chat.schema import BadSchema
from workers.core.chat.toolset import card_of
from workers.core.chat.turn import ChatTurn
from workers.core.citations.answering import CiteAnswer
from workers.core.citations.references import ReferenceStyles
from workers.core.limits.budgets import purses_of
from workers.core.limits.meters import Lane
from workers.core.runs.frame import Machine
from workers.core.runs.later import NeedsAbsent, check_request
from workers.core.stt.files.transcription import FileTranscription
from workers.core.stt.session import SttSession
from workers.monitor import Ask
from workers.ports import (
    AudioStreams,
    Bell,
    Budgets,
    ChatModel,
    Clock,
    SpeechService,
    StoreUnavailable,
    ToolBox,
    ToolsAway,
    Transcriber,
)
from workers.runners.allowance import Allowance
from workers.runners.batch import BatchParts, BatchPerformer
from workers.runners.chat import ChatPerformer
from workers.runners.chime import INTERVAL_S, Chime
from workers.runners.circuits import Circuits
from workers.runners.drive import DriverServices, Performer
from workers.runners.lacking import Lacking
from workers.runners.leases import LeaseKeeper
from workers.runners.own_tools import OwnTools
from workers.runners.pacing import Pace, Pacer
from workers.runners.polling import Poller
from workers.runners.purging import Purger
from workers.runners.queues import QueueWatch
from workers.runners.reception import Reception, refusal
from workers.runners.refusing import bad_request, credentials_in, refused, unknown_credential, unknown_tool
from workers.runners.stt import SttPerformer
from workers.runners.stt_file import SttFilePerformer
from workers.runners.sweep import Sweeper
from workers.runners.talks import Talks
from workers.settings import Settings
from workers.telemetry import Metrics, WorstLately
from workers.telemetry.health import CHECK_BOUND_S

_log = structlog.get_logger(__name__)


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
    purger: Purger
    store: RedisRuns
    clock: RedisClock
    signals: Signals


@dataclass(frozen=True, slots=True)
class Parts:
    """What the kinds of work are made of."""

    model: ChatModel
    tools: ToolBox
    speech: SpeechService
    audio: AudioStreams
    transcriber: Transcriber
    batches: BatchParts
    references: ReferenceStyles
    bell: Bell
    clock: Clock
    keys: Credentials
    circuits: Circuits
    talks: Talks
    prices: Mapping[str, Price] = field(default_factory=dict)
    pacer: Pacer | None = None
    text_calls: Sequence[str] = ()
    """Models of which a text that is a tool call is taken for one."""
    limits: Mapping[str, Budget] = field(default_factory=dict)
    """The operator's budgets, by name."""
    budgets: Budgets | None = None
    own: OwnTools | None = None
    """The tools of ours that a request may name; None: none."""

    def pace(self, lane: Lane) -> Pace | None:
        """Return how fast a run of this lane may ask; None: as fast as it likes."""
        return None if self.pacer is None else Pace(self.pacer, lane)

    def allowance(self, run_id: str, request: ChatRequest | CiteRequest) -> Allowance | None:
        """Return the budgets that a run is under; None: none."""
        purses = purses_of(self.limits, request.tenant, request.labels)
        if self.budgets is None or not purses:
            return None
        return Allowance(run_id, purses, self.prices, self.budgets, self.clock)


class WorkerKinds:
    """`Kinds`: makes the machine and the performer of each kind of work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._secret = secrets.token_hex(16)
        self._chime = Chime(parts.clock, random.random() * INTERVAL_S)

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        """See the port."""
        if unknown := next((name for name in credentials_in(request) if not self._parts.keys.knows(name)), None):
            return refusal(run_id, queued.kind, unknown_credential(unknown))
        try:
            match queued.kind:
                case "chat":
                    return self._chat(run_id, ChatRequest.model_validate(request), at)
                case "stt":
                    return self._stt(run_id, SttRequest.model_validate(request), at)
                case "stt_file":
                    return self._stt_file(run_id, SttFileRequest.model_validate(request), at)
                case "batch":
                    return self._batch(run_id, BatchRequest.model_validate(request), at)
                case "cite":
                    return self._cite(run_id, CiteRequest.model_validate(request), at)
                case _:
                    assert_never(queued.kind)
        except ValidationError as exc:
            check_request(queued, exc)
            return refusal(run_id, queued.kind, bad_request(exc))
        except ToolsAway as exc:
            raise NeedsAbsent(str(exc)) from exc

    def _chat(self, run_id: str, chat: ChatRequest, at: float) -> tuple[Machine, Performer]:
        parts, cards = self._parts, dict[str, ToolCard]()
        tools = parts.own.of(run_id, chat, parts.tools) if parts.own else parts.tools
        for wanted in chat.tools:
            card = card_of(wanted) if isinstance(wanted, ToolSpec) else tools.card(wanted)
            if card is None:
                return refusal(run_id, "chat", unknown_tool(str(wanted)))
            cards[card.name] = card
        if cards and (other := tools.card(CATCH_ALL)):
            cards[CATCH_ALL] = other
        performer = ChatPerformer(
            run_id, parts.model, tools, parts.bell, parts.clock, random.random, parts.circuits, parts.talks,
            parts.pace(chat.lane), parts.allowance(run_id, chat), self._chime,
        )  # fmt: skip
        try:
            find, prices = partial(_registered, tools), parts.prices
            return ChatTurn(run_id, chat, cards, at, self._secret, prices, parts.text_calls, find), performer
        except BadForm as exc:
            return refusal(run_id, "chat", refused(f"response_format: {exc}"))
        except BadSchema as exc:
            return refusal(run_id, "chat", refused(str(exc)))

    def _stt(self, run_id: str, request: SttRequest, at: float) -> tuple[Machine, Performer]:
        parts = self._parts
        performer = SttPerformer(run_id, parts.speech, parts.audio, parts.clock, random.random)
        return SttSession(run_id, request, at), performer

    def _stt_file(self, run_id: str, request: SttFileRequest, at: float) -> tuple[Machine, Performer]:
        performer = SttFilePerformer(run_id, request, self._parts.transcriber, random.random)
        return FileTranscription(run_id, request, at), performer

    def _batch(self, run_id: str, request: BatchRequest, at: float) -> tuple[Machine, Performer]:
        return BatchSubmission(run_id, request, at), BatchPerformer(run_id, request, self._parts.batches, at)

    def _cite(self, run_id: str, request: CiteRequest, at: float) -> tuple[Machine, Performer]:
        """A cited answer asks the model as a chat does, and calls no tools."""
        parts = self._parts
        performer = ChatPerformer(
            run_id, parts.model, parts.tools, parts.bell, parts.clock, random.random, parts.circuits,
            pace=parts.pace(request.lane), allowance=parts.allowance(run_id, request), chime=self._chime,
        )  # fmt: skip
        return CiteAnswer(run_id, request, at, parts.references), performer


@asynccontextmanager
async def worker(settings: Settings, app: Celery, metrics: Metrics) -> AsyncIterator[Services]:
    """Build everything for one worker process, on its loop; take it apart at the end."""
    timing, keys = settings.timing, _credentials(settings)
    redis = connect(settings.redis_url)
    clock = await _clock(redis)
    reading, probing = _reading(settings)
    store = RedisRuns(redis, SystemClock(), timing)
    reader, archive = StreamReader(reading, redis, SystemClock()), SqlArchive(settings.database)
    signals = _signals(probing, archive, clock)
    audio = RedisAudio(reader, redis, lambda entry_id: signals.audio_lag.note(lag_of(entry_id, clock.now())))
    model, speech, circuits, pacer = _inference(settings, keys, redis, clock)
    files, bell, tools = _transcriber(settings, keys), CeleryBell(app), Tools.load(settings.tools, settings.mcp_file)
    services = DriverServices(store, RedisInbox(reader, redis), archive, bell, clock, metrics)
    keeper, talks = LeaseKeeper(store, clock, timing), _talks(archive, store, clock)
    jobs = FireworksBatch(settings.api_url, settings.account_id, keys)
    rows, keeping = SqlBatches(archive.database), SqlKeeping(archive.database)
    batches = BatchParts(jobs, rows, _files(settings), clock, random.random, settings.poll_s)
    parts = Parts(model, tools, speech, audio, files, batches, CslReferences(), bell, clock, keys, circuits, talks,
                  settings.prices, pacer, settings.text_calls, settings.budgets, RedisBudgets(redis),
                  OwnTools(store, archive, rows, bell, clock))  # fmt: skip
    sweeper = Sweeper(store, bell, clock, timing.sweep_s, random.random, _lacking(redis, app))
    try:
        store.start()
        reader.start()
        await tools.start()
        yield Services(
            Reception(services, keeper, WorkerKinds(parts), _owner(), _writer(), settings.most_lives),
            keeper,
            sweeper,
            Poller(jobs, rows, store, sweeper, clock, settings.poll_s),
            Purger(keeping, store, clock, settings.sql_retention_s, settings.live_ttl_s, metrics.purged),
            store,
            clock,
            signals,
        )
    finally:
        for part in (reader, store, tools, model, files, jobs, archive):
            await part.close()
        for client in (probing, reading, redis):
            await client.aclose()


def _registered(tools: ToolBox, name: str) -> ToolCard | None:
    """Return a tool that settings name. While its server is away it is not there, and the model is told so."""
    try:
        return tools.card(name)
    except ToolsAway:
        return None


def _writer() -> str:
    return f"fireworks-workers {version('fireworks-workers')}"


async def _clock(redis: Redis) -> RedisClock:
    """Return the clock, anchored if Redis answers: a worker starts without it, and serves nothing until it does."""
    clock = RedisClock(redis)
    try:
        await clock.anchor()
    except StoreUnavailable as exc:
        _log.warning("clock.not_anchored", error=str(exc))
    return clock


def _lacking(redis: Redis, app: Celery) -> Lacking:
    return Lacking(RedisQueues(redis), CeleryQueues(app))


def _signals(redis: Redis, archive: SqlArchive, clock: Clock) -> Signals:
    """`redis` is a client of their own: what they tell must not depend on how busy the others are."""

    async def schema() -> str:
        return f"schema {await archive.check()}"

    queues = QueueWatch(RedisQueues(redis), clock)
    return Signals(queues, WorstLately(), {"redis": lambda: answers(redis), "sql": schema})


def _credentials(settings: Settings) -> Credentials:
    return Credentials(settings.api_key, settings.credentials, settings.credentials_dir)


def _files(settings: Settings) -> InputFiles:
    return InputFiles(settings.batch_folder, private_urls=settings.private_urls)


def _reading(settings: Settings) -> tuple[Redis, Redis]:
    """Return clients of their own for the one blocking reader, and for probes."""
    waits = (BLOCK_MS / 1000 + 5.0, CHECK_BOUND_S)
    reading, probing = (connect(settings.redis_url, max_connections=1, timeout_s=each) for each in waits)
    return reading, probing


def _talks(archive: SqlArchive, store: RedisRuns, clock: Clock) -> Talks:
    return Talks(SqlConversations(archive.database), store.known, clock)


def _inference(
    settings: Settings, keys: Credentials, redis: Redis, clock: Clock
) -> tuple[FireworksChat, FireworksSpeech, Circuits, Pacer | None]:
    """Return what asks the provider, and what is asked before it."""
    pacer = Pacer(RedisLimiter(redis), clock, settings.limits) if settings.limiter else None
    heard: dict[str, Any] = {"heard": pacer.heard} if pacer else {}
    chat = FireworksChat(settings.base_url, keys, timeouts=timeouts_of(settings), **heard)
    speech = FireworksSpeech(settings.audio_streaming_url, keys)
    return chat, speech, Circuits(RedisBreakers(redis), clock), pacer


def _transcriber(settings: Settings, keys: Credentials) -> FireworksFiles:
    times = FileTimeouts(connect_s=settings.provider_connect_s, total_s=settings.provider_file_s)
    return FireworksFiles(
        {"whisper-v3": settings.audio_url, "whisper-v3-turbo": settings.audio_turbo_url}, keys, timeouts=times
    )


def timeouts_of(settings: Settings) -> Timeouts:
    """Return the deadlines of one answer."""
    return Timeouts(
        connect_s=settings.provider_connect_s,
        first_token_s=settings.provider_first_token_s,
        gap_s=settings.provider_gap_s,
        total_s=settings.provider_total_s,
    )


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
