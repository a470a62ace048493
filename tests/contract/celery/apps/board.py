"""How a task's body and its test talk: marks that the body leaves in Redis, gates that the test opens there."""

import os
from typing import Any

import redis
import redis.asyncio
from celery import Celery

from tests.contract.celery.apps.settings import RESULTS
from workers.pool import hooks_of

TTL_S = 300


class Board:
    """Used from the pool's loop, and from threads by the `_sync` names. Every key expires."""

    def __init__(self, app: Celery) -> None:
        self._sync = redis.Redis.from_url(os.environ[RESULTS], decode_responses=True, socket_timeout=None)
        self._client: redis.asyncio.Redis | None = None
        hooks_of(app).on_start.append(self._open)
        hooks_of(app).on_stop.append(self._close)

    async def _open(self) -> None:
        # A gate blocks its connection for as long as the test wants.
        self._client = redis.asyncio.Redis.from_url(
            os.environ[RESULTS], decode_responses=True, socket_timeout=None, max_connections=500
        )

    async def _close(self) -> None:
        assert self._client is not None
        await self._client.aclose()

    @property
    def client(self) -> redis.asyncio.Redis:
        assert self._client is not None, "the pool's start hook did not run"
        return self._client

    async def mark(self, name: str, what: Any) -> int:
        """Leave a mark; return how many there are now."""
        count = await self.client.rpush(f"marks:{name}", what)
        await self.client.expire(f"marks:{name}", TTL_S)
        return int(count)

    async def gate(self, name: str) -> None:
        """Wait until the test opens the gate."""
        await self.client.blpop([f"gate:{name}"], timeout=0)

    def mark_sync(self, name: str, what: Any) -> int:
        count = self._sync.rpush(f"marks:{name}", what)
        self._sync.expire(f"marks:{name}", TTL_S)
        return int(count)

    def gate_sync(self, name: str) -> None:
        self._sync.blpop([f"gate:{name}"], timeout=0)
