"""What a session asks of the world, and what the world tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.core.runs.frame import Effect, Plain


@dataclass(frozen=True, slots=True)
class ReadAudio(Effect):
    """Read the audio stream after this entry (`"0"`: from its start), and go on as it grows."""

    after_entry_id: str


@dataclass(frozen=True, slots=True)
class TrimAudio(Effect):
    """Entries with smaller ids are of no more use; the entry itself stays, and proves that nothing after it is lost."""

    before_entry_id: str


@dataclass(frozen=True, slots=True)
class HoldAudio(Effect):
    """Have clients refuse to send more audio (`full`), or let them again."""

    full: bool


@dataclass(frozen=True, slots=True)
class Connect(Effect):
    """Open a websocket with this query; `credential` names the key. Post `Connected` or `Disconnected`."""

    conn: int
    query: list[tuple[str, str]]
    credential: str | None


@dataclass(frozen=True, slots=True)
class SendAudio(Effect):
    """Send one binary message."""

    conn: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class SendText(Effect):
    """Send one text message, as JSON."""

    conn: int
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Disconnect(Effect):
    """Close the connection, or stop opening it; nothing it says counts any more."""

    conn: int


@dataclass(slots=True)  # not frozen: three times as cheap to make, twenty times a second and session
class AudioArrived(Plain):
    """Field `a` of an entry. Entries come in the stream's order; one that comes again is passed over."""

    entry_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ControlArrived:
    """Field `c` of an entry, read as JSON; an empty object for what is none."""

    entry_id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AudioMissing:
    """Between the entry before and the entry after, audio is gone (trimmed or lost).

    `samples` of the timeline passed from the one to the other, at best guess; the later entry's own audio, so many
    bytes, were the last of them. Where it is known how many entries are gone, `size` is their bytes, if they were like
    the others.
    """

    samples: int
    followed_by: int = 0
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """The websocket is open."""

    conn: int


@dataclass(slots=True)
class Said(Plain):
    """A message of the provider, read as a JSON object."""

    conn: int
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Garbled:
    """A message of the provider that is no JSON object."""

    conn: int
    why: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended, or came to nothing. `jitter` is a random number from 0 to 1.

    `code` is the websocket's close code, or the HTTP status that refused it; None for neither. `retryable` is the
    adapter's judgement of what it alone knows (a bad certificate, a malformed address).
    """

    conn: int
    code: int | None
    reason: str
    retryable: bool
    jitter: float
    retry_after_s: float | None = None
