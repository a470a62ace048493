"""What the tools of the tests tell the tests, and what the tests tell them, through a Redis. Knows nothing of runs."""

import os

from redis import Redis

REDIS = "ACCEPTANCE_REDIS"
PATIENCE_S = 60


class Board:
    """Marks that were made, gates that are passed one by one. `key` is a test's own."""

    def __init__(self, url: str = "") -> None:
        # A gate is waited for longer than redis-py's five seconds for a reply.
        patient = {"decode_responses": True, "socket_timeout": PATIENCE_S + 5.0}
        self._redis = Redis.from_url(url or os.environ[REDIS], **patient)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def mark(self, key: str, text: str) -> None:
        """Note that something happened."""
        self._redis.rpush(f"mark:{key}", text)

    def marks(self, key: str) -> list[str]:
        """Return what happened so far."""
        return list(self._redis.lrange(f"mark:{key}", 0, -1))

    def pass_gate(self, key: str) -> None:
        """Wait until the test opens the gate."""
        self._redis.blpop([f"gate:{key}"], timeout=PATIENCE_S)

    def open_gate(self, key: str, times: int = 1) -> None:
        """Let so many pass."""
        self._redis.rpush(f"gate:{key}", *("open",) * times)
