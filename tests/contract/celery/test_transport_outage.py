"""Redis goes away and comes back: no worker ends, no message is lost."""

import os
import signal

import pytest
import redis

from api_contracts import keys
from tests.contract.celery.conftest import Starter, Worker
from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey


def kill(server: EmbeddedValkey) -> None:
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.running)


def alive_and_consuming(worker: Worker, name: str) -> None:
    probe = worker.send("add", 20, 1)
    assert probe.get(within=30) == 21
    assert worker.process.poll() is None


def reconnected(worker: Worker, times: int = 1) -> None:
    """Celery says `Connected to` at the start and after each reconnect."""
    eventually(lambda: worker.log().count("Connected to ") > times, within=40)


@pytest.mark.requirement("RUN-21")
def test_a_redis_that_dies_with_a_message_not_yet_accepted_ends_nothing(
    start_worker: Starter, own_valkey: EmbeddedValkey, redis_url: str, name: str
) -> None:
    """On stock kombu 5.7 the reconnect raises AttributeError out of the channel's close and the worker exits."""
    worker = start_worker(redis_url, broker=own_valkey.url)
    results = [worker.send("accepts_itself", name) for _ in range(2)]
    eventually(lambda: worker.marks(name) == ["leased"] * 2)
    broker = redis.Redis.from_url(own_valkey.url, decode_responses=True)
    assert broker.hlen(keys.UNACKED) == 2
    kill(own_valkey)
    eventually(lambda: "Connection to broker lost" in worker.log())
    own_valkey.restart()
    reconnected(worker)
    assert broker.hlen(keys.UNACKED) == 2
    worker.open(name, 2)
    assert [result.get(within=30) for result in results] == [[False, True]] * 2
    # Accepted after the outage, over a channel that is gone: acknowledged all the same, so nothing comes back.
    eventually(lambda: broker.hlen(keys.UNACKED) == 0)
    alive_and_consuming(worker, name)
    assert worker.marks(name).count("leased") == 2
    assert "Unrecoverable error" not in worker.log()
    broker.close()


@pytest.mark.requirement("RUN-21")
def test_an_accept_while_redis_is_away_is_dropped_quietly(
    start_worker: Starter, own_valkey: EmbeddedValkey, redis_url: str, name: str
) -> None:
    worker = start_worker(redis_url, broker=own_valkey.url)
    result = worker.send("accepts_itself", name)
    eventually(lambda: worker.marks(name) == ["leased"])
    kill(own_valkey)
    eventually(lambda: "Connection to broker lost" in worker.log())
    worker.open(name)
    assert result.get(within=30) == [False, True]
    own_valkey.restart()
    reconnected(worker)
    alive_and_consuming(worker, name)
    assert worker.marks(name).count("leased") == 1


@pytest.mark.requirement("RUN-21")
def test_killed_connections_end_nothing_and_repeat_nothing_that_was_accepted(
    start_worker: Starter, own_valkey: EmbeddedValkey, redis_url: str, name: str
) -> None:
    worker = start_worker(redis_url, broker=own_valkey.url)
    accepted = worker.send("hold", name)
    eventually(lambda: worker.marks(name) == ["started"])
    broker = redis.Redis.from_url(own_valkey.url)
    eventually(lambda: broker.hlen(keys.UNACKED) == 0)
    broker.client_kill_filter(_type="normal", skipme=True)
    broker.client_kill_filter(_type="pubsub", skipme=True)
    reconnected(worker)
    alive_and_consuming(worker, name)
    assert worker.marks(name) == ["started"]
    worker.open(name)
    assert accepted.get() == "held"
    broker.close()


@pytest.mark.requirement("RUN-21", "RUN-10")
def test_what_a_killed_worker_had_fetched_goes_to_another_and_nothing_of_other_services_does(
    start_worker: Starter, own_valkey: EmbeddedValkey, redis_url: str, name: str
) -> None:
    """On Redis nobody else would hear of it. Half a minute is passed here by making the message older."""
    worker = start_worker(redis_url, broker=own_valkey.url)
    result = worker.send("accepts_itself", name)
    eventually(lambda: worker.marks(name) == ["leased"])
    worker.process.kill()
    worker.process.wait()
    with redis.Redis.from_url(own_valkey.url) as broker:
        (entry,) = broker.hgetall(keys.UNACKED).items()
        broker.zadd(f"{keys.UNACKED}:index", {entry[0]: 1})
        broker.hset("unacked", "theirs", entry[1])
        broker.zadd("unacked_index", {"theirs": 1})
        start_worker(redis_url, "-Q", worker.queue, broker=own_valkey.url)
        eventually(lambda: worker.marks(name) == ["leased"] * 2, within=30)
        worker.open(name)
        assert result.get() == [False, True]
        assert broker.hkeys("unacked") == [b"theirs"]


def test_a_connection_loss_cancels_a_late_ack_task_once_and_it_runs_again_once(
    start_worker: Starter, own_valkey: EmbeddedValkey, redis_url: str, name: str
) -> None:
    worker = start_worker(redis_url, broker=own_valkey.url)
    result = worker.send("hold_late_ack", name)
    eventually(lambda: worker.marks(name) == ["started"])
    broker = redis.Redis.from_url(own_valkey.url)
    broker.client_kill_filter(_type="normal", skipme=True)
    reconnected(worker)
    eventually(lambda: worker.marks(name) == ["started", "started"])
    eventually(lambda: worker.stats()["running"] == 1)
    worker.open(name)
    assert result.get() == "held"
    assert worker.marks(name) == ["started", "started", "done"]
    eventually(lambda: broker.hlen(keys.UNACKED) == 0)
    broker.close()


@pytest.mark.requirement("RUN-21")
def test_a_storm_of_cut_connections_under_load_ends_nothing(
    start_worker: Starter, own_valkey: EmbeddedValkey, redis_url: str
) -> None:
    """A message whose BRPOP reply was cut is lost to kombu, about one in a thousand here; runs have their sweeper."""
    worker = start_worker(redis_url, broker=own_valkey.url, concurrency=50)
    sent = []
    with redis.Redis.from_url(own_valkey.url) as broker:
        for _ in range(10):
            for kind in ("normal", "pubsub"):
                broker.client_kill_filter(_type=kind, skipme=True)
            fresh = [worker.send("brief") for _ in range(40)]
            eventually(lambda fresh=fresh: any(each.state == "SUCCESS" for each in fresh), within=30)
            sent += fresh
        eventually(lambda: broker.llen(worker.queue) == 0)
        eventually(lambda: worker.stats()["running"] == 0)
    assert sum(each.state == "SUCCESS" for each in sent) > 0.95 * len(sent)
    alive_and_consuming(worker, "")
    assert "Unrecoverable error" not in worker.log()
