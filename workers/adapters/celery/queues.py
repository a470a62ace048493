"""`MessageQueues` on Celery: asks the broker how long a queue is, in the words that all its transports know."""

import asyncio

from celery import Celery
from kombu.exceptions import KombuError

from workers.ports import StoreUnavailable


class CeleryQueues:
    """Asks through `app`'s pool of connections. Asking blocks, so it leaves the loop."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    async def lying(self, queue: str) -> int:
        """See the port. In a queue that nobody has made nothing lies."""
        return await asyncio.to_thread(self._count, queue)

    def _count(self, queue: str) -> int:
        with self._app.pool.acquire(block=True) as connection:
            try:
                # A channel of its own: the broker closes it when there is no such queue.
                with connection.channel() as channel:
                    return int(channel.queue_declare(queue, passive=True).message_count)
            except (*connection.connection_errors, KombuError, OSError) as exc:
                raise StoreUnavailable(f"the broker: {type(exc).__name__}") from exc
            except connection.channel_errors:
                return 0
