"""At most once, on the tool's side: the mark that its effect was begun, kept where a redelivery finds it."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from celery import current_task
from redis import Redis

from api_contracts import keys

P = ParamSpec("P")
R = TypeVar("R")

_DAY_S = 86_400


class OutcomeUnknown(Exception):
    """An earlier delivery of this call began and did not end: its effect may or may not have happened."""


class Guard(Protocol):
    """Where marks are kept."""

    def begin(self, key: str) -> tuple[bool, str | None]:
        """Set the mark; return whether it is new, and the stored result if the effect had ended."""
        ...

    def end(self, key: str, result: str) -> None:
        """Store the result beside the mark."""
        ...


class RedisGuard:
    """Marks in Redis. As durable as that Redis: for money, keep mark and effect in one SQL transaction."""

    def __init__(self, url: str, keep_s: int = 7 * _DAY_S) -> None:
        self._redis = Redis.from_url(url, decode_responses=True)
        self._keep_s = keep_s

    def begin(self, key: str) -> tuple[bool, str | None]:
        """See `Guard`."""
        name = keys.guard(key)
        new = bool(self._redis.hsetnx(name, "begun", "1"))
        self._redis.expire(name, self._keep_s)
        stored = None if new else self._redis.hget(name, "result")
        return new, None if stored is None else str(stored)

    def end(self, key: str, result: str) -> None:
        """See `Guard`."""
        self._redis.hset(keys.guard(key), "result", result)


def at_most_once(guard: Guard) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a tool's task body (below `@app.task`): a second delivery returns the first one's result.

    The key is the task's id, which is the same for every repeat of one call. Raises OutcomeUnknown when the first
    delivery died in between, and RuntimeError outside of a Celery task.
    """

    def guarded(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def once(*args: P.args, **kwargs: P.kwargs) -> R:
            if not current_task or not current_task.request.id:
                raise RuntimeError("at_most_once needs a Celery task: its id is the key")
            key = str(current_task.request.id)
            new, stored = guard.begin(key)
            if not new:
                if stored is None:
                    raise OutcomeUnknown(key)
                result: Any = json.loads(stored)
                return result  # type: ignore[no-any-return]
            value = function(*args, **kwargs)
            guard.end(key, json.dumps(value))
            return value

        return once

    return guarded
