"""Tools of ours that a request may name (TOOL-21): a model submits a batch, reads its rows, reads a transcript.

They know what belongs to the run's tenant and nothing else: of what is another's they say that it is not there. What
they return is bounded, and says where to go on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api_contracts import keys
from api_contracts.batch import BatchRequest
from api_contracts.batch_rows import RowResult
from api_contracts.chat import ChatRequest, Effect
from api_contracts.client.scripts import digest_of, spill
from api_contracts.names import Kind
from api_contracts.runs import Event, RunQueued
from workers.core.chat.cards import ToolCard
from workers.core.text import filterable
from workers.ports import (
    Archive,
    Bell,
    Clock,
    KeysDamaged,
    Reconciled,
    RowStore,
    RunStore,
    StoreUnavailable,
    ToolBox,
    ToolOutcome,
)
from workers.runners.intake import queued_in

_log = structlog.get_logger(__name__)

SUBMIT: Final = "fw_submit_batch"
ROWS: Final = "fw_read_batch"
TRANSCRIPT: Final = "fw_read_transcript"
PARENT: Final = "parent_run"
"""The label of a batch that says which run submitted it."""

_MOST_LABELS: Final = 32
_MOST_BYTES: Final = 48 * 1024
"""Of a page of rows, but for a single one."""
_MOST_TEXT: Final = 4000
"""Characters of one row's answer."""
_AGAIN_S: Final = 1.0
"""Between tries to submit while Redis is away; the call's own deadline bounds them."""
_AWAY: Final = "It cannot be read at present. Try again later."
_NO_MODEL: Final = "No batch can be submitted here: the request names no model."


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubmitBatch(_Given):
    """Submit prompts that are answered later, each by itself, and cheaper. Read the answers with fw_read_batch."""

    prompts: list[Annotated[str, StringConstraints(min_length=1, max_length=32_000)]] = Field(
        min_length=1, max_length=1000, description="One row each, numbered from 1."
    )
    system_prompt: Annotated[str, StringConstraints(min_length=1, max_length=32_000)] | None = Field(
        default=None, description="Instructions for all of them."
    )


class ReadBatch(_Given):
    """Read what became of a batch that was submitted before: its status and some of its rows."""

    batch: str = Field(max_length=200, description="The id that fw_submit_batch returned.")
    after: int = Field(default=0, ge=0, description="Rows after this number: 'next' of the page before.")
    limit: int = Field(default=20, ge=1, le=50)


class ReadTranscript(_Given):
    """Read what was said in a speech session so far, also while it goes on."""

    session: str = Field(max_length=200, description="The id of the session.")
    offset: int = Field(default=0, ge=0, description="In characters: 'next' of the part before.")
    limit: int = Field(default=4000, ge=1, le=8000)


_ASKED: Final[dict[str, type[_Given]]] = {SUBMIT: SubmitBatch, ROWS: ReadBatch, TRANSCRIPT: ReadTranscript}


def _card(name: str, effect: Effect) -> ToolCard:
    schema = _ASKED[name].model_json_schema()
    return ToolCard(name, str(schema.pop("description")), schema, effect)


