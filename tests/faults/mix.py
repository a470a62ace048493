"""The runs that are under way when faults happen, and what each of them must come to."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from api_contracts import keys
from api_contracts.batch import BatchResult
from api_contracts.chat import ChatResult
from api_contracts.citations import CiteResult
from api_contracts.client import Client
from api_contracts.runs import Result
from api_contracts.stt import SttResult
from tests.acceptance.cluster import MODEL, remote, say
from tests.acceptance.scene import STORY
from tests.acceptance.test_citing import SOURCES
from workers.emulator.speech import VOCABULARY, encode, silence

KINDS = (
    "story", "tool", "stt", "batch", "once", "echo", "cite", "sent", "background", "tool",
    "story", "echo", "stt", "tool", "story", "echo", "cite", "tool", "story", "echo",
)  # fmt: skip
"""Of twenty runs. `tool`: a keyed call of another service; `sent`: one at most once; `once`: the same in the worker.
A batch is parked while the provider is at work. One in ten, of what lasts, is cancelled."""
GATED = ("tool", "sent", "once")
UNANSWERED, UNKNOWN = "told: The tool did not answer in time.", "told: It is not known whether the tool took effect"
ROWS = 20
PIECE = 6400
"""Bytes of audio that are spoken at once: a fifth of a second."""


@dataclass
class Order:
    """One run: what is asked, and how its producer treats it."""

    run_id: str
    kind: str
    words: list[str] = field(default_factory=list)
    cancel_after_s: float | None = None
    patience_s: float = 60.0
    spoken: int = 0
    submitted_at: float = 0.0
    cancelled: bool = False

    def submit(self, client: Client) -> None:
        """Submit it; the same again is the same run."""
        match self.kind:
            case "story":
                client.chat.submit(say("short"), run_id=self.run_id)
            case "echo":
                client.chat.submit(say(f"echo {self.run_id}"), run_id=self.run_id)
            case "background":
                client.chat.submit(say(f"echo {self.run_id}", lane="background"), run_id=self.run_id)
            case "tool" | "sent":
                effect = "keyed" if self.kind == "tool" else "at_most_once"
                tools = [remote("charge", effect=effect, timeout_s=self.patience_s)]
                client.chat.submit(say(f"use charge {self.run_id}", tools=tools), run_id=self.run_id)
            case "once":
                client.chat.submit(say(f"use wait_once {self.run_id}", tools=["wait_once"]), run_id=self.run_id)
            case "cite":
                client.cite.submit(model=MODEL, question="cite well", sources=SOURCES, run_id=self.run_id)
            case "stt":
                client.stt.open(run_id=self.run_id)
            case _:
                client.batch.submit(model=MODEL, rows=_rows(), run_id=self.run_id)

    def pieces(self) -> list[dict[str, bytes]]:
        """Return what is spoken, entry by entry."""
        pcm = encode(self.words) + silence(0.3)
        audio = [{"a": pcm[at : at + PIECE]} for at in range(0, len(pcm), PIECE)]
        return [*audio, {"c": b'{"type":"end"}'}]

    def wrong(self, result: Result, client: Client, marks: list[str]) -> str:
        """Say what is wrong with the result, or nothing."""
        if result.status == "cancelled":
            return "" if self.cancelled else "cancelled by nobody"
        if result.status != "completed":
            return f"failed: {result.failure.code}" if result.failure else "failed without a reason"
        return next(self._faults(result, client, marks), "")

    def is_open(self, result: Result) -> bool:
        """Whether all that the run can say of its call is that nobody answered, or that nobody knows."""
        said = _said_in(result)
        return self.kind in GATED and said.startswith((UNANSWERED, UNKNOWN))

    def _faults(self, result: Result, client: Client, marks: list[str]) -> Iterator[str]:
        match result:
            case ChatResult():
                yield from self._misheard(result, marks)
            case CiteResult():
                if not result.citations or {n for each in result.citations for n in each.numbers} - {1, 2}:
                    yield "cites what it has not"
            case SttResult():
                if [word.word for word in result.words] != self.words or result.coverage.gaps:
                    yield f"heard {result.text!r:.80} for {' '.join(self.words)!r:.80}"
            case BatchResult():
                answers = {
                    row.custom_id: row.response and _content(row.response) for row in client.batch.rows(result.run_id)
                }
                if answers != {f"echo-{n}": str(n) for n in range(1, ROWS + 1)}:
                    yield "rows are missing or wrong"
            case _:
                yield f"is no {self.kind}"

    def _misheard(self, result: ChatResult, marks: list[str]) -> Iterator[str]:
        said = _said_in(result)
        if said.startswith(UNKNOWN) and self.kind == "tool":
            yield "says that it does not know what it may ask again"
        if self.is_open(result):
            return
        if said != self._said():
            yield f"said {said!r:.80}"
        if self.kind in GATED and len(marks) != 1:
            yield f"told of an effect that was counted {len(marks)} times"

    def _said(self) -> str:
        charged, done = f"told: {self.run_id} was charged", f"told: {self.run_id} was done"
        return {"story": STORY, "tool": charged, "sent": charged, "once": done}.get(self.kind, self.run_id)


def mixed(count: int, chance: random.Random, patience_s: float) -> list[Order]:
    """Return so many orders, in an order of chance; the longest kinds are not the last. A tool of another service has
    `patience_s` to answer.
    """
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    chance.shuffle(kinds)
    made = (_order(kind, chance) for kind in sorted(kinds, key=lambda kind: kind == "echo" and chance.random() < 0.5))
    return [replace(order, patience_s=patience_s) for order in made]


def _order(kind: str, chance: random.Random) -> Order:
    run_id = f"{kind}-{chance.getrandbits(96):024x}{chance.choice(keys.SLOTS)}"
    made = Order(run_id, kind)
    if kind == "stt":
        made.words = chance.choices(VOCABULARY, k=8)
    if kind in ("story", "stt", "batch", *GATED) and chance.random() < 0.1:
        made.cancel_after_s = chance.uniform(0.1, 2.0)
    return made


def _rows() -> list[dict[str, Any]]:
    return [
        {"custom_id": f"echo-{n}", "body": {"messages": [{"role": "user", "content": f"echo {n}"}]}}
        for n in range(1, ROWS + 1)
    ]


def _said_in(result: Result) -> str:
    message = result.message if isinstance(result, ChatResult) else None
    return str(message.get("content")) if message else ""


def _content(response: Any) -> str:
    return str(response["choices"][0]["message"]["content"])
