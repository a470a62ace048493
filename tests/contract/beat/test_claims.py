"""One tick, one effect: what the lock alone cannot promise, the claim of the slot does.

Two schedulers in this process stand for two beats that both believe to hold the lock.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redbeat.schedulers import get_redis
from redis import Redis

from api_contracts import keys
from api_contracts.client import Client
from tests.contract.beat.conftest import QUEUE, TICKING
from workers import beat
from workers.beat.scheduler import Scheduler
from workers.beat.slots import tick_of
from workers.cli.embedded import EmbeddedValkey

REQUEST = 'request = { model = "m", messages = [{ role = "user", content = "%s" }] }'
DAILY = "every_s = 86400"
"""So that no test begins in one slot and ends in the next, but at midnight."""
TIDYING = TICKING.replace("every_s = 1", DAILY)
TALKING = f'[[entry]]\nname = "talk"\n{DAILY}\nkind = "chat"\n' + REQUEST % "hello" + "\n"

Make = Callable[[], Scheduler]


@pytest.fixture
def redis(own_valkey: EmbeddedValkey) -> Iterator[Redis]:
    with Redis.from_url(own_valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_valkey: EmbeddedValkey) -> Iterator[Make]:
    monkeypatch.setenv("FW_REDIS_URL", own_valkey.url)
    monkeypatch.setenv("FW_BEAT_FILE", str(tmp_path / "beat.toml"))
    (tmp_path / "beat.toml").write_text(TIDYING + TALKING)
    made: list[Scheduler] = []

    def scheduler() -> Scheduler:
        app = Celery("beats", broker=own_valkey.url, backend="disabled", set_as_current=False)
        app.conf.update(beat.configuration(own_valkey.url) | {"beat_schedule": {}, "timezone": "UTC"})
        made.append(Scheduler(app))
        return made[-1]

    yield scheduler
    for each in made:
        each.close()
        get_redis(each.app).close()
        each.app.close()


def due(scheduler: Scheduler, name: str) -> Any:
    """Return the entry as it stands in Redis, made due."""
    key = f"{keys.BEAT}{name}"
    stored = scheduler.Entry.from_key(key, app=scheduler.app)
    stored.reschedule(scheduler.app.now() - timedelta(days=2))
    return scheduler.Entry.from_key(key, app=scheduler.app)


def steal(thief: Scheduler, redis: Redis) -> None:
    """Have another beat get the lock, as after a pause of the first."""
    redis.delete(keys.BEAT_LOCK)
    assert thief._leads()


@pytest.mark.requirement("OPS-04")
def test_a_tick_is_claimed_once_however_often_it_was_read(make: Make, redis: Redis) -> None:
    only = make()
    only.tick()
    first, second = due(only, "tidy"), None
    second = only.Entry.from_key(first.key, app=only.app)
    assert only._send(first, tick_of(first.schedule, None, only.app.now()))
    assert only._send(second, tick_of(second.schedule, None, only.app.now()))
    assert redis.llen(QUEUE) == 1


@pytest.mark.requirement("OPS-04")
def test_a_beat_that_lost_the_lock_unknowingly_sends_nothing(make: Make, redis: Redis) -> None:
    old, new = make(), make()
    old.tick()
    read = due(old, "tidy")
    steal(new, redis)
    assert old._send(read, tick_of(read.schedule, None, old.app.now())) is False
    assert redis.llen(QUEUE) == 0


@pytest.mark.requirement("OPS-04")
def test_what_was_read_before_a_pause_is_stale_though_the_lock_came_back(make: Make, redis: Redis) -> None:
    old, new = make(), make()
    old.tick()
    read = due(old, "tidy")
    steal(new, redis)
    new.tick()
    assert redis.llen(QUEUE) == 1
    new.close()
    assert old._leads()
    old._send(read, tick_of(read.schedule, None, old.app.now()))
    assert redis.llen(QUEUE) == 1


@pytest.mark.requirement("OPS-04", "RUN-01")
def test_a_run_that_two_beats_submit_for_one_tick_is_one_run(
    make: Make, redis: Redis, own_valkey: EmbeddedValkey
) -> None:
    old, new = make(), make()
    old.tick()
    read = due(old, "talk")
    tick = tick_of(read.schedule, None, old.app.now())
    for each in (old, new):
        each._submit("talk", each._plans["talk"], tick)
    assert len(redis.keys("fw:*:events")) == 1
    with Client(redis_url=own_valkey.url) as client:
        (queued,) = client.events(keys.derived_tick_id("talk", tick.slot))
    assert queued.data["request"]["messages"][0]["content"] == "hello"
    assert queued.data["labels"] == {"beat": "talk"}
    assert "hello" not in "".join(redis.lrange("fireworks.chat", 0, -1))
    assert "hello" not in json.dumps(redis.hgetall(f"{keys.BEAT}talk"))


@pytest.mark.requirement("OPS-04")
def test_a_run_whose_request_changed_between_two_tries_is_not_tried_for_ever(
    make: Make, redis: Redis, tmp_path: Path
) -> None:
    old = make()
    old.tick()
    read = due(old, "talk")
    tick = tick_of(read.schedule, None, old.app.now())
    old._submit("talk", old._plans["talk"], tick)
    (tmp_path / "beat.toml").write_text(TALKING.replace("hello", "good-bye"))
    make()._submit("talk", make()._plans["talk"], tick)
    assert len(redis.keys("fw:*:events")) == 1


def test_an_entry_that_cannot_be_read_is_dropped_and_the_others_tick(make: Make, redis: Redis) -> None:
    only = make()
    only.tick()
    due(only, "tidy")
    redis.hset(f"{keys.BEAT}odd", "definition", '{"__type__": "crontab", "minute": "99"}')
    redis.zadd(f"{keys.BEAT}:schedule", {f"{keys.BEAT}odd": 1})
    only.tick()
    assert redis.llen(QUEUE) == 1
    assert f"{keys.BEAT}odd" not in redis.zrange(f"{keys.BEAT}:schedule", 0, -1)


def test_an_entry_whose_time_changed_begins_from_now(make: Make, redis: Redis, tmp_path: Path) -> None:
    before = make()
    before.tick()
    due(before, "tidy").reschedule(before.app.now() - timedelta(days=2))
    before.close()
    (tmp_path / "beat.toml").write_text(TIDYING.replace(DAILY, 'cron = "0 0 * * *"'))
    make().tick()
    assert redis.llen(QUEUE) == 0
