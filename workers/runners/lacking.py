"""How many messages a queue lacks: of the runs that wait in it, those that no message can ring for any more.

A run that waits long need not be lost: perhaps the queue is long. Sent again all the same, a backlog would double, and
double again, until nobody could work it off. Only the broker can tell the two apart, and only by the number: as long as
no fewer messages lie in the queue than runs wait in it, none is known to be lost.

A duplicate that lies there hides a lost message until a worker has taken the duplicate; a run that was just recorded,
or just fetched, makes one look lost. Both are few, and neither adds up: what was sent in vain is counted the next time.
"""

from collections.abc import Collection, Mapping

from workers.ports import MessageQueues, Queues


class Lacking:
    """Asks the broker first and the journals then: what is submitted meanwhile is rung for early, never forgotten."""

    def __init__(self, runs: Queues, messages: MessageQueues) -> None:
        self._runs = runs
        self._messages = messages

    async def __call__(self, queues: Collection[str]) -> Mapping[str, int]:
        """Return the number for each of these queues, 0 or more. Raise `StoreUnavailable`."""
        lying = {queue: await self._messages.lying(queue) for queue in queues}
        waiting = await self._runs.waiting()
        return {queue: max(0, waiting[queue].runs - lying[queue]) for queue in queues}
