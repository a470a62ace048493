"""What a server remembers between requests: counts, used-up rules, digests seen, prompt prefixes. Resettable."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

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

    def as_json(self) -> dict[str, Any]:
        """The counts as served."""
        counts = {name: value for name, value in vars(self).items() if name not in ("by_status", "speech")}
        by_status = {str(status): count for status, count in sorted(self.by_status.items())}
        return counts | {"by_status": by_status, "speech": self.speech.as_json()}


@dataclass
class EmulatorState:
    """The mutable part of a server; one per application, touched by its event loop only."""

    seed: int
    stats: Stats = field(default_factory=Stats)
    speech_uses: Uses = field(default_factory=Uses)
    closing: bool = False
    _serial: int = 0
    _uses: Counter[int] = field(default_factory=Counter)
    _seen: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    _prefixes: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)

    def reset(self) -> None:
        """Forget everything but requests in flight."""
        self.stats.speech.reset()
        self.stats = Stats(active=self.stats.active, speech=self.stats.speech)
        self.speech_uses.clear()
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