CARDS: Final[Mapping[str, ToolCard]] = {
    SUBMIT: _card(SUBMIT, "keyed"), ROWS: _card(ROWS, "pure"), TRANSCRIPT: _card(TRANSCRIPT, "pure"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run of the tenant: how it stands, and what there is of it."""

    status: str
    events: list[Event]
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class OwnTools:
    """What they work with."""

    store: RunStore
    archive: Archive
    rows: RowStore
    bell: Bell
    clock: Clock

    def of(self, run_id: str, request: ChatRequest, others: ToolBox) -> ToolBox:
        """Return the tools of a run: ours before the others."""
        return _OfRun(self, run_id, request, others)


class _OfRun:
    """`ToolBox` of one run. Ours act for its tenant."""

    def __init__(self, parts: OwnTools, run_id: str, request: ChatRequest, others: ToolBox) -> None:
        self._parts = parts
        self._run_id = run_id
        self._request = request
        self._others = others

    def card(self, name: str) -> ToolCard | None:
        """See the port."""
        return CARDS.get(name) or self._others.card(name)

    async def reconcile(self, name: str, arguments: Mapping[str, Any], *, key: str) -> Reconciled:
        """See the port. None of ours is asked: each may be repeated."""
        return await self._others.reconcile(name, arguments, key=key)

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See the port."""
        if name not in CARDS:
            return await self._others.run(name, arguments, key=key)
        try:
            match _ASKED[name].model_validate(dict(arguments)):
                case SubmitBatch() as asked:
                    return await self._submit(asked, key)
                case ReadBatch() as asked:
                    return await self._read_rows(asked)
                case ReadTranscript() as asked:
                    return await self._read_transcript(asked)
                case asked:
                    raise TypeError(f"{name} takes no {type(asked).__name__}")
        except ValidationError as exc:
            why = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()[:8])
            return ToolOutcome(ok=False, content=why, code="invalid_arguments")
        except (StoreUnavailable, KeysDamaged) as exc:
            return ToolOutcome(ok=False, content=_AWAY, detail=f"{type(exc).__name__}: {exc}")

    # -- submitting ------------------------------------------------------------------------------------------------

    async def _submit(self, asked: SubmitBatch, key: str) -> ToolOutcome:
        """Submit under an id that follows from the call's key: however often it is made, there is one batch."""
        if not self._request.model:
            return ToolOutcome(ok=False, content=_NO_MODEL, detail="the model is that of the conversation's settings")
        wanted = self._wanted(asked, key)
        run_id = keys.derived_run_id(wanted.tenant, str(wanted.idempotency_key))
        plain = wanted.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        queued, blob = spill(
            RunQueued(
                kind="batch", digest=digest_of(plain), writer=f"chat {self._run_id}", tenant=wanted.tenant,
                labels=wanted.labels, lane=wanted.lane, idempotency_key=wanted.idempotency_key, request=plain,
            )
        )  # fmt: skip
        while True:
            try:
                await self._parts.store.submit(run_id, queued, blob)
                break
            except StoreUnavailable:
                await self._parts.clock.sleep_until(self._parts.clock.now() + _AGAIN_S)
        try:
            await self._parts.bell.ring(run_id, None, queued)
        except StoreUnavailable as exc:  # it is recorded: the sweeper rings for it
            _log.warning("own_tools.not_rung", run_id=run_id, error=str(exc))
        return _said({"batch": run_id, "rows": len(asked.prompts)})

    def _wanted(self, asked: SubmitBatch, key: str) -> BatchRequest:
        rows = [
            {"custom_id": f"prompt-{number}", "body": {"messages": [{"role": "user", "content": prompt}]}}
            for number, prompt in enumerate(asked.prompts, 1)
        ]
        own = list(self._request.labels.items())[: _MOST_LABELS - 1]
        given = {
            "model": self._request.model, "rows": rows, "tenant": self._request.tenant, "lane": self._request.lane,
            "labels": {**dict(own), PARENT: self._run_id}, "idempotency_key": f"tool:{key}",
        }  # fmt: skip
        more = {"system_prompt": asked.system_prompt, "credential": self._request.credential}
        return BatchRequest.model_validate(given | {name: value for name, value in more.items() if value is not None})

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _seen(self, run_id: str, kind: Kind) -> _Seen | None:
        """Return a run of this tenant and kind; None for every other, whether there is one or not."""
        try:
            keys.check_run_id(run_id)
        except ValueError:
            return None
        events = await self._parts.store.read(run_id)
        if (queued := queued_in(events)) is not None:
            end = events[-1]
            status = end.type.removeprefix("run.") if end.terminal else "live"
            return _Seen(status, events) if self._is_ours(queued.kind, queued.tenant, kind) else None
        record = await self._parts.archive.load(run_id)
        if record is None or not self._is_ours(record.kind, record.tenant, kind):
            return None
        return _Seen(record.status, [], record.result)

    def _is_ours(self, found: str, tenant: str, kind: Kind) -> bool:
        return found == kind and filterable(tenant) == filterable(self._request.tenant)

    async def _read_rows(self, asked: ReadBatch) -> ToolOutcome:
        seen = await self._seen(asked.batch, "batch")
        if seen is None:
            return ToolOutcome(ok=False, content="There is no such batch.")
        found = await self._parts.rows.page(asked.batch, asked.after, asked.limit + 1)
        shown: list[dict[str, Any]] = []
        size = 0
        for row in found[: asked.limit]:
            line = _shown(row)
            size += len(json.dumps(line, ensure_ascii=False).encode(errors="replace"))
            if shown and size > _MOST_BYTES:
                break
            shown.append(line)
        more = {"next": shown[-1]["row"]} if len(shown) < len(found) else {}
        return _said({"status": seen.status, "rows": shown} | more)

    async def _read_transcript(self, asked: ReadTranscript) -> ToolOutcome:
        seen = await self._seen(asked.session, "stt")
        if seen is None:
            return ToolOutcome(ok=False, content="There is no such session.")
        text, interim = _heard(seen.events) if seen.events else (str((seen.result or {}).get("text") or ""), "")
        part = text[asked.offset : asked.offset + asked.limit]
        end = min(asked.offset, len(text)) + len(part)
        told: dict[str, Any] = {"status": seen.status, "text": part, "next": end, "characters": len(text)}
        if seen.status == "live" and end == len(text) and interim:
            told["not_final"] = interim[:_MOST_TEXT]
        return _said(told)


def _said(value: Mapping[str, Any]) -> ToolOutcome:
    return ToolOutcome(ok=True, content=json.dumps(value, ensure_ascii=False))


def _shown(row: RowResult) -> dict[str, Any]:
    shown: dict[str, Any] = {"row": row.number, "state": row.state}
    text = _text_of(row.response)
    if text is not None:
        shown["text"] = text[:_MOST_TEXT]
    if text is not None and len(text) > _MOST_TEXT:
        shown["cut"] = True
    if row.fault is not None:
        shown["error"] = f"{row.fault.code}: {row.fault.message}"[:300]
    return shown


def _text_of(response: Mapping[str, Any] | None) -> str | None:
    """Return the text of a completion of the provider, whatever else that holds (WIRE 1.5)."""
    match response:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
        case _:
            return None


def _heard(events: list[Event]) -> tuple[str, str]:
    """Return what is final, and what was heard beyond it, in a session's journal."""
    text, interim = "", ""
    for event in events:
        match event.type:
            case "stt.final":
                text += str(event.data["text"]) if event.data.get("glued") else f" {event.data['text']}"
                interim = ""
            case "stt.interim":
                interim = str(event.data["text"])
            case "stt.retracted" | "stt.connected" | "run.resumed":
                interim = ""
            case _:
                pass
    return text.strip(), interim
