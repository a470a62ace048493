"""One channel of ours against a server that dies under it, without a worker around it."""

import os
import signal
from collections.abc import Iterator

import kombu
import pytest
import redis

from api_contracts import keys
from tests.waiting import eventually
from workers import transport
from workers.cli.embedded import EmbeddedValkey


@pytest.fixture
def connection(own_valkey: EmbeddedValkey) -> Iterator[kombu.Connection]:
    transport.install()
    with kombu.Connection(own_valkey.url) as made:
        yield made


def fetched(connection: kombu.Connection) -> list[kombu.Message]:
    """Two messages, unacknowledged, and the next BRPOP under way."""
    messages: list[kombu.Message] = []
    queue = kombu.Queue("q", channel=connection.default_channel)
    consumer = kombu.Consumer(connection.default_channel, [queue], on_message=messages.append)
    consumer.consume()
    for number in range(2):
        connection.Producer().publish({"n": number}, routing_key="q")
    while len(messages) < 2:
        connection.drain_events(timeout=5)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)
    return messages


def kill(server: EmbeddedValkey) -> None:
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.running)


def test_the_alias_means_our_transport(connection: kombu.Connection) -> None:
    assert isinstance(connection.transport, transport.Transport)
    assert connection.transport.driver_type == "redis"
    failover = kombu.Connection("redis://127.0.0.1:1;redis://127.0.0.1:2")
    assert isinstance(failover.transport, transport.Transport)
    assert not isinstance(kombu.Connection("amqp://").transport, transport.Transport)


def test_closing_without_a_server_closes_every_channel_whole(
    connection: kombu.Connection, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    other = connection.channel()
    kombu.Consumer(other, [kombu.Queue("other", channel=other)], on_message=print).consume()
    fetched(connection)
    channels, carrier = [connection.default_channel, other], connection.transport
    assert all(channel._in_poll for channel in channels)
    kill(own_valkey)
    connection.collect()
    assert all(channel.closed and channel.connection is None for channel in channels)
    assert carrier.channels == []
    assert "2 messages not put back" in caplog.text
    connection.close()


def test_an_ack_after_the_close_reaches_a_server_that_is_back(
    connection: kombu.Connection, own_valkey: EmbeddedValkey
) -> None:
    messages = fetched(connection)
    kill(own_valkey)
    connection.collect()
    connection.close()
    own_valkey.restart()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.hlen(keys.UNACKED) == 2
        for message in messages:
            message.ack()
        assert client.hlen(keys.UNACKED) == 0
        assert client.zcard(f"{keys.UNACKED}:index") == 0


def test_acks_and_rejects_after_the_close_are_quiet_when_nobody_is_there(
    connection: kombu.Connection, own_valkey: EmbeddedValkey
) -> None:
    acked, rejected = fetched(connection)
    kill(own_valkey)
    connection.collect()
    connection.close()
    acked.ack()
    rejected.requeue()
    own_valkey.restart()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.hlen(keys.UNACKED) == 2


def test_closing_with_a_server_puts_the_messages_back(connection: kombu.Connection, own_valkey: EmbeddedValkey) -> None:
    fetched(connection)
    connection.close()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.llen("q") == 2
        assert client.hlen(keys.UNACKED) == 0


def test_a_message_rejected_for_good_is_a_dead_letter(connection: kombu.Connection, own_valkey: EmbeddedValkey) -> None:
    refused, _ = fetched(connection)
    refused.reject()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.llen("fw:dead-letters") == 1
        assert client.hlen(keys.UNACKED) == 1


def noted(server: EmbeddedValkey) -> int:
    """How many messages come again should this process die."""
    with redis.Redis.from_url(server.url) as client:
        return int(client.hlen(keys.UNACKED))


def test_a_message_is_noted_when_it_was_delivered(connection: kombu.Connection, own_valkey: EmbeddedValkey) -> None:
    messages = fetched(connection)
    assert noted(own_valkey) == 2
    messages[0].ack()
    assert noted(own_valkey) == 1


def test_a_note_whose_line_breaks_is_made_over_another(
    connection: kombu.Connection, own_valkey: EmbeddedValkey
) -> None:
    channel = connection.default_channel

    def hang_up(_: kombu.Message) -> None:
        channel.pool.disconnect()
        with redis.Redis.from_url(own_valkey.url) as client:
            client.delete(keys.UNACKED)  # as if what was sent had never come there

    consumer = kombu.Consumer(channel, [kombu.Queue("q", channel=channel)], on_message=hang_up)
    consumer.consume()
    connection.Producer().publish({}, routing_key="q")
    connection.drain_events(timeout=5)
    assert noted(own_valkey) == 1


def test_a_note_that_is_refused_leaves_the_message_with_its_task(
    connection: kombu.Connection, own_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.set(keys.UNACKED, "a stranger's")
    messages = fetched(connection)
    assert [message.payload["n"] for message in messages] == [0, 1]
    assert caplog.text.count("is not noted as unacknowledged") == 2
