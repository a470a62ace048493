"""The producer: submits steadily, speaks, cancels, and looks who has ended. It outlives every outage."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from api_contracts import keys
from api_contracts.failure import RunNotFound
from tests.faults.mix import GATED, Order
from tests.faults.world import World, redis_of

_TICK_S, _LOOK_S = 0.05, 0.3
_AUDIO_TTL_S = 3600
_KEPT_PIECES = round(2.5 / _TICK_S)
"""One is said in each tick."""


Piece = tuple[str, dict[str, bytes]]


class Voice:
    """Who speaks into one session.

    A Redis that is killed while its disk is slow forgets up to two seconds of what it had acknowledged
    (docs/decisions/0017). So the last pieces are kept, and said again after each trouble under the same ids: what is
    known is refused.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.coming = deque(pieces)
        self.said: deque[Piece] = deque(maxlen=_KEPT_PIECES)
        self.is_doubtful = False

    def speak(self, say: Callable[[Piece], None]) -> None:
        """Say the next piece, and before it what may have been forgotten."""
        if self.is_doubtful:
            for piece in self.said:
                say(piece)
            self.is_doubtful = False
        if self.coming:
            say(self.coming[0])
            self.said.append(self.coming.popleft())


class Driver(threading.Thread):
    """Submits `orders` at `rate` a second, at most `most` of them under way; `done` when each has ended."""

    def __init__(self, world: World, orders: Sequence[Order], rate: float, most: int) -> None:
        super().__init__(name="driver", daemon=True)
        self._world = world
        self._waiting = list(orders)
        self.size = len(orders)
        self._rate = rate
        self._most = most
        self._redis = redis_of(world.servers.journals.url, retry=Retry(NoBackoff(), 0))  # it hears of each trouble
        self._voices: dict[str, Voice] = {}
        self._over = threading.Event()
        self._error: Exception | None = None
        self.live: dict[str, Order] = {}
        self.ended: list[Order] = []
        self.troubles: Counter[str] = Counter()

    @property
    def all_submitted(self) -> bool:
        self._raise()
        return not self._waiting

    @property
    def done(self) -> bool:
        return self.all_submitted and not self.live

    @property
    def state(self) -> str:
        """Say how far it is."""
        return f"{len(self.ended)} ended, {len(self.live)} under way, {len(self._waiting)} to come"

    def stop(self) -> None:
        """Give up on whoever has not ended."""
        self._over.set()
        self.join()
        self._redis.close()
        self._raise()

    def run(self) -> None:
        began, submitted, looked = time.monotonic(), 0, 0.0
        try:
            while not self._over.wait(_TICK_S):
                now = time.monotonic()
                if self._waiting and len(self.live) < self._most and submitted < (now - began) * self._rate:
                    submitted += self._tried(self._submit)
                self._tried(self._speak)
                self._tried(self._cancel)
                if now - looked > _LOOK_S:
                    looked = now
                    self._tried(self._look)
        except Exception as exc:  # noqa: BLE001 - the main thread raises it
            self._error = exc

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _tried(self, act: Callable[[], Any]) -> int:
        """Return 1 if it was done, 0 if Redis was away: it is tried again at the next tick."""
        try:
            act()
        except (RedisError, OSError) as exc:
            self.troubles[type(exc).__name__] += 1
            for voice in self._voices.values():
                voice.is_doubtful = True
            return 0
        return 1

    def _submit(self) -> None:
        order = self._waiting[0]
        if order.kind in GATED:
            self._world.board.open_gate(order.run_id, times=5)
        order.submit(self._world.client)
        order.submitted_at = time.time()
        self.live[order.run_id] = order
        self._waiting.pop(0)
        if order.kind == "stt":
            stamp = int(order.submitted_at * 1000)
            # Ids of our own: said twice, the second is refused, so no word is doubled by a lost reply.
            self._voices[order.run_id] = Voice((f"{stamp}-{n}", each) for n, each in enumerate(order.pieces(), 1))

    def _speak(self) -> None:
        for run_id, voice in list(self._voices.items()):
            if run_id in self.live:
                voice.speak(partial(self._say, keys.audio(run_id)))
            else:
                del self._voices[run_id]

    def _say(self, key: str, piece: Piece) -> None:
        entry_id, fields = piece
        pipe = self._redis.pipeline()
        pipe.xadd(key, fields, id=entry_id)  # type: ignore[arg-type]
        pipe.expire(key, _AUDIO_TTL_S)
        try:
            pipe.execute()
        except ResponseError as exc:
            if "equal or smaller" not in str(exc):
                raise

    def _cancel(self) -> None:
        for order in list(self.live.values()):
            wanted = order.cancel_after_s
            if wanted is not None and not order.cancelled and time.time() - order.submitted_at > wanted:
                order.cancelled = True  # it may arrive though we hear an error
                try:
                    self._world.client.cancel(order.run_id, "enough")
                except RunNotFound:
                    order.cancel_after_s = None

    def _look(self) -> None:
        orders = list(self.live.values())
        pipe = self._redis.pipeline(transaction=False)
        for order in orders:
            pipe.hget(keys.lease(order.run_id), "announced")
            pipe.exists(keys.lease(order.run_id))
        said = iter(pipe.execute())
        for order, announced, known in zip(orders, said, said, strict=True):
            if announced == "1" or (not known and self._told_elsewhere(order)):
                del self.live[order.run_id]
                self.ended.append(order)

    def _told_elsewhere(self, order: Order) -> bool:
        """Whether SQL or Celery's result knows of the end of a run of which Redis was made to forget the journal."""
        try:
            self._world.client._stored(order.run_id)
        except RunNotFound:
            return self._world.meta(order.run_id)["status"] == "FAILURE"
        return True
