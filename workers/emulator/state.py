"""What a server remembers between requests: counts, used-up rules, digests seen, prompt prefixes. Resettable."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from workers.emulator.batch.clock import VirtualClock
from workers.emulator.batch.state import BatchStats
from workers.emulator.scenes import Rule
from workers.emulator.speech.state import SpeechStats, Uses

_MOST_REMEMBERED = 20_000


@dataclass
class Stats:
    """Counts since the start or the last reset.

    A chat request that gets past the keys ends in exactly one of `completed`, `refused` (an error body), `disconnected`
    (the client went away; generation stopped) and `aborted` (the server closed); until then it is `active`. A stream
    that a fault cut or broke is completed. `tokens_sent` counts what was streamed, or generated without a stream.
    `by_status` has every answer under the two prefixes.
    """

    requests: int = 0
    active: int = 0
    completed: int = 0
    refused: int = 0
    disconnected: int = 0
    aborted: int = 0
    tokens_sent: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    speech: SpeechStats = field(default_factory=SpeechStats)
    batch: BatchStats = field(default_factory=BatchStats)

    def as_json(self) -> dict[str, Any]:
        """The counts as served."""
        parts = ("by_status", "speech", "batch")
        counts = {name: value for name, value in vars(self).items() if name not in parts}
        by_status = {str(status): count for status, count in sorted(self.by_status.items())}
        return counts | {"by_status": by_status, "speech": self.speech.as_json(), "batch": self.batch.as_json()}


@dataclass
class EmulatorState:
    """The mutable part of a server; one per application, touched by its event loop only.

    `on_reset` are the parts that have something of their own to forget. A reset leaves the clock as it is.
    """

    seed: int
    stats: Stats = field(default_factory=Stats)
    speech_uses: Uses = field(default_factory=Uses)
    batch_uses: Uses = field(default_factory=Uses)
    clock: VirtualClock = field(default_factory=VirtualClock)
    on_reset: list[Callable[[], None]] = field(default_factory=list)
    closing: bool = False
    _serial: int = 0
    _uses: Counter[int] = field(default_factory=Counter)
    _seen: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    _prefixes: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)

    def reset(self) -> None:
        """Forget everything but requests in flight."""
        self.stats.speech.reset()
        self.stats.batch.reset()
        self.stats = Stats(active=self.stats.active, speech=self.stats.speech, batch=self.stats.batch)
        self.speech_uses.clear()
        self.batch_uses.clear()
        for forget in self.on_reset:
            forget()
        self._serial = 0
        for memory in (self._uses, self._seen, self._prefixes):
            memory.clear()

    def request_id(self) -> str:
        """The next request id: unique within the server, the same again after a restart."""
        self._serial += 1
        return derived(self.seed, "request", self._serial)

    def usable(self, position: int, rule: Rule) -> bool:
        """Whether a rule may be used once more."""
        return rule.times is None or self._uses[position] < rule.times

    def use(self, position: int) -> None:
        """Count a use of a rule."""
        self._uses[position] += 1

    def occurrence(self, digest: str) -> int:
        """How often this request was seen before; counts it."""
        before = self._seen.pop(digest, 0)
        _remember(self._seen, digest, before + 1)
        return before

    def cached_tokens(self, namespace: Hashable, prefixes: Sequence[tuple[str, int]]) -> int:
        """Tokens of the longest prefix of (digest, tokens) seen before in the namespace; remembers them all."""
        known = [tokens for digest, tokens in prefixes if (namespace, digest) in self._prefixes]
        for digest, tokens in prefixes:
            _remember(self._prefixes, (namespace, digest), tokens)
        return max(known, default=0)


def _remember(memory: OrderedDict[Hashable, int], key: Hashable, value: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)


def derived(seed: int, *parts: object) -> str:
    """32 hexadecimal digits that depend on the seed and the parts."""
    return sha256(repr((seed, *parts)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
