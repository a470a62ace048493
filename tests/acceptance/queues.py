"""A look into the broker's queues, and a hand in them: the same words on Redis and on RabbitMQ."""

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import amqp
from redis import Redis

from api_contracts import keys
from tests.rabbitmq import ctl, name_of

JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


def by_hand(task_id: str, task: str, request: Any) -> tuple[dict[str, Any], bytes]:
    """Return headers and body of Celery's protocol 2 as a producer in another language writes them."""
    headers = {"lang": "js", "task": task, "id": task_id, "root_id": task_id, "parent_id": None, "group": None}
    return headers, json.dumps([[], {"request": request}, {}]).encode()


class Queues(Protocol):
    """What tests do to queues behind the service's back."""

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        ...

    def unacknowledged(self) -> int:
        """Return how many messages some consumer has and has not acknowledged."""
        ...

    def drop(self, queue: str) -> int:
        """Lose the messages of a queue; return how many there were."""
        ...

    def move(self, source: str, target: str) -> int:
        """Put the messages of one queue into another, as they are; return how many."""
        ...

    def put(self, queue: str, headers: dict[str, Any], body: bytes) -> None:
        """Put a message there that is written by hand."""
        ...

    def give_back(self, text: str) -> None:
        """Have the broker deliver the unacknowledged message with this text again; its consumer is dead."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class RedisQueues:
    """Lists, and kombu's hash of what is not acknowledged."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url, decode_responses=True)

    def waiting(self, queue: str) -> int:
        return int(str(self.redis.llen(queue)))

    def unacknowledged(self) -> int:
        return sum(int(str(self.redis.hlen(key))) for key in (keys.UNACKED, "unacked"))

    def drop(self, queue: str) -> int:
        count = self.waiting(queue)
        self.redis.delete(queue)
        return count

    def move(self, source: str, target: str) -> int:
        count = 0
        while message := self.redis.rpop(source):
            self.redis.lpush(target, str(message))
            count += 1
        return count

    def put(self, queue: str, headers: dict[str, Any], body: bytes) -> None:
        self.redis.lpush(queue, envelope(queue, headers, body))

    def give_back(self, text: str) -> None:
        """As kombu does it after the visibility timeout, for another service than ours."""
        entries = {tag: json.loads(entry) for tag, entry in self.redis.hgetall("unacked").items()}
        ((tag, (message, _, queue)),) = [
            (tag, entry) for tag, entry in entries.items() if text in base64.b64decode(entry[0]["body"]).decode()
        ]
        self.redis.hdel("unacked", tag)
        self.redis.zrem("unacked_index", tag)
        self.redis.lpush(queue, json.dumps(message))

    def close(self) -> None:
        self.redis.close()


def envelope(queue: str, headers: dict[str, Any], body: bytes) -> str:
    """Return what Celery's protocol 2 puts into a list of Redis."""
    properties = {
        "correlation_id": headers.get("id"),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "delivery_tag": uuid.uuid4().hex,
        "body_encoding": "base64",
    }
    told = {"content-type": JSON["content_type"], "content-encoding": JSON["content_encoding"]}
    return json.dumps({"body": base64.b64encode(body).decode(), "headers": headers, "properties": properties, **told})


class RabbitQueues:
    """AMQP with the plainest client, and the server's own words for what only it knows."""

    def __init__(self, url: str) -> None:
        self._url = url

    def waiting(self, queue: str) -> int:
        try:
            with self._channel() as channel:
                return int(channel.queue_declare(queue, passive=True).message_count)
        except amqp.NotFound:
            return 0

    def unacknowledged(self) -> int:
        counts = ctl("list_queues", "-p", name_of(self._url), "--no-table-headers", "messages_unacknowledged")
        return sum(int(count) for count in counts.split())

    def drop(self, queue: str) -> int:
        with self._channel() as channel:
            return int(channel.queue_purge(queue))

    def move(self, source: str, target: str) -> int:
        count = 0
        with self._channel() as channel:
            while message := channel.basic_get(source):
                properties = {**message.properties, "application_headers": message.headers}
                channel.basic_publish(amqp.Message(message.body, **properties), routing_key=target)
                channel.basic_ack(message.delivery_tag)
                count += 1
        return count

    def put(self, queue: str, headers: dict[str, Any], body: bytes) -> None:
        message = amqp.Message(
            body, application_headers=headers, correlation_id=str(headers.get("id")), delivery_mode=2, **JSON
        )
        with self._channel() as channel:
            channel.basic_publish(message, routing_key=queue)

    def give_back(self, text: str) -> None:
        """The server did, when the consumer's connection ended."""

    def close(self) -> None:
        """Each look has a connection of its own."""

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        parts = urlsplit(self._url)
        options = {"userid": parts.username, "password": parts.password, "virtual_host": name_of(self._url)}
        host = f"{parts.hostname}:{parts.port or 5672}"
        with closing(amqp.Connection(host, confirm_publish=True, **options)) as connection:
            connection.connect()
            yield connection.channel()


def queues_of(url: str) -> Queues:
    """Return the hand for a broker."""
    return RedisQueues(url) if url.startswith("redis") else RabbitQueues(url)
