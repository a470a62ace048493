"""What killed processes have bound to Celery's own exchanges goes, though others live."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
import redis
from celery import Celery

from api_contracts import keys
from tests.contract.celery.conftest import ROOT, Starter
from tests.waiting import eventually
from workers import transport
from workers.cli.embedded import EmbeddedValkey

KILLED = 20
SETS = ("celery.pidbox", "celeryev", "reply.celery.pidbox")


@pytest.fixture
def server(own_valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as client:
        yield client


def leave(url: str, count: int = KILLED) -> None:
    """Have so many processes bind and be killed."""
    argv = (sys.executable, "-m", "tests.contract.celery.apps.leaving", url, str(count))
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == count, done.stderr


def bound(server: redis.Redis) -> dict[str, int]:
    return {name: int(str(server.scard(f"_kombu.binding.{name}"))) for name in SETS}


def an_hour_passes(server: redis.Redis) -> None:
    """For all that was bound so far."""
    for binding, at in server.zrange(keys.BINDINGS, 0, -1, withscores=True):
        server.zadd(keys.BINDINGS, {binding: at - 3_601_000})


def listening(url: str) -> tuple[kombu.Connection, Any]:
    """Be a worker that lives: its connection, and its channel."""
    transport.install()
    app = Celery("staying", broker=url, set_as_current=False)
    connection = app.connection_for_read()
    channel = connection.channel()
    app.control.mailbox.Node("staying@here", channel=channel).listen(callback=lambda *_: None)
    return connection, channel


@pytest.mark.requirement("RUN-11")
def test_what_twenty_killed_processes_bound_is_forgotten_and_a_living_one_keeps_its_own(
    own_valkey: EmbeddedValkey, server: redis.Redis
) -> None:
    leave(own_valkey.url)
    assert bound(server) == {"celery.pidbox": KILLED, "celeryev": KILLED, "reply.celery.pidbox": KILLED}
    connection, channel = listening(own_valkey.url)
    with connection:
        channel.sweep_bindings()
        assert bound(server)["celery.pidbox"] == KILLED + 1, "nobody is forgotten before the hour"
        an_hour_passes(server)
        channel._refresh_bindings(["staying@here.celery.pidbox"])
        channel.sweep_bindings()
        assert bound(server) == {"celery.pidbox": 1, "celeryev": 0, "reply.celery.pidbox": 0}
        assert server.zcard(keys.BINDINGS) == 1
    assert bound(server)["celery.pidbox"] == 0
    assert server.zcard(keys.BINDINGS) == 0


@pytest.mark.requirement("RUN-11")
def test_one_that_was_forgotten_while_it_stood_still_binds_again(
    own_valkey: EmbeddedValkey, server: redis.Redis
) -> None:
    connection, channel = listening(own_valkey.url)
    other, sweeping = listening(own_valkey.url)
    with connection, other:
        an_hour_passes(server)
        sweeping.sweep_bindings()
        assert bound(server)["celery.pidbox"] == 0
        channel._refresh_bindings(["staying@here.celery.pidbox"])
        assert bound(server)["celery.pidbox"] == 1


@pytest.mark.requirement("RUN-11")
def test_a_worker_forgets_by_itself_and_still_answers(
    start_worker: Starter, own_valkey: EmbeddedValkey, server: redis.Redis, redis_url: str
) -> None:
    """kombu's loop sweeps once a minute, and when it begins."""
    leave(own_valkey.url)
    an_hour_passes(server)
    worker = start_worker(redis_url, broker=own_valkey.url)
    eventually(lambda: bound(server)["celery.pidbox"] == 1, within=30)
    assert worker.stats()


@pytest.mark.requirement("RUN-11")
def test_replies_to_an_asker_that_died_do_not_stay(own_valkey: EmbeddedValkey, server: redis.Redis) -> None:
    leave(own_valkey.url, 1)
    ((member,),) = [server.smembers("_kombu.binding.reply.celery.pidbox")]
    asker, _, queue = member.split("\x06\x16")
    connection, channel = listening(own_valkey.url)
    with connection:
        kombu.Producer(channel).publish({"pong": 1}, exchange="reply.celery.pidbox", routing_key=asker)
        assert server.llen(queue) == 1
        assert 0 < server.pttl(queue) <= 60_000
