"""Erasing a tenant or a conversation, from a real Redis and both databases: nothing of it is left, all else is."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from api_contracts import keys
from api_contracts.batch_rows import RowFault
from api_contracts.chat import CallReserved
from api_contracts.client.scripts import REQUEST_BLOB, RESULT_BLOB
from api_contracts.keys import new_run_id
from api_contracts.runs import RunCompleted, RunQueued, RunStarted
from tests.servers import embedded_valkey
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.erasing import RedisTrails
from workers.adapters.redis.store import RedisRuns
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.batches import SqlBatches
from workers.adapters.sql.conversations import SqlConversations
from workers.adapters.sql.erasing import SqlRemains
from workers.adapters.sql.keeping import SqlKeeping
from workers.adapters.sql.migrate import migrate
from workers.adapters.sql.tables import metadata
from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened
from workers.ports import Begun, Granted, NewRow, RunRecord, Whose
from workers.runners.erasing import Erased, Eraser
from workers.settings import Timing

pytestmark = [pytest.mark.long, pytest.mark.requirement("OPS-16")]


class Place:
    """A Redis of its own and a database, with what runs leave there."""

    def __init__(self, redis: Redis, archive: SqlArchive) -> None:
        self.redis = redis
        self.archive = archive
        self.store = RedisRuns(redis, SystemClock(), Timing(live_ttl_s=900))
        database = archive.database
        self.talks, self.rows = SqlConversations(database), SqlBatches(database)
        self.cancelled: list[str] = []
        self.eraser = Eraser(
            RedisTrails(redis), SqlRemains(database), SqlKeeping(database), SystemClock(), self.cancelled.append
        )

    async def live(self, tenant: str, conversation: str | None, secret: str) -> str:
        """Have a run that has begun, with a secret wherever there is room for one."""
        run_id = new_run_id()
        asked = {"messages": [{"role": "user", "content": secret}]}
        queued = RunQueued(kind="chat", digest="d", tenant=tenant, conversation=conversation, request=asked)
        assert await self.store.submit(run_id, queued, None) == "created"
        return run_id

    async def ended(self, tenant: str, conversation: str | None, secret: str) -> str:
        """Have a run to its end, with everything that can be kept of one."""
        run_id, task_id = await self.live(tenant, conversation, secret), new_run_id()
        granted = await self.store.acquire(run_id, "ann", "{}")
        assert isinstance(granted, Granted)
        reserved = CallReserved(
            call_id="1.0", provider_id="p", name="look", arguments=json.dumps({"q": secret}), effect="keyed",
            where="task", task_id=task_id, deadline_at=9.0,
        )  # fmt: skip
        result = {"message": {"content": secret}}
        begun = [RunStarted(owner="ann"), reserved]
        seq = await self.store.append(granted.lease, granted.seq, begun)
        await self.archive.note(Begun(new_run_id(), "chat", tenant, {}, 1.0, secret))
        await self._archive(run_id, tenant, conversation, result)
        await self.store.append(granted.lease, seq, [RunCompleted(result=result)], terminal="completed")
        await self.store.announced(run_id)
        await self.store.signal(run_id, "cancel", {"reason": secret}, "s")
        for number in (REQUEST_BLOB, RESULT_BLOB):
            await self.store.put_blob(run_id, number, secret)
        await self.redis.set(keys.celery_result(run_id), secret)
        await self.redis.hset(keys.guard(task_id), "result", secret)  # type: ignore[misc]
        await self._bury(tenant, conversation, secret)
        return run_id

    async def _archive(self, run_id: str, tenant: str, conversation: str | None, result: dict[str, Any]) -> None:
        record = RunRecord(run_id, "chat", "completed", 1, tenant, {}, result, 1.0, 2.0, None, conversation)
        await self.rows.restart(run_id, 1)
        body = json.dumps(result).encode()
        fault = RowFault(code="bad", message="no")
        await self.rows.add(run_id, 1, [NewRow(1, "a", 1, 9, body), NewRow(2, "b", body=body, fault=fault)])
        if conversation is None:
            await self.archive.save(record)
            return
        key, holder = ConversationKey(tenant, conversation), Holder(run_id, 1.0, 1)
        opened = await self.talks.open(key, holder)
        assert isinstance(opened, Opened)
        commit = Commit(key, holder, opened.version, "turn", [result["message"]], settings={"system": str(result)})
        assert await self.archive.save(record, commit) == "saved"

    async def _bury(self, tenant: str, conversation: str | None, secret: str) -> None:
        request = {"tenant": tenant, "messages": secret} | ({"conversation": conversation} if conversation else {})
        body = base64.b64encode(json.dumps([[], {"request": request}, {}]).encode()).decode()
        for entry in (json.dumps({"body": body}), json.dumps(request, separators=(",", ":"))):
            await self.redis.lpush(keys.DEAD_LETTERS, json.dumps({"code": "rejected", "entry": entry}))  # type: ignore[misc]

    async def everything(self) -> str:
        """Return all that there is, as text."""
        found: list[Any] = []
        async for key in self.redis.scan_iter(count=1000):
            match await self.redis.type(key):
                case b"string":
                    found.append((key, await self.redis.get(key)))
                case b"hash":
                    found.append((key, await self.redis.hgetall(key)))  # type: ignore[misc]
                case b"stream":
                    found.append((key, await self.redis.xrange(key)))
                case b"zset":
                    found.append((key, await self.redis.zrange(key, 0, -1)))
                case b"list":
                    letters = await self.redis.lrange(key, 0, -1)  # type: ignore[misc]
                    found.append((key, [_unfolded(json.loads(each)["entry"]) for each in letters]))
        for table in metadata.tables.values():
            found += await self.archive.database.read(lambda each, table=table: each.execute(select(table)).all())
        return "\n".join(map(str, found))


def _unfolded(entry: str) -> str:
    found = json.loads(entry)
    return str(base64.b64decode(found["body"])) if "body" in found else entry


@pytest.fixture
async def place(empty_database: str, tmp_path: Path) -> AsyncIterator[Place]:
    migrate(empty_database)
    with embedded_valkey(tmp_path / "valkey") as valkey:
        redis, archive = connect(valkey.url), SqlArchive(empty_database)
        place = Place(redis, archive)
        place.store.start()
        yield place
        await place.store.close()
        await archive.close()
        await redis.flushall()
        await redis.aclose()


async def test_of_a_tenant_nothing_is_left_and_of_others_everything(place: Place) -> None:
    for conversation in ("talk-1", "talk-2", None):
        await place.ended("acme", conversation, "acme-secret")
        await place.ended("other", conversation, "others-word")
    erased = await place.eraser.erase(Whose("acme"), 1.0)
    left = await place.everything()
    assert (erased.runs, erased.rows, erased.conversations, erased.letters, erased.alive) == (3, 6, 2, 6, ())
    assert "acme" not in left
    assert left.count("others-word") >= 3 * 9
    assert "talk-1" in left
    assert await place.eraser.erase(Whose("acme"), 1.0) == Erased(), "nothing is found again"
    assert place.cancelled == []


async def test_of_a_conversation_nothing_is_left_and_of_the_tenants_others_everything(place: Place) -> None:
    mine = [await place.ended("acme", "talk-1", "secret-one") for _ in range(2)]
    other = await place.ended("acme", "talk-2", "word-two")
    erased = await place.eraser.erase(Whose("acme", "talk-1"), 1.0)
    left = await place.everything()
    assert (erased.runs, erased.conversations) == (2, 1)
    # What says whose a run is that has begun is a label and a key of the caller's, and knows of no conversation.
    assert "talk-1" not in left
    assert not any(run_id in left for run_id in mine)
    assert other in left
    assert left.count("word-two") >= 9


async def test_a_run_that_lives_is_cancelled_and_while_it_lives_nothing_is_erased(place: Place) -> None:
    live, ended = await place.live("acme", None, "s"), await place.ended("acme", None, "secret")
    erased = await place.eraser.erase(Whose("acme"), 0.6)
    assert erased == Erased(alive=(live,))
    assert place.cancelled == [live]
    assert ended in await place.everything()
    granted = await place.store.acquire(live, "bob", "{}")
    assert isinstance(granted, Granted)
    await place.store.append(granted.lease, granted.seq, [RunCompleted(result={})], terminal="cancelled")
    assert (await place.eraser.erase(Whose("acme"), 0.6)).alive == (live,), "Celery will be told yet, and keep it"
    await place.store.announced(live)
    erased = await place.eraser.erase(Whose("acme"), 0.6)
    assert erased.alive == ()
    assert "acme" not in await place.everything()


async def test_names_with_quotes_and_a_conversation_whose_row_is_lost(place: Place) -> None:
    odd = "a\"c'\\me ключ"
    await place.ended(odd, "talk-1", "secret")
    await place.archive.database.write(
        lambda connection: connection.execute(metadata.tables["fw_conversations"].delete())
    )
    assert (await place.eraser.erase(Whose(odd), 1.0)).conversations == 1
    assert "secret" not in await place.everything()


@pytest.mark.parametrize("key", ["fw:{a}:other:events", "fw:{?}:x:events", "fw:{a}:b c:events"])
def test_a_strangers_key_is_no_journal(key: str) -> None:
    assert keys.run_of(key) is None
