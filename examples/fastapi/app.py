"""FastAPI: a route that enqueues a chat, and one that streams its events as server-sent events.

FW_REDIS_URL=redis://localhost:6379/0 uvicorn examples.fastapi.app:app
curl -H 'Content-Type: application/json' -d '{"text": "Hello"}' localhost:8000/chats     # {"run_id": "..."}
curl -N localhost:8000/chats/RUN_ID/events
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api_contracts.client import AsyncClient
from api_contracts.failure import RunNotFound
from api_contracts.keys import BadRunId

Key = Annotated[str | None, Header()]
MODEL = os.environ.get("FW_MODEL", "accounts/fireworks/models/<model>")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the process: it reads FW_REDIS_URL, FW_BROKER_URL, FW_SIGNING_KEYS."""
    async with AsyncClient() as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    """`{"text": "..."}`."""

    text: str


@app.post("/chats", status_code=202)
async def submit(question: Question, request: Request, idempotency_key: Key = None) -> dict[str, str]:
    """Record and ring; the same Idempotency-Key is the same run, however often the caller retries."""
    messages, chat = [{"role": "user", "content": question.text}], request.app.state.client.chat
    return {"run_id": await chat.submit(model=MODEL, messages=messages, idempotency_key=idempotency_key)}


@app.get("/chats/{run_id}/events")
async def events(run_id: str, request: Request, last_event_id: Annotated[int, Header()] = 0) -> StreamingResponse:
    """Stream the journal; after a lost connection the browser says in Last-Event-ID where to go on."""
    return StreamingResponse(_stream(request.app.state.client, run_id, last_event_id), media_type="text/event-stream")


async def _stream(client: AsyncClient, run_id: str, after: int) -> AsyncIterator[str]:
    try:
        async for event in client.follow(run_id, after):
            yield f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(event.data)}\n\n"
    except (RunNotFound, BadRunId):
        yield "event: error\ndata: no such run\n\n"
