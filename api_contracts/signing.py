"""Signatures of task messages: who has no key cannot ring for work, nor change a message under way.

The signed text can be built in any language, byte by byte: `v1`, the task's id, the task's name, one newline after
each, then the message's body as it is on the wire (before base64). The signature is its HMAC-SHA256 in lower-case hex,
in the message header `fw_signature`. A message that is sent again is the same run (RUN-01), so no time is in it.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

HEADER: Final = "fw_signature"

LEAST_CHARS: Final = 32
"""Of a key."""


def sign(task: str, task_id: str, body: bytes, key: str) -> str:
    """Return the signature of a message; raise ValueError for a name or an id with a line break, which would be two."""
    return hmac.new(key.encode(), _text(task, task_id, body), hashlib.sha256).hexdigest()


def is_signed(task: str, task_id: str, body: bytes, signature: object, keys: Sequence[str]) -> bool:
    """Whether one of the keys made this signature. Every key is tried, in constant time each."""
    if not isinstance(signature, str) or not signature.isascii() or _has_break(task, task_id):
        return False
    return sum(hmac.compare_digest(sign(task, task_id, body, key), signature) for key in keys) > 0


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The secrets of `FW_SIGNING_KEYS`: the first signs, each is accepted. None: nothing is signed or asked for.

    Its text says nothing of them, so it may lie in Celery's configuration, which `inspect conf` shows.
    """

    keys: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, text: str) -> "SigningKeys":
        """Return the keys of a list with commas; raise ValueError for one that could be guessed."""
        keys = tuple(key for each in text.split(",") if (key := each.strip()))
        short = [f"key {n} has {len(key)}" for n, key in enumerate(keys, 1) if len(key) < LEAST_CHARS]
        if short:
            raise ValueError(
                f"{', '.join(short)} characters: give each {LEAST_CHARS} or more (`openssl rand -hex 32` makes one)"
            )
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def sign(self, task: str, task_id: str, body: bytes) -> str:
        """Return the signature with the first key."""
        return sign(task, task_id, body, self.keys[0])

    def accept(self, task: str, task_id: str, body: bytes, signature: object) -> bool:
        """Whether one of them signed this message."""
        return is_signed(task, task_id, body, signature, self.keys)


NO_KEYS: Final = SigningKeys()


def _text(task: str, task_id: str, body: bytes) -> bytes:
    if _has_break(task, task_id):
        raise ValueError("a signed task's name and id have no line breaks")
    return f"v1\n{task_id}\n{task}\n".encode() + body


def _has_break(task: str, task_id: str) -> bool:
    return "\n" in task or "\n" in task_id
