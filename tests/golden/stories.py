"""The stories whose journals are kept: every kind of work, every ending, and a cut in each place that matters."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from api_contracts.client.scripts import REQUEST_BLOB
from api_contracts.names import Kind
from tests.golden.files import Golden
from tests.golden.outside import ELSEWHERE, HERE, SOURCES, remote
from tests.golden.stage import RUN_ID, Stage
from tests.unit.core.stt.recogniser import speech
from workers.adapters.memory.clock import ManualClock

Deed = Literal["kill", "hand over", "cancel", "disconnect"]
PIECE: Final = 3_200
"""Bytes of a tenth of a second of speech."""


@dataclass(frozen=True, slots=True)
class Story:
    """What is asked, and what is done to the run once its present life wrote so many events of a type."""

    name: str
    kind: Kind
    request: Mapping[str, Any]
    deeds: tuple[tuple[Deed, str, int], ...] = ()
    words: int = 0


def _chat(name: str, text: str, *deeds: tuple[Deed, str, int], **fields: Any) -> Story:
    here = [tool for tool in HERE if tool in text]
    other = [remote(tool) for tool in ELSEWHERE if tool in text]
    request = {"model": "m", "messages": [{"role": "user", "content": text}], "tools": [*here, *other]}
    return Story(name, "chat", request | fields, deeds)


def _cite(name: str, question: str, *deeds: tuple[Deed, str, int]) -> Story:
    return Story(
        name, "cite", {"model": "m", "question": question, "sources": SOURCES, "max_sentences": 4}, deeds
    )  # fmt: skip


def _batch(name: str, *deeds: tuple[Deed, str, int]) -> Story:
    rows = [{"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": f"{n}?"}]}} for n in range(4)]
    return Story(name, "batch", {"model": "m", "rows": rows, "shard_rows": 3}, deeds)


_ALL: Final = "use look bill, then fire ship, then charge note"

STORIES: Final = (
    _chat("chat-answered", "hello", labels={"team": "golden"}, tenant="acme", lane="background"),
    _chat("chat-spilled", "hello " + "word " * 14_000),
    _chat("chat-stumbled", "stumble"),
    _chat("chat-failed", "fail"),
    _chat("chat-tools", _ALL),
    _chat("chat-tools-killed", _ALL, ("kill", "tool.call_started", 1), ("kill", "tool.call_reserved", 1)),
    _chat("chat-killed-in-a-delta", "hello", ("kill", "chat.delta", 2)),
    _chat("chat-handed-over", _ALL, ("hand over", "tool.call_result", 1), ("hand over", "chat.message", 1)),
    _chat("chat-cancelled", _ALL, ("cancel", "tool.call_started", 2)),
    Story("stt-reconnected", "stt", {}, (("disconnect", "stt.final", 1),), words=5),
    Story("stt-killed", "stt", {}, (("kill", "stt.final", 1), ("hand over", "stt.final", 1)), words=5),
    Story("stt-cancelled", "stt", {}, (("cancel", "stt.final", 1),), words=4),
    _batch("batch-parked"),
    _batch("batch-killed", ("kill", "batch.submitted", 1)),
    _batch("batch-cancelled", ("cancel", "batch.submitted", 1)),
    _cite("cite-answered", "When was it built?"),
    _cite("cite-repaired", "When was it built? Answer badly."),
    _cite("cite-killed", "When was it built? Answer badly.", ("kill", "cite.generated", 1), ("kill", "chat.delta", 3)),
    _cite("cite-failed", "fail"),
)


async def played(story: Story) -> Golden:
    """Let a story happen; return its journal."""
    golden = Golden(story.name, story.kind)
    stage = Stage(clock=ManualClock(), kind=story.kind)
    _watch(stage, golden)
    await stage.ask(story.request)
    pcm = speech([(4_000, 12_000)] * story.words)
    stage.to_say = [pcm[start : start + PIECE] for start in range(0, len(pcm), PIECE)]
    for deed, event, times in story.deeds:
        await _do(stage, deed, event, times)
    await stage.finish()
    golden.journal = await stage.journal(RUN_ID)
    golden.audio = list(stage.audio._streams[RUN_ID].entries)
    golden.blobs = {number: text for (_, number), text in stage.store._blobs.items()}
    assert (REQUEST_BLOB in golden.blobs) == (len(json.dumps(story.request)) > 65_536)
    return golden


async def _do(stage: Stage, deed: Deed, event: str, times: int) -> None:
    """Let the run live up to the event, and do it. A run that is to be done something to while it lives goes on."""
    worker, serving = await stage.life(event, times)
    assert not serving.done(), f"the life ended before {event}"
    if deed == "kill":
        await worker.die()
        await stage.rung()
        return
    if deed == "disconnect":
        stage.speech.lines[-1].drop(1011)
    elif deed == "cancel":
        await stage.store.signal(RUN_ID, "cancel", {"reason": "enough"}, "cancel-1")
    else:
        worker.reception.drain(stage.clock.now() + 0.5)
    await stage.go_on(worker, serving)


def _watch(stage: Stage, golden: Golden) -> None:
    """Note what comes into the inbox, and what stands around the journal, with the number of events at that time."""
    store = stage.store
    append, signal = store.append, store.signal

    async def noted_append(*args: Any, **kwargs: Any) -> int:
        if stage.kind == "batch":
            around = stage.around(args[2])
            if not golden.around or golden.around[-1].what != around.what:
                golden.around.append(around)
        return await append(*args, **kwargs)

    async def noted_signal(*args: Any, **kwargs: Any) -> Any:
        said = await signal(*args, **kwargs)
        letters = store._boxes[RUN_ID].letters
        if len(letters) > len(golden.letters):
            golden.letters.append((len(store._runs[RUN_ID].events), letters[-1]))
        return said

    _put(store, "append", noted_append)
    _put(store, "signal", noted_signal)


def _put(store: object, name: str, act: Callable[..., Awaitable[Any]]) -> None:
    setattr(store, name, act)
