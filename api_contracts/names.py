"""Names of Celery tasks and queues. Other services and other languages rely on them: they never change."""

from typing import Final, Literal, get_args

Kind = Literal["chat", "stt", "stt_file", "batch", "cite"]
Lane = Literal["interactive", "background"]

CHAT: Final = "fireworks.chat.complete"
STT_SESSION: Final = "fireworks.stt.session"
STT_FILE: Final = "fireworks.stt.file"
BATCH: Final = "fireworks.batch.submit"
CITE: Final = "fireworks.cite.answer"
SIGNAL: Final = "fireworks.runs.signal"
BATCH_POLL: Final = "fireworks.batch.poll"
WAKE: Final = "fireworks.runs.wake"
SWEEP: Final = "fireworks.runs.sweep"
PURGE: Final = "fireworks.runs.purge"
DELIVER: Final = "fireworks.tools.deliver"

HIDDEN: Final = "(in the journal)"
"""What Celery's events, `inspect`, Flower and the logs show in the place of arguments and results."""

CHAT_QUEUE: Final = "fireworks.chat"
STT_QUEUE: Final = "fireworks.stt"
BATCH_QUEUE: Final = "fireworks.batch"
CONTROL_QUEUE: Final = "fireworks.control"

TASK_OF: Final[dict[Kind, str]] = {
    "chat": CHAT, "stt": STT_SESSION, "stt_file": STT_FILE, "batch": BATCH, "cite": CITE,
}  # fmt: skip
_QUEUE_OF: Final[dict[Kind, str]] = {
    "chat": CHAT_QUEUE, "stt": STT_QUEUE, "stt_file": STT_QUEUE, "batch": BATCH_QUEUE, "cite": CHAT_QUEUE,
}  # fmt: skip


def queue_of(kind: Kind, lane: Lane = "interactive") -> str:
    """Return the queue of a kind of work; background work has queues, and processes, of its own."""
    queue = _QUEUE_OF[kind]
    return f"{queue}.bg" if lane == "background" else queue


QUEUES: Final = tuple(dict.fromkeys(queue_of(kind, lane) for kind in get_args(Kind) for lane in get_args(Lane)))
"""Every queue in which runs wait."""
