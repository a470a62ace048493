"""What the tests of speech are made of: words at random, engines run over sound, a client's view of the segments."""

import json
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from workers.emulator.speech import DAMAGED, VOCABULARY
from workers.emulator.speech.conversation import Act, Conversation, Send
from workers.emulator.speech.engine import Engine, Heard
from workers.emulator.speech.tone_decoder import ToneEngine

FRAME = 3200  # bytes of 100 ms


def some_words(count: int, seed: int = 7) -> list[str]:
    """Words of `tones`, the same for the same seed."""
    random = Random(seed)
    return [random.choice(VOCABULARY) for _ in range(count)]


def frames(pcm: bytes, size: int = FRAME) -> list[bytes]:
    """The sound in pieces."""
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


def heard(pieces: Iterable[bytes], engine: Engine | None = None) -> list[Heard]:
    """Every word that an engine settles; `tones` unless another is given."""
    listening = engine or ToneEngine()
    words = [word for piece in pieces for word in listening.feed(piece).settled]
    return words + list(listening.finish().settled)


def texts(words: Sequence[Heard]) -> list[str]:
    """The words alone."""
    return [word.text for word in words]


def undamaged(words: Sequence[Heard]) -> list[str]:
    """The words alone, without the damaged ones."""
    return [word.text for word in words if word.text != DAMAGED]


class View:
    """What a client shows that keeps to WIRE 2.7: overwrite by id, forget ids above the last one."""

    def __init__(self) -> None:
        self.segments: dict[int, Any] = {}
        self.updates: list[Any] = []

    def take(self, message: Any) -> None:
        """One update."""
        self.updates.append(message)
        ids = [int(segment["id"]) for segment in message["segments"]]
        self.segments |= dict(zip(ids, message["segments"], strict=True))
        self.segments = {name: segment for name, segment in self.segments.items() if name <= max(ids)}

    @property
    def words(self) -> list[Any]:
        """All words, in order."""
        return [word for name in sorted(self.segments) for word in self.segments[name]["words"]]

    @property
    def text(self) -> str:
        """All text, in order."""
        return " ".join(self.segments[name]["text"] for name in sorted(self.segments))


def sent(acts: Sequence[Act]) -> list[Any]:
    """The messages among some acts."""
    return [json.loads(act.text) for act in acts if isinstance(act, Send)]


def say(conversation: Conversation, pcm: bytes, view: View | None = None) -> View:
    """Feed sound in frames; what comes back, as a client sees it."""
    view = view or View()
    for piece in frames(pcm):
        for message in sent(conversation.audio(piece)):
            view.take(message)
    return view
