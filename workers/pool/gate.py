"""Keeps a RabbitMQ worker from taking more messages than it can start now.

Celery's `worker_disable_prefetch` does that for Redis only. Everything here runs in the hub's thread.
"""

from typing import Any, Final

from celery import bootsteps
from celery.worker import state

WINDOW: Final = 1


class Gate:
    """Cancels the task consumer at capacity and consumes again below it.

    Capacity is what Celery's own check for Redis compares: reserved requests against the pool's size. A message that
    was under way all the same is handed back by the pool.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._open = True

    def balance(self) -> None:
        """Open or close as the load asks; a broker error goes on to the hub, which reconnects."""
        room = len(state.reserved_requests) < self._consumer.pool.num_processes
        if room and not self._open:
            self._open = True
            self._consumer.task_consumer.consume()
        elif not room and self._open:
            self._open = False
            self._consumer.task_consumer.cancel()


class GateStep(bootsteps.StartStopStep):
    """Gives the pool a gate for as long as a connection to RabbitMQ is up and `worker_disable_prefetch` is set."""

    requires: Any = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Make the gate, unless Celery does the work itself."""
        driver = consumer.connection.transport.driver_type
        if not consumer.app.conf.worker_disable_prefetch or driver == "redis":
            return
        consumer.pool.gate = Gate(consumer)
        # One message under way at a time. A window as wide as the pool would bring as many at each opening, all but
        # one of which had to be handed back; a message counts until it is accepted, which takes milliseconds.
        consumer.qos.value = WINDOW
        consumer.qos.set(WINDOW)

    def stop(self, consumer: Any) -> None:
        """Take the gate away: nothing must consume again on this connection."""
        consumer.pool.gate = None
