"""Dead letters: what becomes of a message that is not taken, on any broker. The one place that tells of them.

Each is told as the event `message.refused` (reason, queue, bytes, task, id; never content) and kept in Redis, bounded,
under `keys.DEAD_LETTERS`.
"""

import json
import time
from dataclasses import dataclass
from typing import Final, Literal

import redis
import structlog
from celery.utils.dispatch import Signal

from api_contracts import keys

Reason = Literal[
    "malformed", "too_large", "too_deep", "compressed", "not_json", "unsigned", "bad_signature", "unknown_task",
    "rejected", "bad_arguments", "bad_run_id",
]  # fmt: skip
"""Why a message was refused: the label that it is counted by."""

MAX_LETTERS: Final = 10_000
"""The dead-letter list keeps the newest of them."""

MAX_ENTRY_BYTES: Final = 8_192
"""A dead letter carries this much of its entry: 80 MB for a full list."""

message_refused: Final = Signal(name="message_refused", providing_args={"reason"})
"""Sent for each refused message; `reason` is a `Reason`."""

_MAX_NAME: Final = 256

_log = structlog.get_logger(__name__)


class Refused(ValueError):
    """The message is not taken; the text says why, without its content."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Letter:
    """A refused message: where it lay, what it was (as a list of kombu's holds it), what its sender called it."""

    queue: str
    entry: bytes
    size: int
    """Bytes of the whole, of which `entry` may be the beginning."""
    task: str = ""
    task_id: str = ""


def bury(client: "redis.Redis", letter: Letter, refused: Refused) -> None:
    """Tell of a refused message and keep it, newest first. Raises redis's errors, but not for a full server."""
    tell(letter, refused)
    with client.pipeline(transaction=False) as pipe:
        pipe.lpush(keys.DEAD_LETTERS, written(letter, refused, int(time.time() * 1000)))
        pipe.ltrim(keys.DEAD_LETTERS, 0, MAX_LETTERS - 1)
        try:
            pipe.execute()
        except redis.ResponseError as exc:
            # A full server or a missing permission: the letter is lost, its reason is in the log.
            _log.error("message.letter_lost", error=str(exc))


def tell(letter: Letter, refused: Refused) -> None:
    """Tell that a message was refused. Every refusal passes here, once."""
    message_refused.send(sender=None, reason=refused.reason)
    _log.warning(
        "message.refused", reason=refused.reason, detail=str(refused), queue=letter.queue, bytes=letter.size,
        task=letter.task[:_MAX_NAME], id=letter.task_id[:_MAX_NAME],
    )  # fmt: skip


def written(letter: Letter, refused: Refused, at_ms: int) -> str:
    """Return the dead letter as JSON: `queue`, `code`, `reason`, `at`, `bytes`, `entry` (cut at MAX_ENTRY_BYTES)."""
    return json.dumps(
        {
            "queue": letter.queue,
            "code": refused.reason,
            "reason": str(refused),
            "at": at_ms,
            "bytes": letter.size,
            "entry": letter.entry[:MAX_ENTRY_BYTES].decode("utf-8", errors="replace"),
        }
    )
