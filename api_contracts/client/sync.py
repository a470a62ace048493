"""The client for ordinary Python: submit, follow, result, signal."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts import keys
from api_contracts.client.facets import Batch, Chat, Cite
from api_contracts.client.publisher import Publisher
from api_contracts.client.results import SqlResults, rows_of
from api_contracts.client.scripts import ScriptCall, signal_call
from api_contracts.client.settings import ClientSettings
from api_contracts.client.speaking import Stt
from api_contracts.client.submission import Cursor, result_in, submission
from api_contracts.failure import RunConflict, RunNotFound
from api_contracts.names import Kind
from api_contracts.runs import Event, Request, Result, SignalType
from api_contracts.vocabulary import typed_result

_BLOCK_S = 1.0
_PAUSE_S = 0.5
_PAGE = 500


class Client:
    """A producer's view of the service. One per process is enough; it is safe to share between threads."""

    def __init__(self, settings: ClientSettings | None = None, **given: Any) -> None:
        self.settings = settings or ClientSettings(**given)
        self._redis = Redis.from_url(self.settings.redis_url, socket_timeout=_BLOCK_S + 5, socket_connect_timeout=5)
        self._publisher = Publisher(self.settings.broker, self.settings.signing)
        self._sql = SqlResults(self.settings.database_url) if self.settings.database_url else None
        self.chat = Chat(self)
        self.stt = Stt(self)
        self.batch = Batch(self)
        self.cite = Cite(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._publisher.close()
        self._redis.close()
        if self._sql:
            self._sql.close()

    def follow(
        self, run_id: str, after: int = 0, *, timeout_s: float | None = None, wait_s: float = 5.0
    ) -> Iterator[Event]:
        """Yield the run's events after seq `after`, each once and in order, live, until the run ends.

        To resume, pass the last seq that you have seen. A lost connection is resumed here. Raises RunNotFound when
        no journal appears within `wait_s`, TimeoutError when the run has not ended after `timeout_s`.
        """
        cursor = Cursor(run_id, after)
        end = _end_of(timeout_s)
        appears = time.monotonic() + wait_s
        while not cursor.ended:
            events = cursor.take(self._read(cursor))
            yield from events
            if not events and time.monotonic() > appears and not self._redis.exists(cursor.key):
                raise RunNotFound(run_id)
            if not cursor.ended and time.monotonic() > end:
                raise TimeoutError(f"run {run_id} has not ended after {timeout_s} s")

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        """Return the journal after seq `after` as it stands; empty when there is none."""
        entries = self._redis.xrange(keys.events(keys.check_run_id(run_id)), min=f"({after}-0")
        return [Event.from_fields(fields or {}) for _, fields in entries or ()]

    def known(self, run_id: str) -> bool:
        """Return whether Redis has the run's journal."""
        return bool(self._redis.exists(keys.events(keys.check_run_id(run_id))))

    def result(self, run_id: str, *, timeout_s: float | None = None) -> Result:
        """Return the run's result; wait for its end up to `timeout_s` (None: as long as it takes).

        From SQL when the client knows it, else from Redis. A failed run's result has `failure`; nothing is raised.
        """
        last = self._redis.xrevrange(keys.events(keys.check_run_id(run_id)), count=1)
        if not last:
            return self._stored(run_id)
        event = Event.from_fields(last[0][1] or {})
        if not event.terminal:
            for later in self.follow(run_id, event.seq, timeout_s=timeout_s):
                event = later
        if self._sql and (row := self._sql.get(run_id)):
            return typed_result(row)
        result, number = result_in(event)
        if result is None:
            text = self._redis.get(keys.blob(run_id, number or 0))
            if text is None:
                raise RunNotFound(run_id)
            result = typed_result(json.loads(text))
        return result

    def signal(self, run_id: str, kind: SignalType, data: Mapping[str, Any] | None = None, signal_id: str = "") -> bool:
        """Send a signal; return False when the run is over already. `signal_id` makes repeats harmless."""
        keys.check_run_id(run_id)
        reply = self._script(signal_call(run_id, kind, data or {}, signal_id, ttl_s=self.settings.live_ttl_s))
        if reply == "missing":
            raise RunNotFound(run_id)
        if reply == "woken":
            self._publisher.wake(run_id)
        return reply != "finished"

    def cancel(self, run_id: str, reason: str = "") -> bool:
        """Ask the run to end; return False when it is over already."""
        return self.signal(run_id, "cancel", {"reason": reason})

    def _submit(self, kind: Kind, request: Request, run_id: str | None, options: dict[str, Any]) -> str:
        made = submission(kind, request, run_id, self.settings)
        if self._script(made.script) == "conflict":
            raise RunConflict(made.run_id)
        self._publisher.publish(made, options)
        return made.run_id

    def _rows(self) -> SqlResults:
        return rows_of(self._sql)

    def _stored(self, run_id: str) -> Result:
        row = self._sql.get(run_id) if self._sql else None
        if row is None:
            raise RunNotFound(run_id)
        return typed_result(row)

    def _read(self, cursor: Cursor) -> Any:
        end = time.monotonic() + self.settings.outage_s
        while True:
            try:
                return self._redis.xread(cursor.position, count=_PAGE, block=int(_BLOCK_S * 1000))
            except (RedisConnectionError, RedisTimeoutError):
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)

    def _script(self, call: ScriptCall) -> str:
        reply: Any
        try:
            script = self._redis.register_script(call.script)
            reply = self._redis.evalsha(script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            reply = self._redis.eval(call.script, len(call.keys), *call.keys, *call.args)
        return str(reply.decode())


def _end_of(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s
