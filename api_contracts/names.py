"""Names of Celery tasks and queues. Other services and other languages rely on them: they never change."""

from typing import Final, Literal

Kind = Literal["chat"]
Lane = Literal["interactive", "background"]

CHAT: Final = "fireworks.chat.complete"
SIGNAL: Final = "fireworks.runs.signal"
SWEEP: Final = "fireworks.runs.sweep"
DELIVER: Final = "fireworks.tools.deliver"

CHAT_QUEUE: Final = "fireworks.chat"
CONTROL_QUEUE: Final = "fireworks.control"

TASK_OF: Final[dict[Kind, str]] = {"chat": CHAT}
_QUEUE_OF: Final[dict[Kind, str]] = {"chat": CHAT_QUEUE}


def queue_of(kind: Kind, lane: Lane = "interactive") -> str:
    """Return the queue of a kind of work; background work has queues, and processes, of its own."""
    queue = _QUEUE_OF[kind]
    return f"{queue}.bg" if lane == "background" else queue
