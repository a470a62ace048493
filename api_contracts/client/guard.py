"""At most once, on the tool's side: the mark that its effect was begun, kept where a redelivery finds it."""

import json
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from celery import current_task
from redis import Redis

from api_contracts import keys

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

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
        with self._redis.pipeline() as pipe:  # one transaction: a mark without an end would stay for ever
            pipe.hsetnx(name, "begun", "1")
            pipe.expire(name, self._keep_s)
            pipe.hget(name, "result")
            new, _, stored = pipe.execute()
        return bool(new), None if stored is None else str(stored)

    def end(self, key: str, result: str) -> None:
        """See `Guard`."""
        name = keys.guard(key)
        with self._redis.pipeline() as pipe:
            pipe.hset(name, "result", result)
            pipe.expire(name, self._keep_s)
            pipe.execute()


class SqlGuard:
    """Marks in the tool's own database, of which `sessions` makes sessions (a SQLAlchemy `sessionmaker`).

    The guarded function gets the session as its first argument, does its effect in it, and does not commit: mark,
    effect and result are one transaction, so a call that died left nothing behind, and the next delivery makes it.
    """

    def __init__(self, sessions: "sessionmaker[Session]") -> None:
        from sqlalchemy import Column, Float, MetaData, String, Table, Text

        self._sessions = sessions
        self.table = Table(
            "fw_tool_calls",
            MetaData(),
            Column("key", String(64), primary_key=True),
            Column("begun_at", Float, nullable=False, index=True),
            Column("result", Text),
        )

    def create(self, engine: "Engine") -> None:
        """Create the table `fw_tool_calls` where it is not there yet."""
        self.table.create(engine, checkfirst=True)

    def purge(self, older_than_s: float) -> int:
        """Take out marks of this age, in seconds: no broker delivers so late. Return how many."""
        with self._sessions.begin() as session:
            gone = session.execute(self.table.delete().where(self.table.c.begun_at < time.time() - older_than_s))
            return int(gone.rowcount)  # type: ignore[attr-defined]

    def once(self, key: str, act: "Callable[[Session], str]") -> str:
        """Act in a transaction with the mark of `key`; where that is set already, return the result beside it."""
        from sqlalchemy.exc import IntegrityError

        with self._sessions() as session:
            try:
                session.execute(self.table.insert().values(key=key, begun_at=time.time()))
            except IntegrityError:  # set by a delivery that is over: one that is at it is waited for, or locks us out
                session.rollback()
                return str(session.execute(self.table.select().where(self.table.c.key == key)).one().result)
            result = act(session)
            session.execute(self.table.update().where(self.table.c.key == key).values(result=result))
            session.commit()
            return result


@overload
def at_most_once(guard: SqlGuard) -> "Callable[[Callable[Concatenate[Session, P], R]], Callable[P, R]]": ...
@overload
def at_most_once(guard: Guard) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def at_most_once(guard: Guard | SqlGuard) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorate a tool's task body (below `@app.task`): a second delivery returns the first one's result.

    The key is the task's id, which is the same for every repeat of one call. Raises OutcomeUnknown when the first
    delivery died in between (never with a `SqlGuard`), and RuntimeError outside of a Celery task.
    """

    def guarded(function: Callable[..., R]) -> Callable[..., R]:
        @wraps(function)
        def once(*args: Any, **kwargs: Any) -> R:
            if not current_task or not current_task.request.id:
                raise RuntimeError("at_most_once needs a Celery task: its id is the key")
            key = str(current_task.request.id)
            if isinstance(guard, SqlGuard):
                told: R = json.loads(guard.once(key, lambda session: json.dumps(function(session, *args, **kwargs))))
                return told
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
