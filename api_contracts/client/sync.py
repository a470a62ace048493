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
from api_contracts.client.damage import named
from api_contracts.client.facets import Batch, Chat, Cite
from api_contracts.client.publisher import Publisher
from api_contracts.client.results import SqlResults, rows_of
from api_contracts.client.retrying import TELLING, Retried, is_over, retried, retry_of
from api_contracts.client.scripts import ScriptCall, signal_call
from api_contracts.client.settings import ClientSettings
from api_contracts.client.speaking import Stt
from api_contracts.client.submission import Cursor, ours_in, result_in, submission
from api_contracts.client.talking import Conversations
from api_contracts.failure import RunConflict, RunDamaged, RunNotFound
from api_contracts.names import Kind
from api_contracts.runs import Event, Request, Result, SignalType
from api_contracts.signals import checked_signal, verdict
from api_contracts.vocabulary import typed_result

_BLOCK_S = 1.0
_PAUSE_S = 0.5
_PAGE = 500
_LAST = 16
_TOLD_SOON_S = 0.1


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
        self.conversations = Conversations(self)
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

        To resume, pass the last seq that you have seen. A lost connection is resumed here. A run that was retried is
        followed past its old end; whoever stopped there goes on by following from that seq. Raises RunNotFound when
        no journal appears within `wait_s`, TimeoutError when the run has not ended after `timeout_s`.
        """
        cursor = Cursor(run_id, after)
        end = _end_of(timeout_s)
        appears = time.monotonic() + wait_s
        while not cursor.ended:
            events = cursor.take(self._read(cursor))
            yield from events
            if cursor.ended and not self._is_over(run_id, cursor.seq):
                cursor.ended = False
            if cursor.stuck:
                time.sleep(_PAUSE_S)
            if not events and time.monotonic() > appears and not self._redis.exists(cursor.key):
                raise RunNotFound(run_id)
            if not cursor.ended and time.monotonic() > end:
                raise TimeoutError(f"run {run_id} has not ended after {timeout_s} s")

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        """Return the journal after seq `after` as it stands; empty when there is none."""
        with named():
            entries = self._redis.xrange(keys.events(keys.check_run_id(run_id)), min=f"({after}-0")
        return ours_in(entries or ())

    def known(self, run_id: str) -> bool:
        """Return whether Redis has the run's journal."""
        return bool(self._redis.exists(keys.events(keys.check_run_id(run_id))))

    def result(self, run_id: str, *, timeout_s: float | None = None) -> Result:
        """Return the run's result; wait for its end up to `timeout_s` (None: as long as it takes).

        From SQL when the client knows it, else from Redis. A failed run's result has `failure`; nothing is raised.
        """
        with named():
            last = self._redis.xrevrange(keys.events(keys.check_run_id(run_id)), count=_LAST)
        if not last:
            return self._stored(run_id)
        event = next(iter(ours_in(last)), None)
        if event is None or not event.terminal or not self._is_over(run_id, event.seq):
            for later in self.follow(run_id, event.seq if event else 0, timeout_s=timeout_s):
                event = later
        if self._sql and (row := self._sql.get(run_id)):
            return typed_result(row)
        if event is None:
            raise RunNotFound(run_id)
        result, number = result_in(event)
        if result is None:
            text = self._redis.get(keys.blob(run_id, number or 0))
            if text is None:
                raise RunNotFound(run_id)
            result = typed_result(json.loads(text))
        return result

    def signal(self, run_id: str, kind: SignalType, data: Mapping[str, Any] | None = None, signal_id: str = "") -> bool:
        """Send a signal; return False when the run is over already. `signal_id` makes repeats harmless.

        Raises `SignalRefused` for data that do not fit the signal (`api_contracts.signals`), RunNotFound.
        """
        keys.check_run_id(run_id)
        checked_signal(kind, data := {} if data is None else data, signal_id)
        reply = self._script(signal_call(run_id, kind, data, signal_id, ttl_s=self.settings.live_ttl_s))
        if reply == "missing":
            raise RunNotFound(run_id)
        if reply == "woken":
            self._publisher.wake(run_id)
        return reply != "finished"

    def cancel(self, run_id: str, reason: str = "", *, by: str = "") -> bool:
        """Ask the run to end; return False when it is over already. The journal keeps who asked, and why."""
        return self.signal(run_id, "cancel", {"reason": reason} | ({"by": by} if by else {}))

    def interrupt(self, run_id: str, reason: str = "", *, by: str = "") -> bool:
        """Stop what a chat is saying, and each call whose tool says so; return False when the run is over already.

        With calls left the run goes on; without, it is completed by what was said, and its result is `interrupted`.
        """
        return self.signal(run_id, "interrupt", {"reason": reason} | ({"by": by} if by else {}))

    def approve(self, run_id: str, call_id: str, reason: str = "", *, by: str = "") -> bool:
        """Let a tool call be made that waits for it; return False when the run is over already.

        Whether the call did wait, the journal says: `tool.call_approved`, or `run.ignored`.
        """
        return self.signal(run_id, "approve", verdict(call_id, reason, by))

    def reject(self, run_id: str, call_id: str, reason: str = "", *, by: str = "") -> bool:
        """Have a tool call not be made that waits for approval; the model is told the reason. See `approve`."""
        return self.signal(run_id, "reject", verdict(call_id, reason, by))

    def retry(self, run_id: str, reason: str = "", *, by: str = "", wait_s: float = 5.0) -> Retried:
        """Retry a run from its last committed step: one that failed or was cancelled is reopened, one that waits goes
        on now, one that is at work is left alone.

        An outcome that is just being told is waited for up to `wait_s`. Raises `RetryRefused`, RunNotFound.
        """
        call = retry_of(run_id, by, reason, ttl_s=self.settings.live_ttl_s)
        end = time.monotonic() + wait_s
        while (reply := self._script(call)) == TELLING and time.monotonic() < end:
            time.sleep(_TOLD_SOON_S)
        remembered = reply == "missing" and self._sql is not None and self._sql.get(run_id) is not None
        said = retried(run_id, reply, remembered=remembered)
        if said != "running":
            self._publisher.wake(run_id)
        return said

    def _is_over(self, run_id: str, seq: int) -> bool:
        return is_over(self._redis.hmget(keys.lease(run_id), ["seq", "status"]), seq)

    def _submit(self, kind: Kind, request: Request, run_id: str | None, options: dict[str, Any]) -> str:
        made = submission(kind, request, run_id, self.settings)
        said = self._script(made.script)
        if said == "conflict":
            raise RunConflict(made.run_id)
        if said == "damaged":
            raise RunDamaged
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
                with named():
                    return self._redis.xread(cursor.position, count=_PAGE, block=int(_BLOCK_S * 1000))
            except (RedisConnectionError, RedisTimeoutError):
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)

    def _script(self, call: ScriptCall) -> str:
        reply: Any
        with named():
            try:
                script = self._redis.register_script(call.script)
                reply = self._redis.evalsha(script.sha, len(call.keys), *call.keys, *call.args)
            except NoScriptError:
                reply = self._redis.eval(call.script, len(call.keys), *call.keys, *call.args)
        return str(reply.decode())


def _end_of(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s
