"""Two beats tick once, whatever becomes of one of them, of Redis or of the broker."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kombu import Connection
from redis import Redis

from api_contracts import keys
from tests.acceptance.cluster import Process
from tests.acceptance.monitoring import asked, lives, port_of
from tests.contract.beat.conftest import Beats
from tests.contract.beat.tls import tls_before
from tests.servers import embedded_valkey, kill
from tests.waiting import eventually
from workers.beat import CONNECT_S, LOCK_S, PASS_S, WAIT_S
from workers.cli.embedded import EmbeddedValkey


def are_ticks_of_tidy(ids: list[str], beats: Beats) -> bool:
    """Whether each message is of a slot of its own: the id is made of it."""
    now: int = beats.redis.time()[0]
    slots = {keys.derived_tick_id("tidy", now - ago) for ago in range(300)}
    return len(set(ids)) == len(ids) and set(ids) <= slots


@pytest.mark.requirement("OPS-04")
def test_two_beats_tick_once_and_the_other_goes_on_when_one_is_stopped(beats: Beats) -> None:
    first, second = beats.both()
    assert are_ticks_of_tidy(beats.more(3), beats)
    assert f":{first.pid}:" in next(line for line in second.log().splitlines() if "beat.waiting" in line)
    assert "beat.sent" not in second.log()
    assert first.stop(within=10) == 0
    second.ready("beat.leads")
    assert are_ticks_of_tidy(beats.more(2), beats)
    assert second.stop(within=10) == 0
    assert beats.redis.exists(keys.BEAT_LOCK) == 0


@pytest.mark.requirement("OPS-04")
def test_a_killed_beat_is_replaced_within_half_a_minute(beats: Beats) -> None:
    first, second = beats.both()
    beats.more(1)
    first.kill()
    left_ms = beats.redis.pttl(keys.BEAT_LOCK)
    assert 0 < left_ms <= LOCK_S * 1000
    assert LOCK_S + WAIT_S + CONNECT_S <= 30
    assert PASS_S + 2 * CONNECT_S < LOCK_S
    eventually(lambda: second.says("beat.leads"), within=30)
    assert are_ticks_of_tidy(beats.more(2), beats)


def readiness(beat: Process) -> tuple[int, str]:
    """Return the status of `/ready`, and what it says."""
    status, text = asked(beat, "/ready")
    return status, json.loads(text)["checks"]["redis"]["says"]


@pytest.mark.requirement("OPS-08")
def test_each_beat_tells_that_it_lives_and_whether_it_ticks_waits_or_cannot(
    beats: Beats, own_valkey: EmbeddedValkey
) -> None:
    first = beats.start("one", FW_MONITOR_PORT="0").ready("beat.leads")
    second = beats.start("two", FW_MONITOR_PORT="0").ready("beat.waiting")
    eventually(lambda: readiness(first) == (200, "ticks"))
    eventually(lambda: f":{first.pid}:" in readiness(second)[1])
    assert readiness(second)[0] == 200
    kill(own_valkey)
    for beat in (first, second):
        eventually(lambda beat=beat: readiness(beat)[0] == 503, within=30)
        assert lives(beat)
    own_valkey.restart()
    eventually(lambda: readiness(first)[0] == readiness(second)[0] == 200, within=30)


@pytest.mark.requirement("OPS-08")
def test_a_beat_whose_port_is_taken_says_so_and_ends(beats: Beats) -> None:
    first = beats.start("one", FW_MONITOR_PORT="0").ready("beat.leads")
    port = str(port_of(first))
    second = beats.start("two", FW_MONITOR_PORT=port)
    assert second.popen.wait(timeout=120) == 1
    assert f"FW_MONITOR_PORT: cannot listen on 127.0.0.1:{port}" in second.log()


@pytest.mark.requirement("OPS-04")
def test_a_beat_that_was_paused_past_its_lock_lives_and_waits(beats: Beats) -> None:
    first, second = beats.both()
    beats.more(1)
    first.pause()
    beats.redis.pexpire(keys.BEAT_LOCK, 1)
    second.ready("beat.leads")
    beats.more(2)
    first.go_on()
    first.ready("beat.lock_lost").ready("beat.waiting")
    assert are_ticks_of_tidy(beats.more(3), beats)
    second.kill()
    beats.redis.pexpire(keys.BEAT_LOCK, 1)
    eventually(lambda: first.log().count("beat.leads") == 2)
    assert are_ticks_of_tidy(beats.more(1), beats)


@pytest.mark.requirement("OPS-04")
@pytest.mark.parametrize("what", ["waits for the lock", "waits for Redis"])
def test_a_beat_that_waits_stops_at_once(beats: Beats, own_valkey: EmbeddedValkey, what: str) -> None:
    _, waiting = beats.both()
    if what == "waits for Redis":
        kill(own_valkey)
        waiting.ready("beat.redis_away")
    assert waiting.stop(within=CONNECT_S + 2) == 0


@pytest.mark.requirement("OPS-04")
def test_beats_survive_a_redis_that_dies_and_tick_once_after_it(beats: Beats, own_valkey: EmbeddedValkey) -> None:
    first, second = beats.both()
    beats.more(2)
    kill(own_valkey)
    for process in (first, second):
        process.ready("beat.redis_away")
    own_valkey.restart()
    assert are_ticks_of_tidy(beats.more(3, within=LOCK_S + 20), beats)
    assert first.lives
    assert second.lives


@pytest.mark.requirement("OPS-04")
def test_a_wiped_redis_is_filled_again(beats: Beats) -> None:
    only = beats.start("only").ready("beat.leads")
    beats.more(1)
    beats.redis.flushall()
    only.ready("beat.lock_lost")
    assert are_ticks_of_tidy(beats.more(2), beats)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with embedded_valkey(tmp_path / "broker") as server:
        yield server


@pytest.mark.requirement("OPS-04")
def test_while_the_broker_is_away_the_lock_is_kept_and_no_tick_is_claimed(beats: Beats, broker: EmbeddedValkey) -> None:
    with closing(Redis.from_url(broker.url, decode_responses=True)) as client:
        beats.broker = client
        only = beats.start("only", FW_BROKER_URL=broker.url).ready("beat.sent")
        kill(broker)
        only.ready("beat.broker_away")
        held, claimed = beats.redis.get(keys.BEAT_LOCK), beats.redis.hget(f"{keys.BEAT}tidy", "meta")
        eventually(lambda: only.log().count("beat.broker_away") >= 3, within=30)
        assert beats.redis.get(keys.BEAT_LOCK) == held
        assert beats.redis.hget(f"{keys.BEAT}tidy", "meta") == claimed
        broker.restart()
        assert are_ticks_of_tidy(beats.more(2), beats)
    assert "beat.tick_lost" not in only.log()
    assert "beat.lock_lost" not in only.log()
    assert beats.redis.keys("_kombu*") == []


@pytest.mark.requirement("OPS-04")
def test_entries_that_left_the_file_leave_redis_and_changed_ones_change(beats: Beats) -> None:
    gone = beats.file.read_text().replace("tidy", "gone")
    beats.file.write_text(beats.file.read_text() + gone)
    assert beats.start("before").ready("beat.sent").stop() == 0
    assert beats.redis.exists(f"{keys.BEAT}gone") == 1
    beats.file.write_text(beats.file.read_text().removesuffix(gone).replace("shop.tidy", "shop.sweep"))
    after = beats.start("after").ready("beat.sent")
    assert beats.redis.exists(f"{keys.BEAT}gone") == 0
    assert "gone" not in str(beats.redis.zrange(f"{keys.BEAT}:schedule", 0, -1))
    beats.more(1)
    assert beats.messages()[-1]["headers"]["task"] == "shop.sweep"
    assert after.stop() == 0


@pytest.mark.requirement("OPS-04")
def test_beat_speaks_tls_to_a_redis_whose_certificate_it_checks(beats: Beats, tmp_path: Path) -> None:
    with tls_before(beats.url, tmp_path) as (url, authority):
        query = f"?ssl_cert_reqs=required&ssl_ca_certs={authority}"
        only = beats.start("only", FW_REDIS_URL=url + query).ready("beat.leads")
        assert are_ticks_of_tidy(beats.more(2), beats)
        assert only.stop() == 0
        doubting = beats.start("doubting", FW_REDIS_URL=f"{url}?ssl_cert_reqs=required").ready("beat.redis_away")
        assert doubting.stop() == 0


RABBITMQ = os.environ.get("FW_TEST_RABBITMQ_URL")


@pytest.mark.requirement("OPS-04")
@pytest.mark.skipif(not RABBITMQ, reason="FW_TEST_RABBITMQ_URL is not set")
def test_with_rabbitmq_for_a_broker_beat_keeps_its_own_in_redis(beats: Beats) -> None:
    queue = f"fw-test-beat-{uuid.uuid4().hex}"
    beats.file.write_text(beats.file.read_text().replace('"shop"', f'"{queue}"'))
    only = beats.start("only", FW_BROKER_URL=str(RABBITMQ)).ready("beat.sent")
    with Connection(str(RABBITMQ)) as connection:
        with closing(connection.SimpleQueue(queue)) as waiting:
            messages = [waiting.get(timeout=20) for _ in range(3)]
            for message in messages:
                message.ack()
        # Beat closes the connection of a tick after its message has come: it is stopped between two ticks.
        sent = only.log().count("beat.sent")
        eventually(lambda: only.log().count("beat.sent") > sent)
        assert only.stop() == 0
        connection.default_channel.queue_delete(queue)
    assert are_ticks_of_tidy([message.headers["id"] for message in messages], beats)
    assert beats.redis.hlen(f"{keys.BEAT}tidy") == 2
    assert beats.redis.keys("_kombu*") == []
